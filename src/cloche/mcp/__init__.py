"""`cloche mcp`: sandboxes as tools for a model, over the Model Context Protocol on standard input and output.

A client of the SDK like any other. `server.py` is the way in; nothing here is imported by another command."""
