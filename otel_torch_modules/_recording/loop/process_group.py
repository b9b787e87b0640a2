"""The default process group is destroyed: a job says so when it ends, and launchers kill without warning after that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import distributed

from otel_torch_modules._recording.imported_names import put_on, take_off
from otel_torch_modules._recording.wrapped import Function, Wrapped, guarded


class ProcessGroupEnd:
    """Calls `ended` whenever the default process group has been destroyed.

    Not before: whoever is interrupted meanwhile has a group that is gone, and not half of one, and no other rank waits.

    Args:
        ended: may wait for a moment; what it raises costs a record.
        fail: see `Recorder.fail`.
    """

    def __init__(self, ended: Callable[[], None], fail: Callable[[str], bool]) -> None:
        self._ended = guarded(ended, "where the process group is destroyed", fail)
        self._wrapped: list[Wrapped] = []

    def install(self) -> None:
        """Put the wrapper on."""
        if distributed.is_available():
            owners = distributed, distributed.distributed_c10d
            self._wrapped = [Wrapped("destroy_process_group", self._around, *owners)]
        put_on(self._wrapped)

    def uninstall(self) -> None:
        """Undo `install`."""
        take_off(self._wrapped)
        self._wrapped = []

    def _around(self, original: Function) -> Function:
        ended = self._ended

        def destroy(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if not distributed.is_initialized():
                ended()
            return result

        return destroy
