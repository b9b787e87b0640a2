"""The hooks outside modules: optimizers, by torch's global hooks, and the loop's wait for a data loader."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from time import perf_counter_ns as now
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data.dataloader import _BaseDataLoaderIter
from torch.utils.hooks import RemovableHandle

from otel_torch_modules._recording.steps import Steps


class LoopHooks:
    """Tells `steps` when an optimizer steps and when the loop has waited for a batch."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._handles: list[RemovableHandle] = []
        self._original: Callable[[Any], Any] | None = None
        self._wrapper: Callable[[Any], Any] | None = None

    def install(self) -> None:
        """Put the hooks on."""
        self._handles = [
            register_optimizer_step_pre_hook(
                self._guarded(self._steps.optimizer_starts, "before an optimizer's step")
            ),
            register_optimizer_step_post_hook(
                self._guarded(self._steps.optimizer_ends, "after an optimizer's step")
            ),
        ]
        self._original = _BaseDataLoaderIter.__next__
        self._wrapper = self._wrap(_BaseDataLoaderIter.__next__)
        _BaseDataLoaderIter.__next__ = self._wrapper  # type: ignore[assignment, method-assign]

    def uninstall(self) -> None:
        """Undo `install`. A wrapper that somebody has wrapped since stays and only passes calls on."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if _BaseDataLoaderIter.__next__ is self._wrapper:
            _BaseDataLoaderIter.__next__ = self._original  # type: ignore[method-assign, assignment]
        self._wrapper = None

    def _guarded(self, hook: Callable[..., None], where: str) -> Callable[..., None]:
        is_compiling = torch.compiler.is_compiling

        def guarded(*arguments: Any) -> None:
            # The step of an optimizer inside compiled code: no graph breaks for our sake.
            if is_compiling():
                return
            try:
                hook(*arguments)
            except Exception:
                self._steps.recorder.fail(where)

        return guarded

    def _wrap(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        fetch_starts = self._guarded(self._steps.fetch_starts, "before a data loader's batch")
        fetch_fails = self._guarded(self._steps.fetch_fails, "where a data loader has no batch")
        fetched = self._guarded(self._steps.fetched, "after a data loader's batch")

        @wraps(original)
        def __next__(iterator: Any) -> Any:  # noqa: N807
            if self._wrapper is None:
                return original(iterator)
            start = now()
            fetch_starts()
            try:
                batch = original(iterator)
            except BaseException:  # StopIteration, most often: that was no batch
                fetch_fails()
                raise
            fetched(iterator, start)
            return batch

        return __next__
