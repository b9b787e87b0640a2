"""What becomes of a folder while a program uses it."""

from __future__ import annotations

from pathlib import Path


def taken(folder: Path) -> None:
    """Put a file in its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("")


def gone(folder: Path) -> None:
    """Remove it with the files in it."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
