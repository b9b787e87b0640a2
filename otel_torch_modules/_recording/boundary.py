"""What the recorder asks and tells where a record may begin or end."""

from __future__ import annotations

from typing import Protocol

from torch import nn


class Boundary(Protocol):
    """Decides where a record begins and ends. Called on the training thread, a few times a step."""

    def root_opens(self, module: nn.Module) -> bool:
        """Return whether the root call of `module` that begins now is recorded."""

    def root_closes(self, failed: bool) -> None:
        """Take note of the end of the last root call in this thread."""

    def task_opens(self) -> None:
        """Take note of a backward that begins."""

    def task_closes(self, failed: bool) -> None:
        """Take note of a backward that ended."""

    def recorder_failed(self) -> None:
        """Take everything down: an error of ours must not happen twice."""
