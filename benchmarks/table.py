"""Everything that is asked of the package's speed and memory, measured, in one table.

    python -m benchmarks.table [--quick] [--only PART ...]

Each part is measured in a process of its own, one after the other. A figure is a median; the interval beside it is
where that median is expected in nine of ten repetitions, or, where there are only a few rounds, the least and the
most.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from importlib import import_module

from benchmarks.collector import ProgramMissingError
from benchmarks.enough import FULL, QUICK, Enough
from benchmarks.figures import LeftOut, Row
from benchmarks.machine import describe, use_one_thread

_KNOWN_WITHIN = 0.2  # of a figure, to either side
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


def measure(part: str, enough: Enough) -> list[Row | LeftOut]:
    """Return the rows of a part, measured in this process, or the one that says what it needs and is missing."""
    use_one_thread()
    try:
        rows: list[Row | LeftOut] = import_module(f"benchmarks.{part}").rows(enough)
    except ProgramMissingError as missing:
        return [LeftOut(f"all of `{part}`", str(missing))]
    return rows


def main() -> None:
    """Print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="in a quarter of the time, known less well"
    )
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS, metavar="PART")
    arguments = parser.parse_args()
    print(describe(), flush=True)
    print(f"{'what':<76}{'asked':>13}  {'measured':<28}", flush=True)
    started, found = time.monotonic(), []
    enough = QUICK if arguments.quick else FULL
    for part in arguments.only:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            for row in process.apply(measure, (part, enough)):
                if isinstance(row, Row):
                    found.append(row)
                print(row, flush=True)
    minutes = (time.monotonic() - started) / 60
    met = sum(row.is_met for row in found)
    vague = sum(not row.figure.is_within(_KNOWN_WITHIN) for row in found)
    print(
        f"{met} of {len(found)} are met, {vague} are not known to within {_KNOWN_WITHIN:.0%}; "
        f"measured in {minutes:.1f} minutes"
    )


if __name__ == "__main__":
    main()
