"""What ModuleTracker says of ordinary forwards and backwards: names, nesting, user hooks."""

from __future__ import annotations

import copy
import doctest
import gc
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from otel_torch_modules import ModuleTracker
from otel_torch_modules.tracker import module_tracker as tracker_module
from tests.unit.tracker.nets import Net, linear

Event = tuple[str, "str | None", list[str], bool]


class Watch:
    """A tracker whose user hooks write down what they see, in order."""

    def __init__(self) -> None:
        self.tracker = ModuleTracker()
        self.events: list[Event] = []
        self.gradients: list[tuple[str, str | None, list[Any]]] = []
        self.tracker.register_user_hooks(
            lambda module, inputs: self.see("pre_fw", module),
            lambda module, inputs, output: self.see("post_fw", module),
            lambda module, gradients: self.see_gradients("pre_bw", module, gradients),
            lambda module, gradients: self.see_gradients("post_bw", module, gradients),
        )

    def see(self, kind: str, module: nn.Module | None) -> None:
        fqn = None if module is None else self.tracker.get_known_fqn(module)
        parents = sorted(self.tracker.parents - {"Global"})
        assert self.tracker.parents >= {"Global"}
        self.events.append((kind, fqn, parents, self.tracker.is_bw))

    def see_gradients(self, kind: str, module: nn.Module | None, gradients: Any) -> None:
        self.see(kind, module)
        shapes = [None if gradient is None else tuple(gradient.shape) for gradient in gradients]
        assert type(gradients) is tuple
        self.gradients.append((kind, self.events[-1][1], shapes))

    def look(self, where: str) -> Any:
        """Return a tensor hook that writes down the parents."""
        return lambda *_: self.events.append(
            (where, None, sorted(self.tracker.parents - {"Global"}), self.tracker.is_bw)
        )

    def kinds(self) -> list[tuple[str, str | None]]:
        return [(kind, fqn) for kind, fqn, _, _ in self.events]

    def backward_kinds(self) -> list[tuple[str, str | None]]:
        return [(kind, fqn) for kind, fqn, _, is_bw in self.events if is_bw]

    def is_idle(self) -> bool:
        return self.tracker.parents == {"Global"} and not self.tracker.is_bw


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_module_hierarchy() -> None:
    seen_forward = []
    seen_backward = []

    class Foo(nn.Module):
        def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
            y = x["a"].relu_()
            seen_forward.append((copy.copy(tracker.parents), tracker.is_bw))
            y.register_hook(lambda grad: seen_backward.append((tracker.parents, tracker.is_bw)))
            return {"a": torch.mm(y, y)}

    class Mod(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = Foo()
            self.b = nn.ModuleDict({"nest": Foo()})
            self.c = nn.ModuleList([Foo()])

        def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
            return self.b["nest"](self.a(self.c[0](x)))

    model = Mod()
    with ModuleTracker() as tracker:
        for _ in range(2):
            x = torch.randn(10, 10, requires_grad=True).clone()
            model({"a": x})["a"].sum().backward()
            assert tracker.parents == {"Global"}

    assert seen_forward == 2 * [
        ({"Global", "Mod", "Mod.c.0"}, False),
        ({"Global", "Mod", "Mod.a"}, False),
        ({"Global", "Mod", "Mod.b.nest"}, False),
    ]
    assert seen_backward == 2 * [
        ({"Global", "Mod", "Mod.b.nest"}, True),
        ({"Global", "Mod", "Mod.a"}, True),
        ({"Global", "Mod", "Mod.c.0"}, True),
    ]


def test_backward_is_over_when_it_returns() -> None:
    with ModuleTracker() as tracker:
        nn.Linear(2, 2)(torch.rand(2, requires_grad=True)).sum().backward()
        assert not tracker.is_bw
        assert tracker.parents == {"Global"}


class Bar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.foo = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.foo(x).relu_()


BAR_FORWARD: list[Event] = [
    ("pre_fw", "Bar", ["Bar"], False),
    ("pre_fw", "Bar.foo", ["Bar", "Bar.foo"], False),
    ("post_fw", "Bar.foo", ["Bar", "Bar.foo"], False),
    ("post_fw", "Bar", ["Bar"], False),
]
BAR_BACKWARD: list[Event] = [
    ("pre_bw", "Bar", ["Bar"], True),
    ("pre_bw", "Bar.foo", ["Bar", "Bar.foo"], True),
    ("post_bw", "Bar.foo", ["Bar", "Bar.foo"], True),
    ("post_bw", "Bar", ["Bar"], True),
]


def test_user_hooks_nest_in_backward_as_in_forward(watch: Watch) -> None:
    model = Bar()
    with watch.tracker:
        model(torch.rand(10, 10, requires_grad=True)).sum().backward()
    assert watch.events == BAR_FORWARD + BAR_BACKWARD


def test_a_module_gone_by_backward_is_none(watch: Watch) -> None:
    model = Bar()
    with watch.tracker:
        loss = model(torch.rand(10, 10, requires_grad=True)).sum()
        del model
        loss.backward()
    assert watch.events == BAR_FORWARD + [
        (kind, None, parents, is_bw) for kind, _, parents, is_bw in BAR_BACKWARD
    ]


def test_a_hook_that_is_no_function_is_refused_and_none_is_registered() -> None:
    tracker = ModuleTracker()
    with pytest.raises(
        ValueError, match=r"^post_bw_hook: 3 is not allowed; it must be a function$"
    ):
        tracker.register_user_hooks(lambda module, inputs: None, post_bw_hook=3)  # type: ignore[arg-type]
    tracker.register_user_hooks(lambda module, inputs: None)


def test_one_user_hook_of_a_kind(watch: Watch) -> None:
    with pytest.raises(AssertionError, match="pre_fw_hook"):
        watch.tracker.register_user_hooks(lambda module, inputs: None)
    watch.tracker.clear_user_hooks()
    calls = []
    watch.tracker.register_user_hooks(pre_fw_hook=lambda *arguments: calls.append(arguments))
    watch.tracker.register_user_hooks(post_fw_hook=lambda *arguments: calls.append(arguments))
    with pytest.raises(AssertionError, match="post_fw_hook"):
        watch.tracker.register_user_hooks(
            post_fw_hook=lambda *arguments: None, pre_bw_hook=lambda *arguments: None
        )
    model, x = nn.Identity(), torch.ones(1)
    with watch.tracker:
        model(x)
    assert watch.events == []
    assert calls == [(model, (x,)), (model, (x,), x)]


def test_the_example_runs() -> None:
    assert doctest.testmod(tracker_module) == doctest.TestResults(failed=0, attempted=4)


def test_leaving_takes_everything_off_that_entering_put_on() -> None:
    def global_hooks() -> list[tuple[str, Any]]:
        return [
            (name, copy.copy(value))
            for name, value in vars(torch.nn.modules.module).items()
            if name.startswith("_global_")
        ]

    before = global_hooks()
    with ModuleTracker():
        assert global_hooks() != before
    assert global_hooks() == before


def test_the_tracker_is_entered_once(watch: Watch) -> None:
    with watch.tracker, pytest.raises(RuntimeError, match="entered"), watch.tracker:
        pass
    with watch.tracker:
        Bar()(torch.rand(1, 10))
    assert watch.events == BAR_FORWARD


def test_nothing_is_left_after_exit(watch: Watch) -> None:
    model = Bar()
    with watch.tracker:
        output = model(torch.rand(1, 10))
    seen = []
    output.register_hook(lambda grad: seen.append(watch.tracker.parents))
    output.sum().backward()
    model(torch.rand(1, 10))
    assert watch.events == BAR_FORWARD
    assert seen == [{"Global"}]
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    assert watch.tracker.get_known_fqn(model.foo) == "Bar.foo"


def test_left_during_backward(watch: Watch) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with watch.tracker:
        hidden = model[0](torch.ones(1, 2))
        hidden.register_hook(lambda grad: watch.tracker.__exit__())
        output = model[1](hidden)
        watch.events.clear()
        output.sum().backward()
    assert watch.kinds() == [("pre_bw", "Linear_1")]
    assert watch.is_idle()


def test_an_unknown_module_has_no_name(watch: Watch) -> None:
    model = Bar()
    assert watch.tracker.get_known_fqn(model) is None
    with watch.tracker:
        model(torch.rand(1, 10))
    assert watch.tracker.get_known_fqn(model.foo) == "Bar.foo"
    assert watch.tracker.get_known_fqn(nn.ReLU()) is None


def test_a_chain_closes_each_module_before_the_next(watch: Watch) -> None:
    model = nn.Sequential(linear(), nn.Sequential(linear(), nn.ReLU(inplace=True)), linear())
    with watch.tracker:
        output = model(torch.ones(1, 2))
        watch.events.clear()
        output.sum().backward()
        assert watch.is_idle()
    root, inner = "Sequential", "Sequential.1"
    assert watch.events == [
        ("pre_bw", root, [root], True),
        ("pre_bw", f"{root}.2", [root, f"{root}.2"], True),
        ("post_bw", f"{root}.2", [root, f"{root}.2"], True),
        ("pre_bw", inner, [root, inner], True),
        ("pre_bw", f"{inner}.1", [root, inner, f"{inner}.1"], True),
        ("post_bw", f"{inner}.1", [root, inner, f"{inner}.1"], True),
        ("pre_bw", f"{inner}.0", [root, inner, f"{inner}.0"], True),
        ("post_bw", f"{inner}.0", [root, inner, f"{inner}.0"], True),
        ("post_bw", inner, [root, inner], True),
        ("pre_bw", f"{root}.0", [root, f"{root}.0"], True),
        ("post_bw", f"{root}.0", [root, f"{root}.0"], True),
        ("post_bw", root, [root], True),
    ]


def test_an_operation_in_place_on_a_view(watch: Watch) -> None:
    model = nn.Sequential(linear(), nn.ReLU(inplace=True))
    with watch.tracker:
        output = model(torch.ones(1, 3, 2))
        assert output._is_view()
        watch.events.clear()
        output.sum().backward()
    assert watch.kinds() == [
        ("pre_bw", "Sequential"),
        ("pre_bw", "Sequential.1"),
        ("post_bw", "Sequential.1"),
        ("pre_bw", "Sequential.0"),
        ("post_bw", "Sequential.0"),
        ("post_bw", "Sequential"),
    ]


def test_branches_and_residuals(watch: Watch) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return x + net.a(x) + net.b(net.a(x))

    model = nn.Sequential(linear(), Net(forward, a=linear(), b=linear()))
    with watch.tracker:
        output = model(torch.ones(1, 2))
        watch.events.clear()
        output.sum().backward()
    assert watch.kinds() == [
        ("pre_bw", "Sequential"),
        ("pre_bw", "Sequential.1"),
        ("pre_bw", "Sequential.1.b"),
        ("post_bw", "Sequential.1.b"),
        ("pre_bw", "Sequential.1.a"),
        ("post_bw", "Sequential.1.a"),
        ("pre_bw", "Sequential.1.a"),
        ("post_bw", "Sequential.1.a"),
        ("post_bw", "Sequential.1"),
        ("pre_bw", "Sequential.0"),
        ("post_bw", "Sequential.0"),
        ("post_bw", "Sequential"),
    ]


def test_a_module_that_calls_itself(watch: Watch) -> None:
    def forward(net: Any, x: Tensor, depth: int) -> Tensor:
        return net.a(x) if depth == 0 else net(net.a(x), depth - 1) * 2

    model = Net(forward, a=linear())
    with watch.tracker:
        model(torch.ones(1, 2), 1).sum().backward()
    assert watch.kinds() == [
        ("pre_fw", "Net"),
        ("pre_fw", "Net.a"),
        ("post_fw", "Net.a"),
        ("pre_fw", "Net"),
        ("pre_fw", "Net.a"),
        ("post_fw", "Net.a"),
        ("post_fw", "Net"),
        ("post_fw", "Net"),
        ("pre_bw", "Net"),
        ("pre_bw", "Net"),
        ("pre_bw", "Net.a"),
        ("post_bw", "Net.a"),
        ("post_bw", "Net"),
        ("pre_bw", "Net.a"),
        ("post_bw", "Net.a"),
        ("post_bw", "Net"),
    ]


@dataclass
class Result:
    logits: Tensor
    loss: Tensor | None = None


class Pair:
    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first = first
        self.second = second


torch.utils._pytree.register_pytree_node(
    Pair, lambda pair: ([pair.first, pair.second], None), lambda leaves, _: Pair(*leaves)
)


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda y: {"y": y, "n": None}, lambda out: out["y"]),
        (lambda y: OrderedDict(y=[y, 3]), lambda out: out["y"][0]),
        (lambda y: (None, (y,)), lambda out: out[1][0]),
        (lambda y: Result(y), lambda out: out.logits),
        (lambda y: [Result(y.detach(), y)], lambda out: out[0].loss),
        (lambda y: Pair(y.detach(), y), lambda out: out.second),
    ],
    ids=["dict", "ordered dict", "tuple", "dataclass", "list of dataclass", "pytree"],
)
def test_outputs_and_inputs_in_containers(watch: Watch, wrap: Any, unwrap: Any) -> None:
    model = Net(
        lambda net, x: unwrap(net.last(net.first(x))),
        first=Net(lambda net, x: wrap(net.a(x).relu_()), a=linear()),
        last=Net(lambda net, packed: wrap(unwrap(packed) * 2)),
    )
    with watch.tracker:
        output = model(torch.ones(1, 2))
        watch.events.clear()
        output.sum().backward()
        assert watch.is_idle()
    assert watch.kinds() == [
        ("pre_bw", "Net"),
        ("pre_bw", "Net.last"),
        ("post_bw", "Net.last"),
        ("pre_bw", "Net.first"),
        ("pre_bw", "Net.first.a"),
        ("post_bw", "Net.first.a"),
        ("post_bw", "Net.first"),
        ("post_bw", "Net"),
    ]


def test_keyword_inputs_end_the_module(watch: Watch) -> None:
    model = Net(
        lambda net, x: net.b(x=torch.sin(net.a(x))), a=linear(), b=Net(lambda net, x: x * 2)
    )
    with watch.tracker:
        hidden: list[Tensor] = []
        model.a.register_forward_hook(lambda module, inputs, output: hidden.append(output))
        output = model(torch.ones(1, 2))
        hidden[0].grad_fn.register_hook(watch.look("a ran"))
        watch.events.clear()
        output.sum().backward()
    assert watch.events == [
        ("pre_bw", "Net", ["Net"], True),
        ("pre_bw", "Net.b", ["Net", "Net.b"], True),
        ("post_bw", "Net.b", ["Net", "Net.b"], True),
        ("pre_bw", "Net.a", ["Net", "Net.a"], True),
        ("a ran", None, ["Net", "Net.a"], True),
        ("post_bw", "Net.a", ["Net", "Net.a"], True),
        ("post_bw", "Net", ["Net"], True),
    ]
    assert watch.gradients[2] == ("post_bw", "Net.b", [(1, 2)])


def test_a_tensor_hook_is_inside_the_module_that_made_the_tensor(watch: Watch) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        first = net.a(x)
        first.register_hook(watch.look("output of a"))
        between = torch.sin(first)
        between.register_hook(watch.look("between"))
        last = net.b(between)
        last.register_hook(watch.look("output of b"))
        return last

    model = Net(forward, a=linear(), b=nn.Sequential(linear(), nn.ReLU()))
    x = torch.ones(1, 2, requires_grad=True)
    x.register_hook(watch.look("leaf"))
    model.b[0].weight.register_hook(watch.look("parameter of b"))
    with watch.tracker:
        output = model(x)
        loss = output.sum()
        loss.register_hook(watch.look("loss"))
        watch.tracker.clear_user_hooks()
        watch.events.clear()
        loss.backward()
    assert watch.events == [
        ("loss", None, [], True),
        ("output of b", None, ["Net", "Net.b", "Net.b.1"], True),
        ("parameter of b", None, ["Net", "Net.b", "Net.b.0"], True),
        ("between", None, ["Net"], True),
        ("output of a", None, ["Net", "Net.a"], True),
        ("leaf", None, ["Net", "Net.a"], True),
    ]


def test_what_runs_between_two_roots_is_outside_of_both(watch: Watch) -> None:
    model, criterion = linear(), nn.MSELoss()
    with watch.tracker:
        hidden = torch.sin(model(torch.ones(1, 2)))
        hidden.register_hook(watch.look("between"))
        hidden.grad_fn.register_hook(watch.look("between, after"))
        loss = criterion(hidden, torch.zeros(1, 2))
        watch.events.clear()
        loss.backward()
    assert watch.events == [
        ("pre_bw", "MSELoss", ["MSELoss"], True),
        ("between", None, [], True),
        ("post_bw", "MSELoss", ["MSELoss"], True),
        ("between, after", None, [], True),
        ("pre_bw", "Linear", ["Linear"], True),
        ("post_bw", "Linear", ["Linear"], True),
    ]


def test_custom_function(watch: Watch) -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            watch.look("in backward")()
            return grad * 2

    model = nn.Sequential(linear(), Net(lambda net, x: torch.sin(Double.apply(torch.cos(x)))))
    with watch.tracker:
        output = model(torch.ones(1, 2))
        watch.events.clear()
        output.sum().backward()
    assert [event for event in watch.events if event[0] == "in backward"] == [
        ("in backward", None, ["Sequential", "Sequential.1"], True)
    ]
    assert len(watch.events) == 7


def test_gradients_that_backward_hooks_get(watch: Watch) -> None:
    def forward(net: Any, x: Tensor, y: Tensor) -> Tensor:
        return net.two(net.wide(x), y)

    model = Net(
        forward,
        wide=nn.Linear(2, 4),
        two=Net(lambda net, x, y: x.sum(0) * y),
    )
    with watch.tracker:
        output = model(torch.ones(3, 2), torch.ones(4, requires_grad=True))
        output.sum().backward()
    assert watch.gradients == [
        ("pre_bw", "Net", [(4,)]),
        ("pre_bw", "Net.two", [(4,)]),
        ("post_bw", "Net.two", [(3, 4), None]),
        ("pre_bw", "Net.wide", [(3, 4)]),
        ("post_bw", "Net.wide", []),
        ("post_bw", "Net", [None]),
    ]


def test_gradients_are_those_of_tensor_hooks() -> None:
    seen: list[tuple[Tensor | None, ...]] = []
    expected: list[Tensor] = []
    tracker = ModuleTracker()
    tracker.register_user_hooks(
        pre_bw_hook=lambda module, gradients: seen.append(gradients),
        post_bw_hook=lambda module, gradients: seen.append(gradients),
    )
    x = torch.randn(3, 2, requires_grad=True).sin()
    x.register_hook(expected.append)
    with tracker:
        output = nn.Tanh()(x)
        output.register_hook(expected.append)
        (output * torch.randn(3, 2) + x).sum().backward()
    assert len(seen) == 2
    for gradients, wanted in zip(seen, expected, strict=True):
        torch.testing.assert_close(gradients, (wanted,), rtol=0, atol=0)


def test_forwards_without_backward_leave_nothing(watch: Watch) -> None:
    model = nn.Sequential(linear(), linear())
    with watch.tracker:
        for _ in range(100):
            model(torch.ones(1, 2))
        with torch.no_grad():
            model(torch.ones(1, 2))
        assert watch.is_idle()
        watch.events.clear()
        model(torch.ones(1, 2)).sum().backward()
        assert len(watch.events) == 12
        gc.collect()
        ruler = watch.tracker._thread.ruler
        ruler._sweep()
        assert ruler._roots == []
        assert ruler._marks == {}


def test_a_tensor_that_is_used_again_and_again_is_marked_once() -> None:
    model = nn.Tanh()
    x = torch.ones(1, requires_grad=True) * 2
    marks = x.grad_fn.register_prehook(lambda gradients: None)
    with ModuleTracker():
        for _ in range(1000):
            model(x)
        assert len(marks.hooks_dict_ref()) == 2
    assert len(marks.hooks_dict_ref()) == 1


def test_nothing_is_kept_alive(watch: Watch) -> None:
    model = Bar()
    freed = []
    with watch.tracker:
        output = model(torch.rand(1, 10))
        weakref.finalize(output, freed.append, "output")
        weakref.finalize(model, freed.append, "model")
        del output, model
        assert freed == ["output", "model"]


def test_losses_and_gradients_stay_the_same() -> None:
    def train() -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(8, 2))
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        losses = []
        for _ in range(5):
            loss = F.mse_loss(model(torch.randn(3, 4)), torch.randn(3, 2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses + [parameter.detach() for parameter in model.parameters()]

    plain = train()
    with ModuleTracker():
        tracked = train()
    assert all(torch.equal(one, other) for one, other in zip(plain, tracked, strict=True))
