"""The evaluations between two of their forwards: the next forward may go on with one, or show that it was none.

The worker sends off what has waited for a while, so each has one owner: who removes it from what is held.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns as now

from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._recording.loop.evaluation import Evaluation, Forward
from otel_torch_modules._recording.losses import Losses

PAUSE = 500_000_000
"""An evaluation ends when no forward has begun for so long (ns)."""

# How many that are one forward each wait for what follows.
_MOST_OF_ONE_FORWARD = 4


class HeldEvaluations:
    """Those of all threads, the one that has waited longest first.

    Args:
        admission: takes those that are over.
        losses: told of what an error of ours has cost.
    """

    def __init__(self, admission: Admission, losses: Losses) -> None:
        self._admission = admission
        self._losses = losses
        self._held: deque[Evaluation] = deque()

    def hold(self, evaluation: Evaluation) -> None:
        """Let `evaluation` wait for what follows."""
        self._held.append(evaluation)
        if evaluation.is_one_forward:
            single = [one for one in list(self._held) if one.is_one_forward]
            for earlier in single[:-_MOST_OF_ONE_FORWARD]:
                self._send_held(earlier)

    def take_back(self, evaluation: Evaluation) -> bool:
        """Return whether `evaluation` is the caller's again, and not the worker's."""
        try:
            self._held.remove(evaluation)
        except ValueError as error:
            if is_interruption(error):
                raise
            return False
        return True

    def put_last(self, evaluation: Evaluation) -> None:
        """Let `evaluation` wait for what follows from now on, if it still waits."""
        if [*self._held][-1:] != [evaluation] and self.take_back(evaluation):
            self._held.append(evaluation)

    def of_thread(self) -> list[Evaluation]:
        """Return those of the thread that asks, in order."""
        return [one for one in list(self._held) if one.thread_id == threading.get_ident()]

    def take_forwards(self, wanted: Callable[[Forward], bool]) -> list[Forward]:
        """Take the last forwards of this thread back, as long as they are `wanted`; return them in order."""
        taken: list[Forward] = []
        for evaluation in reversed(self.of_thread()):
            if not evaluation.forwards or not wanted(evaluation.forwards[-1]):
                break
            if not self.take_back(evaluation):
                break
            while evaluation.forwards and wanted(evaluation.forwards[-1]):
                taken.insert(0, evaluation.take_last())
            if evaluation.record.log:
                self._held.append(evaluation)
                break
        return taken

    def end_those_of_thread(self) -> None:
        """Send off those of the thread that asks."""
        if self._held:
            for evaluation in self.of_thread():
                self._send_held(evaluation)

    def end_all(self) -> None:
        """Send off those of all threads."""
        with suppressed(IndexError):
            while True:
                self.send(self._held.popleft())

    def end_idle(self) -> None:
        """Send off those that have waited for a while, or whose thread is gone."""
        for evaluation in list(self._held):
            if now() - evaluation.record.end > PAUSE or evaluation.thread() is None:
                self._send_held(evaluation)

    def abandon(self) -> None:
        """Drop all: they are another process's."""
        self._held.clear()

    def send(self, evaluation: Evaluation) -> None:
        """Send off what is the caller's."""
        try:
            record = evaluation.close()
            if record is not None:
                self._admission.close(record)
        except BaseException as error:  # it costs no other record, such as the step that opens
            self._losses.add(error, "where an evaluation is handed over")
            if is_interruption(error):
                raise

    def _send_held(self, evaluation: Evaluation) -> None:
        if self.take_back(evaluation):
            self.send(evaluation)
