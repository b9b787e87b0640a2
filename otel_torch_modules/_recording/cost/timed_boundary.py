"""What the training thread does where a record may begin or end, on account: only where there is a budget."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns as now

from torch import nn

from otel_torch_modules._recording.boundary import Boundary


class TimedBoundary:
    """Another boundary, and how long it takes.

    Args:
        boundary: decides.
        spend: told the nanoseconds.
    """

    def __init__(self, boundary: Boundary, spend: Callable[[int], None]) -> None:
        self._boundary = boundary
        self._spend = spend

    def root_opens(self, module: nn.Module) -> bool:
        """See :class:`Boundary`, as for what follows."""
        start = now()
        try:
            return self._boundary.root_opens(module)
        finally:
            self._spend(now() - start)

    def root_closes(self, failed: bool) -> None:
        start = now()
        try:
            self._boundary.root_closes(failed)
        finally:
            self._spend(now() - start)

    def task_opens(self) -> None:
        start = now()
        try:
            self._boundary.task_opens()
        finally:
            self._spend(now() - start)

    def task_closes(self, time: int, failed: bool) -> None:
        start = now()
        try:
            self._boundary.task_closes(time, failed)
        finally:
            self._spend(now() - start)

    def lose(self, error: BaseException, where: str) -> None:
        self._boundary.lose(error, where)
