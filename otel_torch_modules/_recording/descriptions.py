"""Tensors as text: kept themselves, they would keep memory of the program's alive."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.contents import tensors
from otel_torch_modules._recording.torch_private.tensors import without_torch_function

# As torch has them, whatever a subclass does.
_dtype = Tensor.dtype.__get__  # type: ignore[attr-defined]
_sizes = Tensor.shape.__get__  # type: ignore[attr-defined]


def describe_tensors(values: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return shapes and dtypes of the tensors in `values`, those that are held outermost first."""
    with without_torch_function():
        found = [(_shape(tensor), str(_dtype(tensor))) for tensor in tensors(values)]
    return tuple([shape for shape, _ in found]), tuple([dtype for _, dtype in found])


def _shape(tensor: Tensor) -> str:
    try:
        return str(list(_sizes(tensor)))
    except BaseException as error:
        if is_interruption(error):
            raise
        # A nested tensor has none, and a subclass may make it up by code of its own.
        return "?"
