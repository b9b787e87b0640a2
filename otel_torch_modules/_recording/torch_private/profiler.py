"""What torch's profiler imports while it looks at frames already."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from otel_torch_modules._interruption import suppressed

_IMPORTED: Final = ("torch.profiler._cupti_monitor", "torch.profiler.python_tracer")


def import_for_profiler() -> None:
    """Import it before a profiler starts, for a millisecond.

    Checked on 2.13: with ``with_stack=True`` it notes where the names of functions lie, and reads them when its results
    are asked for. What a module that was imported meanwhile is compiled to is gone by then, and what other threads have
    put in its place is no text: a program with one, as with ours, cannot read its first profile now and then.
    A torch that lacks the names imports nothing here.
    """
    for name in _IMPORTED:
        with suppressed(ImportError):
            import_module(name)
