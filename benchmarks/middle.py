"""Where the cost of a step with few calls goes: what recording takes with parts of it left out, step by step in turn.

    python -m benchmarks.middle [--seconds 100]

One process is instrumented all the time and drops what it records on the training thread. What is done with a step
changes every few steps, in an order that changes, and is compared with steps that are left out right before or after:
so neither the interpreter's specialising nor the machine's pace is measured. Processor time of the thread; the mean
without the lowest and the highest eighth, and where it is expected nine times in ten.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time_ns
from unittest.mock import patch

from benchmarks.contenders import Step
from benchmarks.machine import keep_freed_memory, use_one_thread
from benchmarks.recorded import recording_into
from benchmarks.step_time import middle_step
from otel_torch_modules._recording.live_marks import live_marks
from otel_torch_modules._recording.loop.steps import Steps

_IN_A_ROW = 4  # steps, the first of which is not counted
_WARM_UP = 8  # rounds
_RESAMPLES = 400


@contextmanager
def _left_out(steps: Steps) -> Iterator[None]:
    with patch.object(steps._admission.context, "open", lambda record: False):
        yield


@contextmanager
def _recorded(steps: Steps) -> Iterator[None]:
    yield


@contextmanager
def _not_looked_at(steps: Steps) -> Iterator[None]:
    with patch.object(live_marks, "_most", -(10**7)):
        yield


@contextmanager
def _not_marked(steps: Steps) -> Iterator[None]:
    with patch.object(steps._recorder.local.state, "attach_mark", lambda node: None):
        yield


_WAYS = {
    "left out": _left_out,
    "recorded": _recorded,
    "recorded, no node looked at": _not_looked_at,
    "recorded, nodes looked at and none marked": _not_marked,
}


def measure(train: Step, seconds: float) -> dict[str, list[float]]:
    """Return nanoseconds of a step for each way, a figure a round."""
    found: dict[str, list[float]] = {name: [] for name in _WAYS}
    with recording_into(lambda record: None) as steps:

        def one_round() -> None:
            for name in random.sample(list(_WAYS), len(_WAYS)):
                with _WAYS[name](steps):
                    found[name].append(_timed(steps, train))

        for _ in range(_WARM_UP):
            one_round()
        for figures in found.values():
            figures.clear()
        gc.collect()
        gc.freeze()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            one_round()
        gc.unfreeze()
    return found


def _timed(steps: Steps, train: Step) -> float:
    taken = []
    for _ in range(_IN_A_ROW):
        start = thread_time_ns()
        with steps.step(None):
            train()
        taken.append(thread_time_ns() - start)
    return statistics.mean(taken[1:])


def _trimmed(values: list[float]) -> float:
    cut = len(values) // 8
    return statistics.mean(sorted(values)[cut : len(values) - cut])


def _interval(values: list[float], of: Callable[[list[float]], float]) -> tuple[float, float]:
    draw = random.Random(0)
    means = sorted(of(draw.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return means[_RESAMPLES // 20], means[-1 - _RESAMPLES // 20]


def main() -> None:
    """Print what each way adds to a step that is left out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=100)
    seconds = parser.parse_args().seconds
    use_one_thread()
    keep_freed_memory()
    found = measure(middle_step(), seconds)
    base = found["left out"]
    print(f"{len(base)} rounds; a step that is left out takes {_trimmed(base) / 1e6:.2f} ms")
    for name, figures in found.items():
        added = [own - out for own, out in zip(figures, base, strict=True)]
        low, high = _interval(added, _trimmed)
        mean = _trimmed(added)
        ratio = 1 + mean / _trimmed(base)
        print(
            f"{name:44}{mean / 1e3:+6.0f} µs ({low / 1e3:+.0f} to {high / 1e3:+.0f}), {ratio:.3f} x"
        )


if __name__ == "__main__":
    main()
