"""A part of the table that is run by itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from benchmarks.figures import LeftOut, Row
from benchmarks.machine import use_one_thread


def print_rows(what: str, rows: Callable[[bool], Sequence[Row | LeftOut]]) -> None:
    """Print the rows, of a few rounds only where `--quick` is asked for.

    Args:
        what: is measured, for `--help`: its first line.
        rows: measures them; told whether a few rounds are enough.
    """
    parser = argparse.ArgumentParser(description=what.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    use_one_thread()
    for row in rows(quick):
        print(row)
