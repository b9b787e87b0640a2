"""What the recorder asks and tells where a record may begin or end."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn


class Boundary(Protocol):
    """Decides where a record begins and ends. Asked a few times a step."""

    def root_opens(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether the root call of `module` that begins now, with these arguments, is recorded."""

    def root_closes(self, failed: bool) -> None:
        """Take note of the end of the last root call in this thread."""

    def task_opens(self) -> None:
        """Take note of a backward that begins."""

    def task_closes(self, time: int, failed: bool, accumulates: bool) -> None:
        """Take note of a backward that ended, now or at some `time` (ns) since the last call.

        Args:
            time: when, by the clock of records.
            failed: an exception ended it.
            accumulates: it has left gradients, unlike one that was asked for those of certain tensors.
        """

    def lose(self, error: BaseException, where: str) -> None:
        """Drop the record that is open in this thread: `error` came up in us at the place that `where` names.

        What the root call or the step does from now on is not recorded either, and what comes after begins clean.
        """
