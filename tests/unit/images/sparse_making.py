"""Files with holes."""

import os
from pathlib import Path


def a_file(path: Path, size: int, pieces: dict[int, bytes]) -> Path:
    """`pieces`: offset → what is there; all the rest is a hole."""
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            os.pwrite(file.fileno(), data, offset)
    return path
