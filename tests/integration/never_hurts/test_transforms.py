"""What takes models apart or runs them in other ways works as without us, and sees nothing more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from otel_torch_modules.testing import capture_spans
from tests.support.small_training import FORWARD, STEP, Net, batch, outline, train


def test_symbolic_trace() -> None:
    expected = fx.symbolic_trace(Net())
    with capture_spans():
        traced = fx.symbolic_trace(Net())
    assert traced.code == expected.code
    assert str(traced.graph) == str(expected.graph)


def test_symbolic_trace_with_modules_as_leaves_of_a_tracer_of_ones_own() -> None:
    class Leaves(fx.Tracer):
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            return True

    def outer() -> nn.Module:
        return nn.Sequential(Net(), Net())

    expected = str(Leaves().trace(outer()))
    with capture_spans():
        assert str(Leaves().trace(outer())) == expected


def test_a_traced_graph_module_is_traced_by_us() -> None:
    graph = fx.symbolic_trace(Net())
    with capture_spans() as captured, torch.no_grad():
        graph.eval()(batch())
    assert [tree.outline().count("\n") for tree in captured.trees] == [2]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_jit_trace_and_script() -> None:
    model = Net()
    traced = torch.jit.trace(model, batch())
    scripted = torch.jit.script(model)
    expected = model(batch())
    with capture_spans():
        again = torch.jit.trace(model, batch())
        script = torch.jit.script(model)
        assert again.code == traced.code
        assert script.code == scripted.code
        for made in (traced, scripted, again, script):
            assert torch.equal(made(batch()), expected)
            made(batch()).sum().backward()


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    torch.manual_seed(0)
    model = Net()
    expected = torch.export.export(model, (batch(),), strict=strict)
    with capture_spans():
        found = torch.export.export(model, (batch(),), strict=strict)
        assert torch.equal(found.module()(batch()), model(batch()))
    assert found.graph_module.code == expected.graph_module.code
    assert str(found.graph_signature) == str(expected.graph_signature)


def gradients_by_function(model: nn.Module) -> dict[str, Tensor]:
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(values: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(model, values, (inputs,)).square().sum()

    plain = grad(loss)(parameters, batch())
    each = vmap(grad(loss), in_dims=(None, 0))(parameters, torch.randn(3, 2, 4, generator=seeded()))
    nested = vmap(vmap(lambda x: model(x)))(torch.randn(2, 3, 4, generator=seeded()))
    return {
        **{f"plain {name}": value for name, value in plain.items()},
        **{f"each {name}": value for name, value in each.items()},
        "nested": nested.detach(),
    }


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_functional_transforms() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    expected = gradients_by_function(model)
    with capture_spans() as captured:
        found = gradients_by_function(model)
        sgd.step()
        train(model, sgd)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert captured.trees[-1].outline() + "\n" == STEP


def test_ensembles_by_vmap_jacobians_and_hessians() -> None:
    models = [Net() for _ in range(3)]
    parameters, buffers = stack_module_state(models)  # type: ignore[arg-type]
    base = Net().to("meta")

    def run() -> list[Tensor]:
        together = vmap(lambda p, b, x: functional_call(base, (p, b), (x,)), in_dims=(0, 0, None))(
            parameters, buffers, batch()
        )
        row = torch.ones(4)
        return [
            together.detach(),
            torch.func.jacrev(models[0])(row).detach(),
            torch.func.jacfwd(models[0])(row).detach(),
            torch.func.hessian(lambda x: models[0](x).square().sum())(row).detach(),
            torch.autograd.functional.jacobian(models[0], row),  # type: ignore[no-untyped-call]
        ]

    expected = run()
    with capture_spans():
        found = run()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_forward_mode() -> None:
    model = Net()

    def tangent() -> Tensor:
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(batch(), torch.ones(2, 4))
            return torch.autograd.forward_ad.unpack_dual(model(dual)).tangent.detach()

    expected = tangent()
    with capture_spans():
        assert torch.equal(tangent(), expected)


def test_meta_and_fake_tensors() -> None:
    with capture_spans() as captured:
        with torch.device("meta"):
            meta = Net().eval()
        for _ in range(2):
            assert meta(torch.ones(2, 4, device="meta")).shape == (2, 4)
        with FakeTensorMode():
            fake = Net()
            output = fake(torch.ones(2, 4))
            assert output.shape == (2, 4)
            output.sum().backward()
    step = "".join(line + "\n" for line in STEP.splitlines()[:-1])
    assert outline(captured) == 2 * FORWARD + step.replace("Net", "Net_1")


class Functions(TorchFunctionMode):
    """Writes down what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    """Writes down what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Views(nn.Module):
    """Outputs in a container, one of them a view, and an operation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, *, scale: Tensor) -> dict[str, Any]:
        hidden = self.act(self.fc(x.unsqueeze(0)))
        return {"view": hidden[0], "parts": (hidden * scale, None)}


@pytest.mark.parametrize("mode", [Functions, Dispatches])
def test_modes_see_what_they_see_without_us(mode: type[Functions | Dispatches]) -> None:
    def seen() -> list[str]:
        torch.manual_seed(0)
        model = Views()
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        with mode() as active:
            output = model(batch(), scale=torch.ones(4, requires_grad=True))
            (output["view"].sum() + output["parts"][0].sum()).backward()
            sgd.step()
        return active.seen

    expected = seen()
    with capture_spans():
        assert seen() == expected
        assert seen() == expected


class Loud(Tensor):
    """Writes down each function that it takes part in."""

    seen: list[str] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        cls.seen.append(str(func))
        return super().__torch_function__(func, types, args, kwargs or {})


def test_tensor_subclasses_see_what_they_see_without_us() -> None:
    def seen() -> tuple[list[str], str]:
        torch.manual_seed(0)
        model = Views()
        Loud.seen = []
        output = model(batch().as_subclass(Loud), scale=torch.ones(4, requires_grad=True))
        output["view"].sum().backward()
        return Loud.seen, type(output["view"]).__name__

    expected = seen()
    assert expected[1] == "Loud"
    with capture_spans() as captured:
        assert seen() == expected
    assert captured.trees[0].outline() == (
        "train.step\n  forward Views\n    forward fc\n    forward act\n"
        "  backward\n    backward Views\n      backward act\n      backward fc"
    )


def test_a_module_that_returns_what_it_was_given_or_no_tensor() -> None:
    class Same(nn.Module):
        def forward(self, x: Any) -> Any:
            return x

    model = Same()
    with capture_spans():
        for value in (None, 3, "text", [], {}, {"a": [None]}, object(), batch(), (batch(),), Same):
            assert model(value) is value


def test_evaluation_under_modes_of_torch() -> None:
    with capture_spans() as captured:
        model = Net().eval()
        with torch.inference_mode():
            model(batch())
        with torch.autograd.set_detect_anomaly(True), torch.no_grad():
            model(batch())
        with torch.autograd.graph.save_on_cpu():
            model(batch()).sum().backward()
    assert outline(captured)[: 2 * len(FORWARD)] == 2 * FORWARD
