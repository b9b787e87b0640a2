"""Ranks of a job as a user's commands see them: real files, written by what real ranks write them by; nobody trains."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from otel_torch_modules._control.report import MODULES, NOTHING
from otel_torch_modules._control.request import Request, RunStart
from otel_torch_modules._engine.control import Control, Rank, Stand
from otel_torch_modules._records import Record

RUN = RunStart("night 3", "0.0", 4)


class SimulatedRank:
    """One rank.

    Args:
        folder: that it shares.
        number: of it.
        run: which.
        seconds_per_step: as long as they take.
    """

    def __init__(
        self, folder: Path, number: int, run: RunStart = RUN, seconds_per_step: float = 0.1
    ) -> None:
        self.request: Request | None = None
        self.seconds_per_step = seconds_per_step
        self.recorded: list[int] = []
        self.ahead = 0
        """Steps more than there was time for."""
        self._began = time.monotonic()
        self._step = -1
        rank = Rank(run, number, True)
        self.control = Control(
            folder, lambda: rank, self._stand, lambda: self._step + 1, self, lambda: None
        )

    def end(self) -> None:
        self.request = None

    forget = end

    def _stand(self) -> Stand:
        depth = MODULES if self._step in self.recorded else NOTHING
        return Stand(self._step, self._step, time.monotonic_ns(), "backward", 0.0, depth)

    def go_on(self) -> None:
        """Be in the step that it is time for, and let the worker look."""
        last = self.ahead + int((time.monotonic() - self._began) / self.seconds_per_step)
        while self._step < last:
            self._step += 1
            request = self.request
            if request is not None and request.first <= self._step <= request.last:
                self.recorded.append(self._step)
                self.control.asked.tell(
                    Record("step", self._step, 0, 0, trace_id=1 + self._step), ""
                )
        self.control.look()


class SimulatedRanks:
    """Ranks that go on until the end of the block."""

    def __init__(self, ranks: Sequence[SimulatedRank]) -> None:
        self.ranks = list(ranks)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            for rank in list(self.ranks):
                rank.go_on()

    def __enter__(self) -> SimulatedRanks:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
