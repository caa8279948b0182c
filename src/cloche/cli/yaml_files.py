"""Files in YAML (or JSON, which is YAML too) that people name on the command line."""

from __future__ import annotations

from typing import Any

from cloche.model.errors import InvalidError, NotFoundError


def read(path: str, kind: str, *, max_bytes: int, field: str) -> Any:
    """What it says; None for an empty one. `kind`: what errors call it ("policy file"). Raises NotFoundError, and
    InvalidError naming `field` for one that is too large or no YAML."""
    import yaml

    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
        # a file that is cut off may well be valid, and mean something else
        if len(content) > max_bytes:
            raise InvalidError(f"{kind} {path} is larger than {max_bytes} bytes", field=field)
        return yaml.safe_load(content)
    except OSError as error:
        raise NotFoundError(f"cannot read {kind} {path}: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidError(f"{kind} {path} is no YAML: {' '.join(str(error).split())}", field=field) from error
