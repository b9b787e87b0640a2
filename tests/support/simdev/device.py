"""The simulated accelerator as the device type ``sim`` of this process: importing this registers it.

Results are computed at once, on the CPU, but time passes on a virtual device: each stream has a moment at which all
that was put on it will be done, and a kernel moves it on by its own time. So work queues as on a GPU, nothing runs in
parallel, and each device time is known in advance. `torch.Event`, streams, `torch.accelerator`, memory statistics and
autograd's thread for the device are the real ones. A process that has it has an accelerator for the rest of its life:
tests use it in processes of their own.
"""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tests.support.simdev.build import NAME, library


def _load() -> Any:
    loader = ExtensionFileLoader(NAME, str(library()))
    spec = spec_from_loader(NAME, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


_extension = _load()


class Simulated(ModuleType):
    """What torch asks of ``torch.<device type>``."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def synchronize(self, device: object = None) -> None:
        torch.accelerator.synchronize()

    def manual_seed_all(self, seed: int) -> None:
        pass  # its random numbers are the CPU's

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def _is_in_bad_fork(self) -> bool:
        return False


torch.utils.rename_privateuse1_backend("sim")  # type: ignore[attr-defined]
torch._register_device_module("sim", Simulated("torch.sim"))
torch.utils.generate_methods_for_privateuse1_backend()  # type: ignore[attr-defined]


def launch(nanoseconds: int) -> None:
    """Put a kernel that takes so long on the current stream."""
    _extension.launch(nanoseconds)


def set_kernel_time(nanoseconds: int) -> None:
    """Let every operation of torch's take so long on the device from now on; at first it is nothing."""
    _extension.set_kernel_time(nanoseconds)


def set_capturing(capturing: bool) -> None:
    """Let streams say that they capture a graph, as they do while a `torch.accelerator.Graph` does.

    Raises:
        RuntimeError: at the end, where an event was asked for meanwhile. One that was recorded meanwhile must never be.
    """
    _extension.set_capturing(capturing)


def set_clock(*, drift: float, tick: int) -> None:
    """Let the device's clock go wrong.

    Args:
        drift: parts in a million by which it is too fast.
        tick: nanoseconds that it counts in.
    """
    _extension.set_clock(drift, tick)


def queued_until() -> int:
    """Return when all that is on the current stream will be done, in the terms of `time.perf_counter_ns`."""
    done: int = _extension.queued_until()
    return done


def counts() -> dict[str, int]:
    """Return how often the process has synchronised, recorded and queried events and launched, and the events alive."""
    counted: dict[str, int] = _extension.counts()
    return counted


class _Kernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, forward_ns: int, backward_ns: int) -> Tensor:
        ctx.backward_ns = backward_ns
        launch(forward_ns)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        launch(ctx.backward_ns)
        return gradients[0], None, None


def kernel(values: Tensor, forward_ns: int, backward_ns: int) -> Tensor:
    """Return `values`, by a kernel that takes `forward_ns`, and `backward_ns` in backward."""
    result: Tensor = _Kernel.apply(values, forward_ns, backward_ns)  # type: ignore[no-untyped-call]
    return result
