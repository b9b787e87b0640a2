"""Small files of JSON that are whole or not there, written by one process and read by others.

Whoever may write into the folder may put anything there: nothing here follows a link, waits for a pipe or reads
without end.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._own_descriptor import opened

MOST_BYTES = 1 << 20  # of a file that is read: ours have a few thousand

_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def make_folder(path: Path) -> None:
    """Make a folder for its owner alone, unless there is one.

    Raises:
        OSError: it cannot be.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def put(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path`, by a rename.

    Raises:
        OSError: it cannot be.
    """
    part = part_of(path)
    with open(part, "w", encoding="utf-8", opener=_open) as file:
        json.dump(content, file)
    part.replace(path)


def put_new(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path`, where nothing is yet.

    Raises:
        FileExistsError: something is.
        OSError: it cannot be.
    """
    part = path.with_suffix(f".{socket.gethostname()}-{os.getpid()}")
    with open(part, "w", encoding="utf-8", opener=_open) as file:
        json.dump(content, file)
    try:
        os.link(part, path)
        part.unlink()
    except FileExistsError:
        part.unlink()
        raise
    except OSError as error:  # a file system without links
        if is_interruption(error):
            raise
        if path.exists():
            part.unlink()
            raise FileExistsError from None
        part.replace(path)


def part_of(path: Path) -> Path:
    """Return the file that `put` writes first."""
    return path.with_suffix(".part")


def remove(path: Path) -> None:
    """Remove what `put` has written to `path`, whole or in part.

    Raises:
        OSError: it cannot be.
    """
    path.unlink(missing_ok=True)
    part_of(path).unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Return what a file says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none of ours.
    """
    with open(path, "rb", opener=_open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no file")
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError("too large")
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def this_process() -> dict[str, Any]:
    """Return what a file says of the process that writes it."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def is_of_another_that_runs(content: Mapping[str, Any]) -> bool:
    """Return whether the process that wrote `content` is another one, and alive, as far as can be seen from here."""
    pid = content.get("pid")
    if content.get("host") != socket.gethostname() or pid == os.getpid() or type(pid) is not int:
        return False
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError) as error:
        if is_interruption(error):
            raise
        return isinstance(error, PermissionError)
    return pid > 0


def _open(path: str, flags: int) -> int:
    return opened(path, flags | _SAFELY)
