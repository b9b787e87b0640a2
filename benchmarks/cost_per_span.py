"""CPU time of the process for each span, everything included: hooks, assembly, encoding, export.

    python -m benchmarks.cost_per_span [--quick]

Tracing is on all the time, and of a model's steps every third is recorded, as the schedule has it. What it takes more
of the training thread's processor time than the one before it, and the one after it, where it is handed over, is added
to what all other threads take until its spans are at the collector: the worker's and gRPC's, or the worker's until they
are in the file of a quick run. So what is compared lies
next to each other; what a step that is left out takes more than an untraced one is not in it: see `step_time`.

All is told at the pace at which steps that are left out take as long as in the median. Models of several sizes take
turns; the first steps of each, in which places are seen for the first time, are not counted. The collector is a process
of its own and not counted either. The garbage collector is on but for what was there before: a full collection looks at
hundreds of thousands of objects of torch, takes a quarter of a second, and comes once in a while with tracing and
without.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Sequence
from itertools import count
from time import process_time_ns, thread_time_ns
from typing import NamedTuple

import torch

from benchmarks.collector import Sink, destination
from benchmarks.enough import LONGER_THAN_A_TABLE_S, Enough
from benchmarks.figures import Figure, Row, median, ratio_of_medians
from benchmarks.machine import old_objects_set_aside
from benchmarks.part import print_rows
from benchmarks.recorded import send_all
from benchmarks.toy import Toy, calls, training_step
from otel_torch_modules import Config, Schedule, TorchModuleInstrumentor, step

# Spans a step, and steps of a turn that are recorded.
_SIZES = {100: 100, 1_000: 10, 10_000: 2}
_LARGEST = {50_000: 1}
_LESS = {20_000: 1}  # where there is no time for the largest
_LARGEST_MODEL = 10_000  # spans; larger steps are made of several micro-batches
_WARM_UP = 3  # steps
_CYCLE = 3
_SCHEDULE = Schedule(wait=_CYCLE - 1, active=1)
_BAR_US = 10
_FLAT = 1.3


class Model:
    """A model whose steps have about `spans` spans: two for each call, one for each backward pass, one for itself."""

    def __init__(self, spans: int) -> None:
        self._micro_batches = max(1, spans // _LARGEST_MODEL)
        blocks = max(1, (spans // self._micro_batches // 2 - 3) // 6)
        self.spans = self._micro_batches * (2 * calls(blocks) + 1) + 1
        self._micro_batch = training_step(Toy(blocks), torch.randn(2, 4, 8))

    def train(self) -> None:
        """Run one step."""
        for _ in range(self._micro_batches):
            self._micro_batch()


class Taken(NamedTuple):
    """Nanoseconds that a recorded step takes more, of all threads, and those of one that is left out."""

    added: float
    left_out: float


Found = dict[int, list[Taken]]
"""By how many spans a step has."""


class Turns:
    """Steps of models in turn, in a process that is traced.

    Args:
        sink: where spans arrive.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._numbers = count()
        self._made = 0

    def take(self, model: Model, recorded: int) -> Taken:
        """Return what so many steps that are recorded take."""
        process, thread = process_time_ns(), thread_time_ns()
        steps = [[self._step_ns(model) for _ in range(_CYCLE)] for _ in range(recorded)]
        self._made += recorded * model.spans
        send_all()
        self._sink.wait_for(self._made)  # none was dropped
        others = process_time_ns() - process - (thread_time_ns() - thread)
        # A step adds to this thread's time its own, and where it ends, in the step after.
        ends_another, left_out, own = (sum(each) / recorded for each in zip(*steps, strict=True))
        return Taken(own + ends_another - 2 * left_out + others / recorded, left_out)

    def _step_ns(self, model: Model) -> int:
        start = thread_time_ns()
        with step(next(self._numbers)):
            model.train()
        return thread_time_ns() - start


def by_size(sink: Sink, enough: Enough) -> Found:
    """Return what was taken, once a round, for each number of spans in a step."""
    sizes = _SIZES | (_LARGEST if enough.thorough else _LESS)
    models = {Model(spans): recorded for spans, recorded in sizes.items()}
    found: Found = {model.spans: [] for model in models}
    instrumentor = TorchModuleInstrumentor()
    instrumentor.instrument(config=Config(schedule=_SCHEDULE, stall_timeout=LONGER_THAN_A_TABLE_S))
    turns = Turns(sink)
    for model in models:
        turns.take(model, _WARM_UP)
    with old_objects_set_aside():
        for _ in enough.rounds(lambda: _rows(found, sink.fate)):
            for model in random.sample(list(models), len(models)):
                found[model.spans].append(turns.take(model, models[model]))
    instrumentor.uninstrument()
    return found


def _flat(figures: Iterable[Sequence[float]]) -> Figure:
    cheapest, *_, dearest = sorted(figures, key=statistics.median)
    return ratio_of_medians(dearest, cheapest)


def all_threads(enough: Enough) -> list[Row]:
    """Compare the sizes of steps."""
    with destination(enough) as sink:
        return _rows(by_size(sink, enough), sink.fate)


COMPARISONS = (all_threads,)


def _span_us(taken: Sequence[Taken], spans: int) -> list[float]:
    """Return microseconds for each span, once a round, all at the pace at which steps are left out in the median."""
    pace = statistics.median(each.left_out for each in taken)
    return [each.added * pace / each.left_out / spans / 1e3 for each in taken]


def _rows(found: Found, fate: str) -> list[Row]:
    us = {size: _span_us(taken, size) for size, taken in found.items()}
    each = [
        Row(
            f"CPU time of a span that is {fate}, {size} spans a step",
            _BAR_US,
            "µs",
            median(figures),
        )
        for size, figures in us.items()
    ]
    return [
        *each,
        Row("the dearest of these sizes against the cheapest", _FLAT, "x", _flat(us.values())),
    ]


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
