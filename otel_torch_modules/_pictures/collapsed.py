"""Collapsed stacks, a line for each: what flamegraph.pl, inferno and others read.

https://github.com/brendangregg/FlameGraph#2-fold-stacks. The number is own time in µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from otel_torch_modules._pictures.stacks import TimedStacks
from otel_torch_modules._trace import Span


def write_collapsed(steps: Sequence[Span], out: IO[bytes]) -> None:
    """Write the own times of all steps together. A stack with less than half a µs is left out."""
    for stack, own in TimedStacks(steps):
        us = round(own / 1000)
        if us:
            frames = ";".join(frame.replace(";", ":") for frame in stack)
            out.write(f"{frames} {us}\n".encode("utf-8", "replace"))
