"""A part of the table that is run by itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from benchmarks.enough import FULL, QUICK, Enough
from benchmarks.figures import LeftOut, Row
from benchmarks.machine import use_one_thread


def asked_for(what: str) -> Enough:
    """Return what is enough by the command line.

    Args:
        what: is measured, for `--help`: its first line.
    """
    parser = argparse.ArgumentParser(description=what.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="in a quarter of the time")
    return QUICK if parser.parse_args().quick else FULL


def print_rows(what: str, rows: Callable[[Enough], Sequence[Row | LeftOut]]) -> None:
    """Print the rows, known as well as is asked for.

    Args:
        what: is measured, for `--help`: its first line.
        rows: measures them; told when there is enough.
    """
    enough = asked_for(what)
    use_one_thread()
    for row in rows(enough):
        print(row)
