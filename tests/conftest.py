"""What holds for every test: afterwards nothing of ours is left in the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings
from opentelemetry import context
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer
from torch.utils.data.dataloader import _BaseDataLoaderIter

from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules._assembly.reading import between

torch.set_num_threads(1)
settings.register_profile(
    "thorough", max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck)
)


def _hooks() -> dict[str, object]:
    return {
        "nn.Module.__call__": nn.Module.__call__,
        "data loader's __next__": _BaseDataLoaderIter.__next__,
        "GradScaler.step": torch.amp.GradScaler.step,
        "zero_grad": (torch.optim.Optimizer.zero_grad, nn.Module.zero_grad),
        "forward pre-hooks": list(torch_module._global_forward_pre_hooks),
        "forward hooks": list(torch_module._global_forward_hooks),
        "optimizer pre-hooks": list(torch_optimizer._global_optimizer_pre_hooks),
        "optimizer post-hooks": list(torch_optimizer._global_optimizer_post_hooks),
        "context": dict(context.get_current()),
        "threads": {
            thread.name for thread in threading.enumerate() if "otel" in thread.name.lower()
        },
    }


@pytest.fixture(autouse=True)
def no_pauses_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees are compared whole: a stretch between two phases is in none because the machine had other work."""
    monkeypatch.setattr(between, "SHORTEST", 1 << 62)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every hook, patch, context and thread that a test puts on is gone after it."""
    before = _hooks()
    yield
    left = _hooks()
    assert not TorchModuleInstrumentor().is_instrumented_by_opentelemetry
    assert left == before
