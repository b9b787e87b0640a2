"""What the loop itself calls beside modules and optimizers: clipping, dropped gradients, scaling, learning rates."""

from __future__ import annotations

from time import perf_counter_ns as now
from typing import Any

from torch import nn
from torch.amp import GradScaler
from torch.compiler import is_dynamo_compiling
from torch.nn.utils import clip_grad
from torch.optim import Optimizer, lr_scheduler

from otel_torch_modules._events import LOOP_CALL
from otel_torch_modules._recording.causes.happened import Happened
from otel_torch_modules._recording.imported_names import put_on, take_off
from otel_torch_modules._recording.torch_private.compilation import compiler
from otel_torch_modules._recording.wrapped import Function, Wrapped

SHORTEST = 50_000
"""A call that takes less (ns) leaves nothing."""


class LoopCalls:
    """Adds a cause for each of these calls that takes long.

    Args:
        happened: what it is added to.
    """

    def __init__(self, happened: Happened) -> None:
        self._happened = happened
        self._guarded_add = happened.guarded(self._add, "after a call of the loop's own")
        schedulers = [kind for kind in vars(lr_scheduler).values() if _has_step_of_its_own(kind)]
        self._wrapped = [
            self._timed("clip_grad_norm", "clip_grad_norm_", nn.utils, clip_grad),
            self._timed("clip_grad_value", "clip_grad_value_", nn.utils, clip_grad),
            self._timed("zero_grad", "zero_grad", Optimizer),
            self._timed("zero_grad", "zero_grad", nn.Module),
            self._timed("scaler.unscale", "unscale_", GradScaler),
            self._timed("scaler.update", "update", GradScaler),
            *(self._timed("lr_scheduler.step", "step", kind) for kind in schedulers),
        ]

    def install(self) -> None:
        """Put the wrappers on."""
        put_on(self._wrapped)

    def uninstall(self) -> None:
        """Undo `install`."""
        take_off(self._wrapped)

    def _timed(self, name: str, function_name: str, *owners: object) -> Wrapped:
        add = self._guarded_add

        def wrap(original: Function) -> Function:
            def timed(*args: Any, **kwargs: Any) -> Any:
                if is_dynamo_compiling() or compiler._is_compiling_flag:
                    return original(*args, **kwargs)
                start = now()
                try:
                    return original(*args, **kwargs)
                finally:
                    end = now()
                    if end - start >= SHORTEST:
                        add(start, end, name)

            return timed

        return Wrapped(function_name, wrap, *owners)

    def _add(self, start: int, end: int, name: str) -> None:
        self._happened.add(LOOP_CALL, self._happened.code(), start, end, name)


def _has_step_of_its_own(kind: object) -> bool:
    return (
        isinstance(kind, type)
        and issubclass(kind, lr_scheduler.LRScheduler)
        and "step" in vars(kind)
    )
