"""The client of the node: values and pure parts here, the two halves in `_async` (written) and `_sync` (generated)."""
