"""The tools, a file for each kind of work; `table.py` lists them."""
