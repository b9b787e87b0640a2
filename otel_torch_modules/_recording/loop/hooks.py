"""The hooks outside modules: what a training loop does with optimizers, gradients and data loaders."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter_ns as now
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from otel_torch_modules._recording.loop.training_loop import TrainingLoop
from otel_torch_modules._recording.torch_private.compilation import compiler, told_by_dynamo
from otel_torch_modules._recording.torch_private.loop import LOADER_ITERATOR
from otel_torch_modules._recording.wrapped import Function, Wrapped, uninstall_all


class LoopHooks:
    """Tells `loop` when an optimizer steps or is skipped, when gradients are dropped and when the loop has waited.

    Optimizers have torch's global hooks, the others are wrapped.

    Args:
        loop: what is told.
        spend: told the nanoseconds that this took; None where there is no budget.
    """

    def __init__(self, loop: TrainingLoop, spend: Callable[[int], None] | None = None) -> None:
        self._loop = loop
        self._spend = spend
        self._handles: list[RemovableHandle] = []
        self._wrapped = (
            Wrapped("__next__", self._around_fetch, LOADER_ITERATOR),
            Wrapped("step", self._around_scaler, GradScaler),
            Wrapped("zero_grad", self._before_zero_grad, Optimizer),
            Wrapped("zero_grad", self._before_zero_grad, nn.Module),
            *_joins(self._before_join),
        )

    def install(self) -> None:
        """Put the hooks on."""
        self._handles = [
            register_optimizer_step_pre_hook(
                self._guarded(
                    self._loop.optimizer_starts,
                    "before an optimizer's step",
                    told_by_dynamo(self._loop.optimizer_is_compiled),
                )
            ),
            register_optimizer_step_post_hook(
                self._guarded(self._loop.optimizer_ends, "after an optimizer's step")
            ),
        ]
        for wrapped in self._wrapped:
            wrapped.install()

    def uninstall(self) -> None:
        """Undo `install`. A wrapper that somebody has wrapped since stays and only passes calls on."""
        with ExitStack() as undo:  # each, whatever another raises
            for handle in self._handles:
                undo.callback(handle.remove)
            undo.callback(uninstall_all, self._wrapped)
        self._handles = []

    def _guarded(
        self, hook: Callable[..., None], where: str, traced: Callable[[], None] | None = None
    ) -> Callable[..., None]:
        """Return `hook` so that an error of ours in it stays ours; where Dynamo traces it, `traced` is called."""
        spend = self._spend

        def guarded(*arguments: Any) -> None:
            # The step of an optimizer inside compiled code: no graph breaks for our sake.
            if is_dynamo_compiling():
                if traced is not None:
                    traced()
                return
            if compiler._is_compiling_flag:
                return
            start = 0 if spend is None else now()
            try:
                hook(*arguments)
            except BaseException:
                if self._loop.recorder.fail(where):
                    raise
            if spend is not None:
                spend(now() - start)

        return guarded

    def _around_fetch(self, original: Function) -> Function:
        fetches = self._loop.fetches
        fetch_fails = self._guarded(self._loop.fetch_fails, "where a data loader has no batch")
        fetched = self._guarded(self._loop.fetched, "after a data loader's batch")

        def fetch(iterator: Any) -> Any:
            start = now()
            if not fetches.at_work:
                fetches.calls = None  # of one that raised
                fetches.began = start
            fetches.at_work += 1
            try:
                batch = original(iterator)
            except BaseException as error:  # StopIteration, most often: that was no batch
                fetch_fails(iterator, error)
                raise
            finally:
                # Not by a call: a signal handler that raises could come between.
                fetches.at_work -= 1
            fetched(iterator, start)
            return batch

        return fetch

    def _around_scaler(self, original: Function) -> Function:
        optimizers = self._loop.optimizers
        scaler_ends = self._guarded(self._loop.scaler_ends, "after a gradient scaler's step")

        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            ended_before = optimizers.ended
            result = original(scaler, optimizer, *args, **kwargs)
            scaler_ends(optimizer, ended_before)
            return result

        return step

    def _before_zero_grad(self, original: Function) -> Function:
        dropped = self._guarded(self._loop.gradients_dropped, "before gradients are dropped")
        current = self._loop.current

        def zero_grad(*args: Any, **kwargs: Any) -> Any:
            if not is_dynamo_compiling():
                step = current.step
                if step is not None and step.backwards and not step.ended:
                    dropped(step)
            return original(*args, **kwargs)

        return zero_grad

    def _before_join(self, original: Function) -> Function:
        joins = self._guarded(self._loop.ranks_join, "where ranks join")

        def leave(*args: Any) -> Any:
            joins()
            return original(*args)

        return leave


def _joins(wrap: Callable[[Function], Function]) -> list[Wrapped]:
    """Return the end of ``DDP.join``'s context, where this torch has one."""
    if not torch.distributed.is_available():
        return []
    from torch.distributed.algorithms.join import Join

    return [Wrapped("__exit__", wrap, Join)]
