"""A part of the table: comparisons, each of which gives some rows, and what is common to running one by itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

from benchmarks.enough import FULL, QUICK, Enough
from benchmarks.figures import Row
from benchmarks.machine import old_objects_set_aside, use_one_thread

Comparison = Callable[[Enough], Sequence[Row]]
"""Measures in this process until it is enough, and returns what it found."""


def asked_for(what: str) -> Enough:
    """Return what is enough by the command line.

    Args:
        what: is measured, for `--help`: its first line.
    """
    parser = argparse.ArgumentParser(description=what.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="in a quarter of the time")
    return QUICK if parser.parse_args().quick else FULL


def print_rows(what: str, comparisons: Iterable[Comparison]) -> None:
    """Print the rows, known as well as is asked for on the command line.

    Args:
        what: is measured, for `--help`: its first line.
        comparisons: give them.
    """
    enough = asked_for(what)
    use_one_thread()
    for comparison in comparisons:
        with old_objects_set_aside():
            rows = comparison(enough)
        for row in rows:
            print(row, flush=True)
