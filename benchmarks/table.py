"""Everything that is asked of the package's speed and memory, measured, in one table.

    python -m benchmarks.table [--quick] [--only PART ...]

Each comparison is measured in a process of its own, one at a time, and those whose figures are vague have more turns.
A figure is a median; the interval beside it is where that median is expected in nine of ten repetitions.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.apart import Apart, comparisons
from benchmarks.enough import FULL, QUICK
from benchmarks.figures import LeftOut, Row
from benchmarks.machine import describe
from benchmarks.turns import take_turns

_KNOWN_WITHIN = 0.2  # of figures
_MINUTES = {QUICK: 10, FULL: 35}  # for the whole table
_PARTS = (
    "overhead",
    "handed",
    "fresh",
    "exporting",
    "step_time",
    "cost_per_span",
    "memory",
    "encoding",
    "varying",
    "stall",
    "keeping",
    "looking",
    "metrics",
    "device_time",
)


def main() -> None:
    """Print what was measured, and on stderr meanwhile what is being measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="in ten minutes, known less well")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS, metavar="PART")
    arguments = parser.parse_args()
    print(describe(), flush=True)
    enough = QUICK if arguments.quick else FULL
    started = time.monotonic()

    def tell(comparison: Apart) -> None:
        wide = "{:.1f} times too wide, {:.1f} for what is added".format(*comparison.vague)
        known = "over" if comparison.is_over else wide
        print(
            f"{time.monotonic() - started:6.0f} s  {comparison.name}: {known}",
            file=sys.stderr,
            flush=True,
        )

    all_of_them = {part: comparisons(part) for part in _PARTS}
    measured = [
        Apart(name, comparison, enough)
        for part in arguments.only
        for name, comparison in all_of_them[part].items()
    ]
    share = len(measured) / sum(map(len, all_of_them.values()))
    seconds = _MINUTES[enough] * 60 * share
    take_turns(measured, seconds, tell=tell)
    print(f"{'what':<76}{'asked':>13}  {'measured':<28}")
    lines = [line for comparison in measured for line in comparison.rows or ()]
    for line in lines:
        print(line)
    rows = [line for line in lines if isinstance(line, Row)]
    minutes = (time.monotonic() - started) / 60
    met = sum(row.is_met for row in rows)
    known = sum(row.reach <= _KNOWN_WITHIN for row in rows)
    added = sum(row.reach_of_added <= _KNOWN_WITHIN for row in rows)
    print(
        f"{met} of {len(rows)} are met; {known} are known to {_KNOWN_WITHIN:.0%} of the figure, "
        f"{added} to that share of what is added too; measured in {minutes:.1f} minutes"
    )
    if any(isinstance(line, LeftOut) and line.failed for line in lines):
        sys.exit(1)


if __name__ == "__main__":
    main()
