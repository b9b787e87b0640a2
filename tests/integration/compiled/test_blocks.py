"""Blocks that are compiled one by one have a forward and a backward span each, in whatever way they were compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from otel_torch_modules import Config
from otel_torch_modules.testing import Captured, capture_spans
from tests.integration.compiled.blocks import (
    Model,
    compile_forward,
    compile_in_place,
    put_a_new_list_in_place,
    put_compiled_in_place,
)
from tests.support.small_training import outline, text, train

WITHOUT_CAUSES = Config(causes=())  # compilations and collections come and go
BLOCKS = ("h.0", "h.1", "h.2")
Way = Callable[[Model, str], None]

WAYS = [compile_in_place, put_compiled_in_place, put_a_new_list_in_place, compile_forward]

FORWARD = """
    train.step
      forward Model
        forward embed
        forward h.0
        forward h.1
        forward h.2
        forward head
      backward
        backward Model
          backward head
"""

# By what `use_reentrant` of the checkpoint around each block is.
STEPS = {
    None: FORWARD
    + """\
          backward h.2
          backward h.1
          backward h.0
          backward embed
      optimizer.step SGD
""",
    False: FORWARD
    + """\
          backward h.2
            recompute h.2
          backward h.1
            recompute h.1
          backward h.0
            recompute h.0
          backward embed
      optimizer.step SGD
""",
    True: FORWARD
    + """\
          recompute h.2
          backward
            backward h.2
          recompute h.1
          backward
            backward h.1
          recompute h.0
          backward
            backward h.0
          backward embed
      optimizer.step SGD
""",
}


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(way: Way, backend: str, use_reentrant: bool | None) -> list[float]:
    """Make two steps; return the parameters."""
    torch.manual_seed(0)
    model = Model(use_reentrant)
    way(model, backend)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        train(model, sgd)
    return [value for tensor in model.parameters() for value in tensor.flatten().tolist()]


def said(captured: Captured, key: str) -> dict[str, set[object]]:
    """Return by the name of each module's span which values of the attribute `key` there are."""
    found: dict[str, set[object]] = {}
    for tree in captured.trees:
        for span in tree.walk():
            if "torch.module.fqn" in span.attributes:
                found.setdefault(span.name, set()).add(span.attributes.get(key))
    return found


@pytest.mark.parametrize(
    ("backend", "use_reentrant"),
    [("aot_eager", None), ("aot_eager", False), ("aot_eager", True), ("eager", False)],
)
@pytest.mark.parametrize("way", WAYS)
def test_each_block_has_its_spans(way: Way, backend: str, use_reentrant: bool | None) -> None:
    untraced = trained(way, backend, use_reentrant)
    torch._dynamo.reset()
    with capture_spans(WITHOUT_CAUSES) as captured:
        assert trained(way, backend, use_reentrant) == untraced
    assert outline(captured) == 2 * text(STEPS[use_reentrant])
    compiled = said(captured, "torch.compiled")
    assert compiled == {name: {True if name.endswith(BLOCKS) else None} for name in compiled}
    modules = said(captured, "torch.compiled.modules")
    assert modules == {name: {3 if name.endswith(BLOCKS) else None} for name in modules}
    fqns = said(captured, "torch.module.fqn")
    assert [fqns[f"forward {block}"] for block in BLOCKS] == [{f"Model.{of}"} for of in BLOCKS]


def test_each_block_has_its_spans_by_inductor() -> None:
    """All ways in one: what Inductor has compiled for the first it finds again for the others."""
    untraced = [trained(way, "inductor", None) for way in WAYS]
    with capture_spans(WITHOUT_CAUSES) as captured:
        assert [trained(way, "inductor", None) for way in WAYS] == untraced
    assert outline(captured) == 2 * len(WAYS) * text(STEPS[None])


class Decorated(nn.Module):
    """Its class has what `torch.compile` made of ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    @torch.compile(backend="eager")
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the layer."""
        return self.fc(x)


class Kept(nn.Module):
    """Nothing in it is compiled, whoever calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    @torch.compiler.disable
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the layer."""
        return self.fc(x)


def test_a_class_whose_forward_is_compiled_or_kept_from_it() -> None:
    with capture_spans(WITHOUT_CAUSES) as captured:
        for model in (Decorated(), Kept()):
            train(model, torch.optim.SGD(model.parameters(), lr=0.01))
    assert outline(captured) == text("""
        train.step
          forward Decorated
          backward
            backward Decorated
          optimizer.step SGD
        train.step
          forward Kept
            forward fc
          backward
            backward Kept
              backward fc
          optimizer.step SGD
    """)
    assert said(captured, "torch.compiled") == {
        "forward Decorated": {True},
        "backward Decorated": {True},
        "forward Kept": {None},
        "forward fc": {None},
        "backward Kept": {None},
        "backward fc": {None},
    }
