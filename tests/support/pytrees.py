"""Classes that torch's pytree knows for the length of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import _pytree as pytree


@contextmanager
def registered(
    cls: type, flatten: Callable[[Any], Any], unflatten: Callable[..., Any]
) -> Iterator[None]:
    """Have `cls` be a pytree in the block.

    torch has a function that takes one back from 2.7 on only.
    """
    pytree.register_pytree_node(cls, flatten, unflatten, serialized_type_name=cls.__qualname__)
    try:
        yield
    finally:
        del pytree.SUPPORTED_NODES[cls]
        written = pytree.SUPPORTED_SERIALIZED_TYPES.pop(cls).serialized_type_name
        del pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE[written]
