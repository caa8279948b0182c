"""Made from `_async` by `scripts/generate_sync.py`, except for `bridge.py`: edit there, not here."""
