"""Programs that have nothing to do with each other run two at once: most of what one does is import, on one core."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Case = TypeVar("Case")
Found = TypeVar("Found")


def side_by_side(
    folder: Path, work: Callable[[Path, Case], Found], cases: Iterable[Case]
) -> dict[Case, Found]:
    """Return what `work` finds for each of `cases`, in a folder of its own below `folder`."""
    names = list(cases)
    folders = [folder / str(number) for number in range(len(names))]
    for each in folders:
        each.mkdir()
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(work, folders, names), strict=True))
