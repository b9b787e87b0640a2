"""How many times as long a step takes: left out by the schedule, with phases only, and a large one with everything.

    python -m benchmarks.step_time [--quick]

Such ratios are close to one, so blocks are many, and each ratio is that of a block to the blocks of no tracing right
before and right after it. The first two are of the worst model for a tracer, `toy.py`; the large step is the demo's,
found from its optimizer, at a width and a batch with which it takes more than 200 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import thread_time_ns

import torch
from torch import nn

from benchmarks import contenders
from benchmarks.collector import ProgramMissingError, local_collector
from benchmarks.contenders import Contender, Step
from benchmarks.enough import Enough
from benchmarks.figures import LeftOut, Row, median
from benchmarks.gpt import demo_step
from benchmarks.interleaved import Paired, Rounds, Size, compare, ratio
from benchmarks.machine import keep_freed_memory, undisturbed_ns
from benchmarks.part import print_rows
from benchmarks.toy import Toy, training_step

# Long enough for the interpreter to specialise what it runs anew, which it does where `nn.Module.__call__` changes.
_LEFT_OUT = Size(warm_up=60, timed=20)
_PHASES = Size(warm_up=64, timed=64)  # twice as many as the worker takes at once
# Longer than spans wait before they are sent, and timed as long: a request falls into the timed part of each block.
_EXPORTED_PHASES = Size(warm_up=300, timed=300)
_MIDDLE = Size(warm_up=10, timed=40)
# The first steps after tracing is put on are dearer: shorter blocks, of three steps, found a hundredth more.
_LARGE = Size(warm_up=2, timed=4)
_LARGE_STEP = {"width": 256, "batch_size": 12}
_LEAST_LARGE_MS = 200
_FINER = 20  # ratios close to one have to be known to half a percent where others have to a tenth
_TRACED = "traced"


def left_out(enough: Enough) -> Row:
    """Return the row of the step that the schedule leaves out."""
    rounds = _until_known(15, enough)
    pairs = _pairs(contenders.leaving_out, _toy_step(), rounds, _LEFT_OUT, thread_time_ns)
    return _row("a step left out by the schedule, against no tracing, toy model", 1.02, pairs)


def phases_only(enough: Enough) -> Row:
    """Return the row of the step without modules; its note says what export adds."""
    rounds = _until_known(15, enough)
    recorded = _pairs(contenders.recording_phases_only, _toy_step(), rounds, _PHASES)
    try:
        with local_collector():
            pairs = _pairs(contenders.phases_only, _toy_step(), rounds, _EXPORTED_PHASES)
        exported = str(ratio(pairs))
    except ProgramMissingError as missing:
        exported = f"left out, {missing}"
    return _row(
        "a step recorded with phases only, against no tracing, toy model",
        1.05,
        recorded,
        f"; exported too: {exported}",
    )


def large(enough: Enough) -> Row:
    """Return the row of the demo's step."""
    rounds = _until_known(45, enough)
    with local_collector():
        pairs = _pairs(contenders.exporting_a_loop, demo_step(**_LARGE_STEP), rounds, _LARGE)
    row = _row("a step of the demo GPT, recorded and exported, against no tracing", 1.01, pairs)
    least = min(pair.untraced for pair in pairs) / 1e6
    if least < _LEAST_LARGE_MS:
        raise AssertionError(f"a step takes {least:.0f} ms: raise _LARGE_STEP on this machine")
    return row


def middle(enough: Enough) -> Row:
    """Return the row of a step with few calls, of the thread's own time; its note says what that is on the clock."""
    with local_collector():
        pairs = _pairs(
            contenders.exporting_a_loop,
            middle_step(),
            _until_known(25, enough),
            _MIDDLE,
            thread_time_ns,
        )
        on_the_clock = _pairs(
            contenders.exporting_a_loop, middle_step(), _until_known(10, enough), _MIDDLE
        )
    return _row(
        "two encoder layers of width 64, recorded and exported, against no tracing",
        1.02,
        pairs,
        f" of the thread's own time; on the clock {ratio(on_the_clock)}",
    )


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


def _toy_step() -> Step:
    return training_step(Toy(), torch.randn(2, 4, 8))


def _until_known(seconds: float, enough: Enough) -> Rounds:
    return lambda found: enough.rounds(seconds, lambda: [ratio(found[_TRACED])], finer=_FINER)


def _pairs(
    contender: Contender,
    train: Step,
    rounds: Rounds,
    size: Size,
    clock: Callable[[], int] = undisturbed_ns,
) -> list[Paired]:
    return compare({_TRACED: contender}, train, rounds, size, clock=clock)[_TRACED]


def _row(what: str, bar: float, pairs: Sequence[Paired], more: str = "") -> Row:
    step_ms = median([pair.untraced for pair in pairs]).value / 1e6
    added_us = median([pair.overhead for pair in pairs]).value / 1e3
    note = f"{added_us:+.0f} µs to {step_ms:.2f} ms{more}"
    return Row(what, bar, "x", ratio(pairs), note=note)


def rows(enough: Enough) -> list[Row | LeftOut]:
    """Return the rows of the table."""
    keep_freed_memory()
    exported: list[Row | LeftOut]
    try:
        exported = [middle(enough), large(enough)]
    except ProgramMissingError as missing:
        exported = [
            LeftOut("steps that are recorded and exported, against no tracing", str(missing))
        ]
    return [left_out(enough), phases_only(enough), *exported]


if __name__ == "__main__":
    print_rows(__doc__, rows)
