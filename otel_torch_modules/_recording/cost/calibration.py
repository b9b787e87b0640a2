"""What recording a module call costs in this process, now: measured on a few tiny modules.

They run through the wrapper that records and through the same without recording, with a recorder of their own. And they
run in a thread of their own, for which the training thread waits: grad mode, autocast, inference mode, function and
dispatch modes, function transforms, a trace by ``torch.jit`` and sequence numbers all belong to the thread
that has them, so what the program has switched on neither is seen here nor sees anything. The modules are called past
``nn.Module.__call__``, so no hook of the program runs, and draw no random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time_ns as now
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from otel_torch_modules._events import WIDTH
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._own_thread import OwnThread
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._records import Record
from otel_torch_modules.config import Config

_LINKS: Final = 8
_ROUNDS: Final = 8  # the quickest counts
_PATIENCE_S: Final = 1.0

_COLD: Final = 2.0
"""How many times what is measured here a call costs in a program.

Between the calls of a program its own code and kernels run, so the code that records and what it reads are no longer
in the processor's caches, and what it leaves behind is collected as garbage.
"""


class CallCost(NamedTuple):
    """Nanoseconds on the training thread, forward and backward together."""

    event: float  # for each event that a module call writes into a record
    left_out: float  # for each such event that is not written, in a record of phases
    root: float  # of a root call with its backward, in any record


FALLBACK: Final = CallCost(event=3_000, left_out=600, root=80_000)
"""Where nothing could be measured: twice what was measured on the slowest machine that was looked at."""


class CalibrationError(Exception):
    """The cost of a call could not be measured."""


def calibrate(backward: bool) -> CallCost:
    """Return what recording costs in this process; that takes a few milliseconds.

    Args:
        backward: measure the marks in backward too. A process that has run a backward must not fork others that do,
            so it is for those only that are about to run one.

    Raises:
        CalibrationError: it did not work, or took too long.
    """
    found: list[CallCost] = []
    failures: list[BaseException] = []

    def measure() -> None:
        try:
            with torch.set_grad_enabled(backward):
                found.append(_measure())
        except BaseException as error:
            if is_interruption(error):
                raise
            failures.append(error)

    thread = OwnThread(target=measure, name="otel-torch-modules calibration", daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    if not found:
        raise CalibrationError("the cost of a module call is not known") from next(
            iter(failures), None
        )
    return found[0]


def _measure() -> CallCost:
    recorder = Recorder(Config())
    recorder.boundary = _AllRecorded()
    recorded = recorder.wrapper_of(_forward)
    links = tuple([_Link() for _ in range(_LINKS)])
    untraced = _Chain(links, _forward)
    traced = _Chain(links, recorded)
    plain, phases, full = _Runs(), _Runs(), _Runs()
    for _ in range(1 + _ROUNDS):
        plain.add(untraced, _forward)
        for runs, phases_only in ((phases, True), (full, False)):
            record = Record("step", 0, 0, 0, phases_only=phases_only)
            recorder.step.turn_to(record)
            runs.add(traced, recorded)
            runs.events = len(record.log) // WIDTH
    recorder.step.turn_to(None)
    events = full.events - phases.events
    left_out = max(phases.inside_ns - plain.inside_ns, 0)
    return CallCost(
        event=_COLD * max(full.ns - phases.ns, 0) / events,
        left_out=_COLD * left_out / events,
        root=_COLD * max(phases.ns - plain.ns - left_out, 0),
    )


def _forward(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    return module.forward(*args, **kwargs)


class _Link(nn.Module):
    """To autograd like a linear layer: its output is a view, and its weight is a leaf.

    It multiplies no matrices: the first time, that loads libraries which the program may never need. Its weight is
    no parameter: hooks on registration are the program's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = _tensor()

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.weight).view(2, 4)


def _tensor() -> Tensor:
    return torch.zeros(2, 4, dtype=torch.float32, device="cpu", requires_grad=True)


class _Chain(nn.Module):
    """Calls its links by `call`. They are not registered: hooks on registration are the program's."""

    def __init__(self, links: tuple[_Link, ...], call: Callable[..., Any]) -> None:
        super().__init__()
        self.links = links
        self.call = call
        self.inside_ns = 0

    def forward(self, x: Tensor) -> Tensor:
        call = self.call
        start = now()
        for link in self.links:
            x = call(link, x)
        self.inside_ns = now() - start
        return x


class _Runs:
    """How long the chain took, run after run."""

    def __init__(self) -> None:
        self.events = 0  # of the record of the last
        self._all: list[int] = []
        self._inside: list[int] = []

    def add(self, chain: _Chain, call: Callable[..., Any]) -> None:
        x = _tensor()
        start = now()
        x = call(chain, x)
        if x.requires_grad:
            x.sum().backward()  # with a gradient given, torch imports all of sympy the first time
        self._all.append(now() - start)
        self._inside.append(chain.inside_ns)

    # Without the first, in which all was new.

    @property
    def ns(self) -> float:
        return min(self._all[1:])

    @property
    def inside_ns(self) -> float:
        """Of the forwards of the links alone."""
        return min(self._inside[1:])


class _AllRecorded:
    """The boundary of the chain's calls."""

    def root_opens(self, module: nn.Module, *_: Any) -> bool:
        return True

    def root_closes(self, failed: bool) -> None: ...

    def task_opens(self) -> None: ...

    def task_closes(self, time: int, failed: bool, accumulates: bool) -> None: ...

    def lose(self, error: BaseException, where: str) -> None:
        raise CalibrationError("recording a chain of tiny modules failed") from error
