"""``torch.compile`` makes the same graphs with tracing on, and a compiled region is one span."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo import compiled_autograd
from torch._dynamo.utils import counters

from otel_torch_modules import Config
from otel_torch_modules.examples.train_gpt import MLP
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import Net, batch, outline, train

WITHOUT_CAUSES = Config(causes=())  # compilations and collections come and go


class Model(nn.Module):
    """A `Net` and a layer after it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x))


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def compiled(backend: str) -> nn.Module:
    return torch.compile(Model(), fullgraph=True, backend=backend)  # type: ignore[return-value]


def in_place(backend: str) -> nn.Module:
    model = Model()
    model.compile(fullgraph=True, backend=backend)
    return model


def run(make: Callable[[str], nn.Module], backend: str) -> tuple[list[list[float]], dict[str, Any]]:
    """Train three steps and evaluate; return the numbers that came of it and Dynamo's counts."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = make(backend)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    numbers = []
    for _ in range(3):
        train(model, sgd)
        numbers.append(torch.cat([p.detach().flatten() for p in model.parameters()]).tolist())
    with torch.no_grad():
        numbers.append(model(batch()).flatten().tolist())
    kept = ("frames", "stats", "graph_break", "recompiles")
    return numbers, {name: dict(counters[name]) for name in kept}


def counted(model: nn.Module) -> dict[str, Any]:
    """Train one step of `model`, compiled anew; return Dynamo's counts."""
    torch._dynamo.reset()
    counters.clear()
    compiled_model = torch.compile(model, backend="aot_eager")
    train(compiled_model, torch.optim.SGD(compiled_model.parameters(), lr=0.01))  # type: ignore[arg-type, attr-defined]
    return {name: dict(counters[name]) for name in ("frames", "stats", "graph_break")}


TRAINED = """\
train.step
  forward Model
  backward
    backward Model
  optimizer.step SGD
"""


@pytest.mark.parametrize("backend", ["aot_eager", "inductor", "eager"])
@pytest.mark.parametrize("make", [compiled, in_place])
def test_a_compiled_model_is_one_span_and_the_same_graphs(
    make: Callable[[str], nn.Module], backend: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "Skipping serialization")  # torch 2.6's Inductor itself
        expected = run(make, backend)
        with capture_spans(WITHOUT_CAUSES) as captured:
            traced = run(make, backend)
    assert traced == expected
    assert expected[1]["stats"]["unique_graphs"] >= 1
    assert outline(captured) == 3 * TRAINED + "evaluate\n  forward Model\n"
    (forward,) = captured.trees[0].find("forward Model")
    assert forward.attributes["torch.compiled"] is True
    assert forward.attributes["torch.compiled.modules"] == 5
    assert forward.attributes["torch.module.fqn"] == "Model"


def test_tracing_that_begins_after_compilation_recompiles_nothing() -> None:
    model = compiled("aot_eager")
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    train(model, sgd)
    graphs = dict(counters["stats"])
    with capture_spans(WITHOUT_CAUSES) as captured:
        train(model, sgd)
        train(model, sgd)
    train(model, sgd)
    assert dict(counters["stats"]) == graphs
    assert outline(captured) == 2 * TRAINED


def test_a_compiled_part_is_one_span_inside_the_others() -> None:
    model = Model()
    model.net.compile(fullgraph=True, backend="aot_eager")
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(WITHOUT_CAUSES) as captured:
        for _ in range(2):
            train(model, sgd)
    expected = """\
train.step
  forward Model
    forward net
    forward head
  backward
    backward Model
      backward head
      backward net
  optimizer.step SGD
"""
    assert outline(captured) == 2 * expected


def test_a_compiled_function_around_modules() -> None:
    model = Model()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    forward = torch.compile(lambda x: model(x).sum(), fullgraph=True, backend="aot_eager")
    for _ in range(2):
        forward(batch()).backward()
    expected = [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]
    sgd.zero_grad()
    with capture_spans(WITHOUT_CAUSES) as captured:
        for _ in range(2):
            forward(batch()).backward()
        found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
        sgd.step()
    # No module is called outside the graph: what there is to see is the optimizer alone.
    assert outline(captured) == ""


def test_a_graph_break_shows_the_modules_that_run_outside_the_graphs() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            torch._dynamo.graph_break()
            return self.second(x)

    expected = counted(Broken())
    with capture_spans(WITHOUT_CAUSES) as captured:
        assert counted(Broken()) == expected
    assert outline(captured) == TRAINED.replace("Model", "Broken")


def test_many_graph_breaks_recompile_nothing_of_ours() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return self.fc(x)

    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Broken() for _ in range(12))

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    expected = counted(Many())
    with capture_spans(WITHOUT_CAUSES) as captured:
        assert counted(Many()) == expected
    blocks = range(12)
    assert outline(captured) == "\n".join(
        [
            "train.step",
            "  forward Many",
            *(f"    forward blocks.{block}" for block in blocks),
            "  backward",
            "    backward Many",
            *(f"      backward blocks.{block}" for block in reversed(blocks)),
            "  optimizer.step SGD\n",
        ]
    )


def test_compiled_autograd_runs_as_without_us() -> None:
    def gradients() -> list[Tensor]:
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = Model()
        with compiled_autograd._enable(torch.compile(backend="aot_eager", fullgraph=True)):
            model(batch()).sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    expected = gradients()
    with capture_spans(WITHOUT_CAUSES) as captured:
        traced = gradients()
    assert len(expected) == 4
    assert all(torch.equal(a, b) for a, b in zip(expected, traced, strict=True))
    says_so = torch.__version__ >= (2, 7)  # before, nothing of ours is called in such a backward
    assert outline(captured) == (
        "train.step\n  forward Model\n    forward net\n      forward fc\n      forward act\n"
        "    forward head\n" + says_so * "  backward\n"
    )


def test_a_compiled_optimizer_breaks_no_more_graphs() -> None:
    def trained() -> dict[str, dict[Any, int]]:
        torch._dynamo.reset()
        counters.clear()
        model = Net()
        adam = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1))
        step = torch.compile(lambda: adam.step(), backend="aot_eager")
        for _ in range(2):
            model(batch()).sum().backward()
            step()
        return {name: dict(counters[name]) for name in ("stats", "graph_break")}

    untraced = trained()
    with capture_spans(WITHOUT_CAUSES):
        assert trained() == untraced


def test_the_examples_model_is_compiled_though_it_lies_beside_our_frames() -> None:
    with capture_spans(WITHOUT_CAUSES):
        pass
    torch.compile(MLP(8), backend="eager")(torch.ones(1, 8))
    assert counters["stats"]["unique_graphs"] == 1
