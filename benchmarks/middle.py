"""Where the cost of a step with few calls goes: what recording takes with parts of it left out, step by step in turn.

    python -m benchmarks.middle [--seconds 100]

One process drops what it records on the training thread. What is done with a step changes every few steps, in an order
that changes, and is compared with untraced steps right before or after: so the machine's pace is not measured.
Processor time of the thread; the mean without the lowest and the highest eighth, and where it is expected nine times
in ten.

The floor is what no tool in Python that sees forward and backward can do without: a function around each call, and a
hook on the node of its result that all nodes share, as ours do. Both do nothing, the hook in C.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time_ns
from typing import Any
from unittest.mock import patch

from torch import nn

from benchmarks.contenders import Step
from benchmarks.machine import keep_freed_memory, use_one_thread
from benchmarks.recorded import recording_into
from benchmarks.step_time import middle_step
from otel_torch_modules._recording.live_marks import live_marks
from otel_torch_modules._recording.loop.steps import Steps
from otel_torch_modules._recording.torch_private.node_marks import mark_carrier, marks_by

_IN_A_ROW = 16  # steps
_NOT_COUNTED = 4  # the first of them: what `nn.Module.__call__` is has changed, and the interpreter specialises anew
_WARM_UP = 4  # rounds
_RESAMPLES = 400


@contextmanager
def _untraced(steps: Steps) -> Iterator[None]:
    steps._recorder.uninstall()
    with _left_out(steps):
        yield
    steps._recorder.install()


@contextmanager
def _floor(steps: Steps) -> Iterator[None]:
    mark = marks_by(mark_carrier(deque[object](maxlen=0).append))
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(module, *args, **kwargs)
        node = (result[0] if type(result) is tuple else result).grad_fn
        if node is not None:
            mark(node)
        return result

    with _untraced(steps), patch.object(nn.Module, "__call__", call):
        yield


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
    "untraced": _untraced,
    "floor": _floor,
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
    return statistics.mean(taken[_NOT_COUNTED:])


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
    base = found["untraced"]
    print(f"{len(base)} rounds; an untraced step takes {_trimmed(base) / 1e6:.2f} ms")
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
