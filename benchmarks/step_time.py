"""How many times as long a step takes: left out by the schedule, with phases only, and a large one with everything.

    python -m benchmarks.step_time [--quick]

Such ratios are close to one, so blocks are many, and each ratio is that of a block to the blocks of no tracing right
before and right after it. The first two are of the worst model for a tracer, `toy.py`; the large step is the demo's,
found from its optimizer, with a batch with which it takes more than 200 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import thread_time_ns

import torch
from torch import nn

from benchmarks import contenders
from benchmarks.collector import ProgramMissingError, destination, local_collector
from benchmarks.contenders import Contender, Step
from benchmarks.enough import Enough
from benchmarks.figures import Figure, Row
from benchmarks.gpt import demo_step
from benchmarks.interleaved import Found, Rounds, Size, compare, ratio, untraced_ns
from benchmarks.machine import keep_freed_memory, undisturbed_ns
from benchmarks.part import print_rows
from benchmarks.toy import Toy, training_step

# Long enough for the interpreter to specialise what it runs anew, which it does where `nn.Module.__call__` changes.
_LEFT_OUT = Size(warm_up=12, timed=12)
_PHASES = Size(warm_up=32, timed=64, together=32)  # as many as the worker takes at once
# Longer than spans wait before they are sent, and timed as long: a request falls into the timed part of each block.
_EXPORTED_PHASES = Size(warm_up=300, timed=300, together=300)
# As many together as the worker takes at once. A job begins once: until the worker has seen the same step a few times
# it has more to do, and such a step takes a hundredth more.
_MIDDLE = Size(warm_up=32, timed=32, together=16)
# The first steps after tracing is put on are dearer: shorter blocks, of three steps, found a hundredth more.
_LARGE = Size(warm_up=2, timed=4)
_LARGE_WIDTH = 256
_LARGE_NS = 220_000_000
_ROUNDS_FOR_A_NOTE = 3
_TRACED = "traced"


def left_out(enough: Enough) -> list[Row]:
    """Compare a step that the schedule leaves out."""

    def rows(found: Found) -> list[Row]:
        what = "a step left out by the schedule, against no tracing, toy model"
        return [_row(what, 1.02, found)]

    rounds = enough.until_known(rows)
    return rows(_pairs(contenders.leaving_out, _toy_step(), rounds, _LEFT_OUT, thread_time_ns))


def phases_only(enough: Enough) -> list[Row]:
    """Compare a step without modules; the note says what export adds."""
    exported = f"; exported too: {_phases_exported()}" if enough.thorough else ""

    def rows(found: Found) -> list[Row]:
        what = "a step recorded with phases only, against no tracing, toy model"
        return [_row(what, 1.05, found, exported)]

    rounds = enough.until_known(rows)
    return rows(_pairs(contenders.recording_phases_only, _toy_step(), rounds, _PHASES))


def middle(enough: Enough) -> list[Row]:
    """Compare a step with few calls, of the thread's own time; the note says what that is on the clock."""
    with destination(enough) as sink:
        compared, train = contenders.exporting_a_loop, middle_step()
        note = " of the thread's own time"
        if enough.thorough:
            note += f"; on the clock {ratio(_pairs(compared, train, _few, _MIDDLE)[_TRACED])}"

        def rows(found: Found) -> list[Row]:
            what = f"two encoder layers of width 64, recorded and {sink.fate}, against no tracing"
            return [_row(what, 1.02, found, note)]

        rounds = enough.until_known(rows)
        return rows(_pairs(compared, train, rounds, _MIDDLE, thread_time_ns))


def large(enough: Enough) -> list[Row]:
    """Compare the demo's step."""

    with destination(enough) as sink:

        def rows(found: Found) -> list[Row]:
            what = f"a step of the demo GPT, recorded and {sink.fate}, against no tracing"
            return [_row(what, 1.01, found)]

        train, rounds = _large_step(), enough.until_known(rows)
        return rows(_pairs(contenders.exporting_a_loop, train, rounds, _LARGE))


COMPARISONS = (left_out, phases_only, middle, large)


def middle_step() -> Step:
    """Return a step of some 12 ms with 19 calls of modules."""
    layers = [nn.TransformerEncoderLayer(64, 4, 256, batch_first=True) for _ in range(2)]
    model = nn.Sequential(*layers)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = torch.randn(16, 32, 64)

    def run() -> None:
        sgd.zero_grad()
        model(batch).square().mean().backward()
        sgd.step()

    return run


def _large_step() -> Step:
    """Return the demo's step with as large a batch as it takes to be a large one on this machine."""
    batch_size, taken = 0, 0
    while taken < _LARGE_NS:
        batch_size += 1
        train = demo_step(_LARGE_WIDTH, batch_size)
        train()
        start = thread_time_ns()
        train()
        taken = thread_time_ns() - start
    return train


def _phases_exported() -> Figure | str:
    try:
        with local_collector():
            pairs = _pairs(contenders.phases_only, _toy_step(), _few, _EXPORTED_PHASES)
        return ratio(pairs[_TRACED])
    except ProgramMissingError as missing:
        return f"left out, {missing}"


def _toy_step() -> Step:
    return training_step(Toy(), torch.randn(2, 4, 8))


def _few(found: Found) -> Iterable[object]:
    """The rounds of what is said in a note."""
    return range(_ROUNDS_FOR_A_NOTE)


def _pairs(
    contender: Contender,
    train: Step,
    rounds: Rounds,
    size: Size,
    clock: Callable[[], int] = undisturbed_ns,
) -> Found:
    keep_freed_memory()
    return compare({_TRACED: contender}, train, rounds, size, clock=clock)


def _row(what: str, bar: float, found: Found, more: str = "") -> Row:
    pairs = found[_TRACED]
    times, untraced = ratio(pairs), untraced_ns(pairs)
    note = f"{(times.value - 1) * untraced / 1e3:+.0f} µs to {untraced / 1e6:.2f} ms{more}"
    return Row(what, bar, "x", times, added=True, note=note)


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
