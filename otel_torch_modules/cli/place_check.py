"""Whether something can be written where a variable says: a folder that is not there yet is made by who writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile


def fault_of_folder(name: str, folder: str) -> str:
    """Return why nothing can be written to `folder`, which the variable `name` says; empty where it can."""
    place = first_there(Path(folder).absolute())
    return fault_of_place(name, folder, place, lambda: write_in(place))


def fault_of_place(name: str, value: str, place: Path, write: Callable[[], None]) -> str:
    """Return why `write` cannot write to `place`, by what it raises; empty where it can."""
    try:
        write()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return f"{name}={value}: nothing can be written to {place} ({reason})"
    return ""


def first_there(path: Path) -> Path:
    """Return `path` where something is there, else the folder in which it, or the next folder, would be made."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def write_in(folder: Path) -> None:
    """Write to a file in `folder` that is gone afterwards.

    Raises:
        OSError: that is not possible.
    """
    TemporaryFile(dir=folder).close()
