"""What a module call costs the training thread while spans are exported, beside other tools.

    python -m benchmarks.exporting [--quick]

The same model and the same way of measuring as in `overhead.py`, but blocks are longer, and steps follow each other
without a pause: while a block is timed its own spans and those of the steps before it are assembled, encoded and
sent, to a collector or, in a quick run, to a file. How many have arrived is asked when the block begins and when it
ends; if the worker fell behind, or what is sent waited for the end of the block, the share says so. After each block
all its spans must have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from statistics import median

import torch

from benchmarks import contenders
from benchmarks.collector import Sink, destination
from benchmarks.contenders import Contender, Run, Step
from benchmarks.enough import Enough
from benchmarks.figures import Row
from benchmarks.interleaved import Size, compare
from benchmarks.machine import keep_freed_memory, undisturbed_ns, use_one_thread
from benchmarks.overhead import Overheads, against, per_call, report
from benchmarks.part import asked_for
from benchmarks.toy import Toy, calls, training_step

OURS = "ours, exporting"
_PROFILER = "torch.profiler, collecting"
_PROFILER_GOING_ON = "torch.profiler, collecting into new memory"
_WRITING = "torch.profiler, writing each step"
_SPANS = "ModTracker + SDK spans, exporting"
_BARS = {_PROFILER: 1.5, _PROFILER_GOING_ON: 1.5, _WRITING: 0.2, _SPANS: 0.15}

# A request holds the spans of eight steps: so many are timed together.
_SHORT = Size(warm_up=12, timed=16, together=8)
_BLOCKS = {
    OURS: Size(warm_up=16, timed=48, together=8),
    _PROFILER: Size(warm_up=4, timed=16, together=8),  # to end takes as long as all steps
    _PROFILER_GOING_ON: Size(warm_up=4, timed=16, together=8),
    _SPANS: Size(warm_up=4, timed=8, together=4),  # of two; such a step takes ten times as long
    _WRITING: Size(warm_up=1, timed=4),  # is the same each time, and takes thirty times as long
}
_MORE = 1.1
_SPANS_OF_A_STEP = (
    2 * calls() + 2
)  # forward and backward of each call, the backward pass and the step


class Sent:
    """A contender that exports, and what it sent.

    Args:
        contender: the contender.
        sink: where it sends.
        block: how many steps it has at a time.
    """

    def __init__(self, contender: Contender, sink: Sink, block: Size) -> None:
        self._contender = contender
        self._sink = sink
        self._block = block
        self.of_a_step: list[float] = []
        """Spans that arrived, for each step, a figure a block."""
        self.meanwhile: list[float] = []
        """The share that arrived while the block was timed, of as many as were made meanwhile."""

    @contextmanager
    def __call__(self) -> Iterator[Run]:
        """Be the contender."""
        steps = at_start = 0
        before = self._sink.accepted()

        def run(train: Step) -> None:
            nonlocal steps, at_start
            wrapped(train)
            steps += 1
            if steps == self._block.warm_up:
                at_start = self._sink.accepted()

        with self._contender() as wrapped:
            yield run
            at_end = self._sink.accepted()
        of_a_step = (self._sink.accepted() - before) / steps
        self.of_a_step.append(of_a_step)
        self.meanwhile.append((at_end - at_start) / (of_a_step * self._block.timed))


def overheads(
    others: Mapping[str, Contender], sink: Sink, enough: Enough
) -> tuple[Overheads, dict[str, float]]:
    """Return microseconds per module call, once a round, of ours and of `others`.

    With them the shares that were sent while blocks were timed, of those that export.
    """
    keep_freed_memory()
    ours = Sent(contenders.exporting, sink, _BLOCKS[OURS])
    compared = {OURS: ours, **others}
    exporting = {name: each for name, each in compared.items() if isinstance(each, Sent)}
    train = training_step(Toy(), torch.randn(2, 4, 8))
    rounds = enough.until_known(lambda found: _rows(per_call(found), sink.fate))
    found = compare(compared, train, rounds, _SHORT, _BLOCKS, clock=undisturbed_ns)
    # And what takes time beside modules: stretches between, the more the more else runs; collections of garbage.
    if not all(1 <= arrived / _SPANS_OF_A_STEP < _MORE for arrived in ours.of_a_step):
        raise AssertionError(f"spans of a step that have arrived: {ours.of_a_step}")
    return per_call(found), {name: median(each.meanwhile) for name, each in exporting.items()}


def _profilers(sink: Sink) -> Mapping[str, Contender]:
    return {
        _PROFILER: contenders.torch_profiler,
        _PROFILER_GOING_ON: contenders.torch_profiler_going_on,
    }


def _emitting(sink: Sink) -> Mapping[str, Contender]:
    return {
        _WRITING: contenders.torch_profiler_writing,
        _SPANS: Sent(
            partial(contenders.tracked_spans_exporting, sink.standard_exporter),
            sink,
            _BLOCKS[_SPANS],
        ),
    }


def profilers(enough: Enough) -> list[Row]:
    """Compare with ``torch.profiler`` collecting."""
    return _measured(_profilers, enough)


def emitting(enough: Enough) -> list[Row]:
    """Compare with what emits too."""
    return _measured(_emitting, enough)


COMPARISONS = (profilers, emitting)


def _measured(others: Callable[[Sink], Mapping[str, Contender]], enough: Enough) -> list[Row]:
    with destination(enough) as sink:
        found, meanwhile = overheads(others(sink), sink, enough)
    return _rows(found, sink.fate, f"; {meanwhile[OURS]:.0%} of ours meanwhile")


def _rows(found: Overheads, fate: str, more: str = "") -> list[Row]:
    return [
        Row(
            f"everything, spans being {fate}, per module call, against {name}",
            _BARS[name],
            "x",
            figure,
            note=f"{median(found[OURS]):.1f} to {median(found[name]):.1f} µs{more}",
        )
        for name, figure in against(OURS, found).items()
    ]


def main() -> None:
    """Print the comparison."""
    enough = asked_for(__doc__)
    use_one_thread()
    with destination(enough) as sink:
        for others in (_profilers, _emitting):
            found, meanwhile = overheads(others(sink), sink, enough)
            report("forward and backward", found, OURS)
            for name, share in meanwhile.items():
                print(
                    f"{name}: of the spans made while the clock ran {share:.0%} arrived meanwhile"
                )


if __name__ == "__main__":
    main()
