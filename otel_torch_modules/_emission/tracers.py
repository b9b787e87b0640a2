"""Tracers of a provider, got so that the program's warnings are shown no more often than without us.

The SDK puts a filter of warnings in front of all others each time that it is asked for a tracer. Python then forgets
which warnings each module has shown, and what a program warned of before its first step would be shown once more. So
the SDK's own function is called with one in the place of `warnings.filterwarnings` that tells Python of no change: to
set that right afterwards is too late where another thread warns meanwhile.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, Final

from opentelemetry import trace

# Warnings that the SDK's filter leaves out, now and in early versions: asking for them shows nothing.
_LEFT_OUT: Final = (
    "You should use InstrumentationScope. Deprecated since version 1.11.1.",
    "Call to deprecated method __init__. (You should use InstrumentationScope) "
    "-- Deprecated since version 1.11.1.",
)
_MODULE: Final = "opentelemetry.sdk.trace"

_FILTER: Final = "filterwarnings"

# Where a module has what it has shown, and there, after how many changes of the filters that was.
_SHOWN: Final = "__warningregistry__"
_CHANGES: Final = "version"


def tracer_of(provider: trace.TracerProvider, *scope: Any) -> trace.Tracer:
    """Return what `get_tracer` of `provider` returns for the same arguments."""
    own = vars(type(provider)).get("get_tracer")
    if isinstance(own, FunctionType) and own.__globals__.get(_FILTER) is warnings.filterwarnings:
        return _filtering_by(_filter_untold, own)(provider, *scope)
    before = _front()
    tracer = provider.get_tracer(*scope)
    after = _front()
    if after is not before:
        for left_out in _LEFT_OUT:
            if _leaves_out(after, left_out):
                _keep_shown(left_out)
    return tracer


def _filtering_by(
    add_filter: Callable[..., None], own: FunctionType
) -> Callable[..., trace.Tracer]:
    """Return `own`, a function of the SDK, so that it adds filters of warnings by `add_filter`."""
    names = {**own.__globals__, _FILTER: add_filter}
    return FunctionType(own.__code__, names, own.__name__, own.__defaults__, own.__closure__)


def _filter_untold(
    action: str, message: str = "", category: type[Warning] = Warning, module: str = "", **_: Any
) -> None:
    """Put a filter in front of all others as `warnings.filterwarnings` does, and forget nothing that was shown."""
    text = re.compile(message, re.IGNORECASE) if message else None
    added = action, text, category, re.compile(module) if module else None, 0
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    if added in filters:
        filters.remove(added)
    filters.insert(0, added)


def _front() -> Any:
    return warnings.filters[0] if warnings.filters else None


def _leaves_out(front: Any, text: str) -> bool:
    action, message, *_ = front
    return action == "ignore" and isinstance(message, re.Pattern) and bool(message.match(text))


def _keep_shown(left_out: str) -> None:
    """Have what was shown before the last change of the filters count as shown after it."""
    registry: dict[str | tuple[str, type[Warning], int], int] = {}
    warnings.warn_explicit(
        left_out, DeprecationWarning, __file__, 1, module=_MODULE, registry=registry
    )
    changes = registry.get(_CHANGES)
    if changes is None:
        return
    for module in list(sys.modules.values()):
        shown = vars(module).get(_SHOWN) if isinstance(module, ModuleType) else None
        if type(shown) is dict and shown.get(_CHANGES) == changes - 1:
            shown[_CHANGES] = changes
