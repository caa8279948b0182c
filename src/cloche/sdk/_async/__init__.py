"""The source of both halves of the SDK; `scripts/generate_sync.py` turns it into `_sync`."""
