"""What it costs to watch for causes while none happens: each part by itself, against the same without it.

Run it as ``python -m benchmarks.causes``. A figure is the least of some repetitions, in microseconds, and in brackets
the least and the most of five such.
"""

from __future__ import annotations

import gc
import timeit
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from otel_torch_modules._allowed import CAUSES
from otel_torch_modules._events import LOOP_CALL
from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._records import Record
from otel_torch_modules.config import Config

_NUMBER = 5_000
_REPEAT = 9
_ROUNDS = 5


class _NoLoop:
    """A loop that is nowhere."""

    loads_data = False

    def takes_apart(self, *_: Any) -> bool:
        return False


def least(call: Callable[[], object]) -> list[float]:
    """Return the least time of a call (µs) in each round, in order."""
    return sorted(
        min(timeit.repeat(call, number=_NUMBER, repeat=_REPEAT)) / _NUMBER * 1e6
        for _ in range(_ROUNDS)
    )


def main() -> None:
    """Print all figures."""
    gc.collect()
    gc.freeze()
    recorder = Recorder(Config())
    causes = Causes(CAUSES, recorder)
    causes.loop = _NoLoop()
    record = Record("step", 0, 0, 0, end=1 << 62)
    record.log = [LOOP_CALL, 0, 0, 0, "zero_grad"] * 1_000
    calls: dict[str, Callable[[], object]] = {
        "a collection of the youngest objects": lambda: gc.collect(0),
        "clipping no gradient": lambda: nn.utils.clip_grad_norm_([], 1.0),
        "a scheduler's step": _scheduler().step,
    }
    without = {name: least(call) for name, call in calls.items()}
    causes.install()
    calls["clipping no gradient"] = lambda: nn.utils.clip_grad_norm_([], 1.0)
    calls["a scheduler's step"] = _scheduler().step
    for name, call in calls.items():
        _say(
            name, [after - before for before, after in zip(without[name], least(call), strict=True)]
        )
    _say("where a record opens", least(lambda: [look() for look in causes.on_opening]))
    _say("where it is sent off", least(lambda: causes.put_into(record)))
    causes.uninstall()


def _scheduler() -> torch.optim.lr_scheduler.LRScheduler:
    sgd = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    sgd.step()
    return torch.optim.lr_scheduler.StepLR(sgd, 1_000_000_000)


def _say(name: str, figures: list[float]) -> None:
    middle = sorted(figures)[len(figures) // 2]
    print(f"{name:40} {middle:6.2f} ({min(figures):.2f} - {max(figures):.2f})")


if __name__ == "__main__":
    main()
