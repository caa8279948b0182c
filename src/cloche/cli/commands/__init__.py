"""One file per command; nothing of a command is imported before it is called."""

import sys

if "msgspec" not in sys.modules and "typing_extensions" not in sys.modules:
    # msgspec asks it for one name that `typing` has too, and importing it costs as much as importing msgspec
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec as msgspec
    finally:
        del sys.modules["typing_extensions"]
