"""One OpenTelemetry trace per PyTorch training step.

The names below are loaded when they are first used: importing this package imports neither torch nor the SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_torch_modules.config import Config
    from otel_torch_modules.instrumentor import TorchModuleInstrumentor, step, trace
    from otel_torch_modules.keep import Keep
    from otel_torch_modules.schedule import Schedule
    from otel_torch_modules.tracker.module_tracker import ModuleTracker

__all__ = [
    "Config",
    "Keep",
    "ModuleTracker",
    "Schedule",
    "TorchModuleInstrumentor",
    "step",
    "trace",
]

_HOMES = {
    "Config": "config",
    "Keep": "keep",
    "ModuleTracker": "tracker.module_tracker",
    "Schedule": "schedule",
    "TorchModuleInstrumentor": "instrumentor",
    "step": "instrumentor",
    "trace": "instrumentor",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
