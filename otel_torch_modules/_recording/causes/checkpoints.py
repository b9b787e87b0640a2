"""Checkpoints that are written and read: by ``torch.save`` and ``torch.load``, and by ``torch.distributed.checkpoint``.

That package is not imported for it: what it has is wrapped when the program has imported it and a record opens.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import PurePath
from time import perf_counter_ns as now
from typing import Any, Final, Protocol

import torch

from otel_torch_modules._events import CHECKPOINT, Detail, Stretch
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.causes.happened import Happened
from otel_torch_modules._recording.imported_names import put_on, take_off
from otel_torch_modules._recording.wrapped import Function, Wrapped

SHORTEST = 1_000_000
"""One that takes less (ns) leaves nothing: it is a batch or a setting that is kept in a file."""

_DISTRIBUTED: Final = "torch.distributed.checkpoint"

# Those that know their place without asking code of the program's.
_BUFFERS: Final = (io.BytesIO, io.BufferedWriter, io.BufferedReader, io.BufferedRandom, io.FileIO)


class Loop(Protocol):
    """Knows where steps are."""

    @property
    def loads_data(self) -> bool:
        """Whether a data loader is at work in this thread, or it is in a worker process of one."""

    def takes_apart(self, event: Stretch, start: int, end: int, detail: Any) -> bool:
        """Return whether `event`, which ended now in this thread, lies between steps and is a record by itself."""


class _Depth(threading.local):
    value = 0  # how many checkpoints are open, one inside the other


class Checkpoints:
    """Adds a cause for each checkpoint in a step; hands the others to the loop.

    Args:
        happened: what those in a step are added to.
        loop: returns what knows where steps are.
    """

    def __init__(self, happened: Happened, loop: Callable[[], Loop]) -> None:
        self._happened = happened
        self._guarded_add = happened.guarded(self._add, "after a checkpoint")
        self._loop = loop
        self._depth = _Depth()
        self._wrapped: list[Wrapped] = []
        self._knows_distributed = False

    def install(self) -> None:
        """Put the wrappers on."""
        self._put_on(
            self._timed("save", "save", 1, torch, torch.serialization),
            self._timed("load", "load", 0, torch, torch.serialization),
        )
        self.record_opens()

    def uninstall(self) -> None:
        """Undo `install`."""
        take_off(self._wrapped)
        self._wrapped.clear()
        self._knows_distributed = False

    def record_opens(self) -> None:
        """Wrap what the program has imported since."""
        if self._knows_distributed or _DISTRIBUTED not in sys.modules:
            return
        saver = sys.modules.get(f"{_DISTRIBUTED}.state_dict_saver")
        loader = sys.modules.get(f"{_DISTRIBUTED}.state_dict_loader")
        package = sys.modules[_DISTRIBUTED]
        if saver is None or loader is None or not hasattr(package, "async_save"):
            return  # it is being imported
        self._knows_distributed = True
        self._put_on(
            self._timed("save", "save", None, package, saver),
            self._timed("save", "async_save", None, package, saver),
            self._timed("load", "load", None, package, loader),
        )

    def _put_on(self, *functions: Wrapped) -> None:
        self._wrapped += functions
        put_on(functions)

    def _timed(self, kind: str, name: str, file_place: int | None, *owners: object) -> Wrapped:
        add, depth = self._guarded_add, self._depth

        def wrap(original: Function) -> Function:
            function = f"{original.__module__}.{original.__qualname__}"

            def timed(*args: Any, **kwargs: Any) -> Any:
                if depth.value:
                    return original(*args, **kwargs)
                start = now()
                depth.value = 1
                try:
                    return original(*args, **kwargs)
                finally:
                    depth.value = 0
                    end = now()
                    if end - start >= SHORTEST:
                        add(kind, start, end, function, (file_place, args, kwargs))

            return timed

        return Wrapped(name, wrap, *owners)

    def _add(self, kind: str, start: int, end: int, function: str, called_with: _Arguments) -> None:
        loop = self._loop()
        if not loop.loads_data:
            detail = Detail(kind, (function, _size(_file(*called_with))))
            if not loop.takes_apart(CHECKPOINT, start, end, detail):
                self._happened.add(CHECKPOINT, self._happened.code(), start, end, detail)


# Where the file is among the arguments, None where there is none; and these.
_Arguments = tuple[int | None, tuple[Any, ...], dict[str, Any]]


def _file(place: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if place is None:
        return None
    return args[place] if len(args) > place else kwargs.get("f")


def _size(file: Any) -> int | None:
    """Return how many bytes a file has, or have been written and read of it; None where that is not known."""
    try:
        if isinstance(file, (str, PurePath)):
            return os.stat(file).st_size
        return file.tell() if type(file) in _BUFFERS else None
    except BaseException as error:
        if is_interruption(error):
            raise
        return None
