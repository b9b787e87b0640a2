"""What is taken of torch for `tensors.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode

from otel_torch_modules._recording.torch_private.tensors import (
    pytree_flattener,
    torch_function_modes,
    version_of,
)


def test_torch_function_modes() -> None:
    class Mode(TorchFunctionMode):
        pass

    before = torch_function_modes()
    with Mode():
        assert torch_function_modes() == before + 1
    assert torch_function_modes() == before


def test_version_of() -> None:
    tensor = torch.ones(1)
    versions = [version_of(tensor)]
    tensor += 1
    versions.append(version_of(tensor))
    with torch.inference_mode():
        versions.append(version_of(torch.ones(1)))
    assert versions == [0, 1, 0]


def test_pytree_flattener() -> None:
    flatten = pytree_flattener(dict)
    assert flatten is not None
    assert list(flatten({"a": 1, "b": 2})[0]) == [1, 2]
    assert pytree_flattener(int) is None
