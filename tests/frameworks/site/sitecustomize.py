"""Lets a torchvision that was built for CUDA be imported beside a torch that was built for the CPU.

Its library cannot be loaded then, and its import asks for two operators that the library would have declared. Nothing
here is imported before the program imports torchvision itself.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import version
from typing import Any

_OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None and not version("torchvision").endswith("+cpu"):
                for name, schema in _OPERATORS.items():
                    torch.library.define(f"torchvision::{name}", schema)


sys.meta_path.insert(0, _BeforeTorchvision())
