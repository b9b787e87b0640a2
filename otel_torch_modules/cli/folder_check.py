"""Whether a folder that a variable names can be made, or written to where it is there."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile


def fault_of_folder(name: str, folder: str) -> str:
    """Return why nothing can be written to `folder`, which the variable `name` says; empty where it can."""
    path = Path(folder).absolute()
    place = next(place for place in (path, *path.parents) if os.path.lexists(place))
    try:
        TemporaryFile(dir=place).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return f"{name}={folder}: nothing can be written to {place} ({reason})"
    return ""
