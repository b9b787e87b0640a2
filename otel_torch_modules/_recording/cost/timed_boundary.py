"""What the training thread does where a record may begin or end, on account: only where there is a budget."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns as now
from typing import Any, TypeVar

from torch import nn

from otel_torch_modules._recording.boundary import Boundary

_R = TypeVar("_R")


class TimedBoundary:
    """Another boundary, and how long it takes.

    Args:
        boundary: decides.
        spend: told the nanoseconds.
    """

    def __init__(self, boundary: Boundary, spend: Callable[[int], None]) -> None:
        self._boundary = boundary
        self._spend = spend

    def root_opens(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """See :class:`Boundary`, as for what follows."""
        return self._timed(self._boundary.root_opens, module, args, kwargs)

    def root_closes(self, failed: bool) -> None:
        self._timed(self._boundary.root_closes, failed)

    def task_opens(self) -> None:
        self._timed(self._boundary.task_opens)

    def task_closes(self, time: int, failed: bool, accumulates: bool) -> None:
        self._timed(self._boundary.task_closes, time, failed, accumulates)

    def lose(self, error: BaseException, where: str) -> None:
        self._boundary.lose(error, where)

    def _timed(self, method: Callable[..., _R], *arguments: Any) -> _R:
        start = now()
        try:
            return method(*arguments)
        finally:
            self._spend(now() - start)
