"""Exceptions and tensors as text: kept themselves, they would keep memory of the program's alive."""

from __future__ import annotations

import traceback
from typing import Any

from otel_torch_modules._recording.marks import tensors
from otel_torch_modules._records import Raised, Shapes


def describe_error(error: BaseException, with_stacktrace: bool) -> Raised:
    """Return type, message and, where asked for, stack trace of `error`."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    try:
        message = str(error)
    except Exception:
        message = "<its text cannot be had>"
    stacktrace = ""
    if with_stacktrace:
        stacktrace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    return Raised(name, message, stacktrace)


def describe_tensors(values: Any) -> Shapes:
    """Return shapes and dtypes of the tensors in `values`."""
    found = list(tensors(values))
    return Shapes(tuple(str(list(t.shape)) for t in found), tuple(str(t.dtype) for t in found))
