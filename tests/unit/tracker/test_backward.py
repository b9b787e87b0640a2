"""ModuleTracker where backward is out of the ordinary: checkpointing, partial and repeated, errors, threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import ModuleTracker, TorchModuleInstrumentor
from tests.unit.tracker.nets import Net, linear

Event = tuple[str, list[str]]


class Watch:
    """A tracker whose user hooks write down what begins and ends, and the parents then."""

    def __init__(self) -> None:
        self.tracker = ModuleTracker()
        self.events: list[Event] = []
        self.tracker.register_user_hooks(
            lambda module, inputs: self.see("pre_fw"),
            lambda module, inputs, output: self.see("post_fw"),
            lambda module, gradients: self.see("pre_bw"),
            lambda module, gradients: self.see("post_bw"),
        )

    def see(self, kind: str) -> None:
        if self.tracker.is_bw and kind.endswith("fw"):
            kind = kind.replace("fw", "re")
        self.events.append((kind, sorted(self.tracker.parents - {"Global"})))

    def hook(self, kind: str) -> Callable[..., None]:
        return lambda *_: self.see(kind)

    def taken(self) -> list[Event]:
        """Return what was written down since the last time."""
        events, self.events = self.events, []
        return events


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def tracker(watch: Watch) -> Any:
    with watch.tracker as tracker:
        yield tracker
        assert tracker.parents == {"Global"}
        assert not tracker.is_bw


class Boom(torch.autograd.Function):
    """Passes its input on; its backward calls what it was given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, explode: Callable[[], None]) -> Tensor:
        ctx.explode = explode
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.explode()
        return grad, None


N, A, B = ["Net"], ["Net", "Net.a"], ["Net", "Net.b"]

CHAIN_FORWARD = [
    ("pre_fw", N),
    ("pre_fw", A),
    ("post_fw", A),
    ("pre_fw", B),
    ("post_fw", B),
    ("post_fw", N),
]
CHAIN_BACKWARD = [
    ("pre_bw", N),
    ("pre_bw", B),
    ("post_bw", B),
    ("pre_bw", A),
    ("post_bw", A),
    ("post_bw", N),
]


def chain() -> Net:
    return Net(lambda net, x: net.b(torch.sin(net.a(x))), a=linear(), b=linear())


@pytest.mark.usefixtures("tracker")
def test_checkpoint_without_reentrance(watch: Watch) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        x = torch.relu(net.a(x))
        return torch.relu(checkpoint(net.b, x, use_reentrant=False))

    Net(forward, a=linear(), b=linear())(torch.randn(2, 2)).sum().backward()
    assert watch.taken() == [
        *CHAIN_FORWARD,
        ("pre_bw", N),
        ("pre_bw", B),
        ("pre_re", B),
        ("post_re", B),
        ("post_bw", B),
        ("pre_bw", A),
        ("post_bw", A),
        ("post_bw", N),
    ]


@pytest.mark.usefixtures("tracker")
def test_checkpoint_with_reentrance(watch: Watch) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        x = torch.relu(net.a(x))
        return torch.relu(checkpoint(net.b, x, use_reentrant=True))

    model = Net(forward, a=linear(), b=nn.Sequential(linear(), linear()))
    B0, B1 = [*B, "Net.b.0"], [*B, "Net.b.1"]  # noqa: N806
    output = model(torch.randn(2, 2, requires_grad=True))
    watch.taken()
    output.sum().backward()
    assert watch.taken() == [
        ("pre_bw", N),
        ("pre_re", B),
        ("pre_re", B0),
        ("post_re", B0),
        ("pre_re", B1),
        ("post_re", B1),
        ("post_re", B),
        ("pre_bw", B),
        ("pre_bw", B1),
        ("post_bw", B1),
        ("pre_bw", B0),
        ("post_bw", B0),
        ("post_bw", B),
        ("pre_bw", A),
        ("post_bw", A),
        ("post_bw", N),
    ]


@pytest.mark.usefixtures("tracker")
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_tensor_hooks_and_parents_inside_nested_checkpoints(
    watch: Watch, use_reentrant: bool
) -> None:
    seen: list[Event] = []

    def look(where: str) -> Callable[..., None]:
        return lambda *_: seen.append((where, sorted(watch.tracker.parents - {"Global"})))

    def leaf(net: Any, x: Tensor) -> Tensor:
        if watch.tracker.is_bw:
            look("recompute")()
        y = net.w(x).sin()
        if y.requires_grad:
            y.register_hook(look("hook"))
        return y.cos()

    def inner(net: Any, x: Tensor) -> Tensor:
        return checkpoint(net.leaf, x.sin(), use_reentrant=use_reentrant).exp()

    def outer(net: Any, x: Tensor) -> Tensor:
        return checkpoint(net.inner, x.sin(), use_reentrant=use_reentrant).exp()

    model = Net(outer, inner=Net(inner, leaf=Net(leaf, w=linear())))
    model(torch.ones(1, 2, requires_grad=True)).sum().backward()
    place = ["Net", "Net.inner", "Net.inner.leaf"]
    # The hook of the first, checkpointed forward runs where recompute makes no graph of its own.
    assert seen[-1] == ("hook", place)
    assert [event for event in seen if event[0] == "recompute"] == 2 * [("recompute", place)]
    assert {tuple(parents) for _, parents in seen} == {tuple(place)}


@pytest.mark.usefixtures("tracker")
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_an_error_in_recompute(watch: Watch, use_reentrant: bool) -> None:
    broken = [False]

    def maybe(net: Any, x: Tensor) -> Tensor:
        if broken[0]:
            raise ValueError("in recompute")
        return x.sin()

    model = Net(
        lambda net, x: checkpoint(net.b, net.a(x), use_reentrant=use_reentrant),
        a=linear(),
        b=Net(maybe),
    )
    for _ in range(2):
        broken[0] = False
        output = model(torch.ones(1, 2))
        broken[0] = True
        with pytest.raises(ValueError, match="in recompute"):
            output.sum().backward()
        assert watch.tracker.parents == {"Global"}
    watch.taken()
    del model, output
    chain()(torch.ones(1, 2)).sum().backward()
    assert watch.taken() == CHAIN_FORWARD + CHAIN_BACKWARD


@pytest.mark.usefixtures("tracker")
def test_grad_with_respect_to_leaves(watch: Watch) -> None:
    model = chain()
    x = torch.ones(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert watch.taken() == CHAIN_FORWARD + CHAIN_BACKWARD
    (weight,) = torch.autograd.grad(model(torch.ones(1, 2)).sum(), model.a.weight)
    assert watch.taken() == CHAIN_FORWARD + CHAIN_BACKWARD
    assert gradient.shape == (1, 2)
    assert weight.shape == (2, 2)


@pytest.mark.usefixtures("tracker")
def test_grad_with_respect_to_an_intermediate(watch: Watch) -> None:
    hidden: list[Tensor] = []

    def forward(net: Any, x: Tensor) -> Tensor:
        hidden.append(torch.sin(net.a(x)))
        return net.b(torch.cos(hidden[-1]))

    model = Net(forward, a=linear(), b=linear())
    loss = model(torch.ones(1, 2)).sum()
    watch.taken()
    torch.autograd.grad(loss, hidden[0])
    assert watch.taken() == [("pre_bw", N), ("pre_bw", B), ("post_bw", B), ("post_bw", N)]


@pytest.mark.usefixtures("tracker")
def test_grad_inside_forward(watch: Watch) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        energy = net.a(x).sin().sum()
        watch.see("before")
        (force,) = torch.autograd.grad(energy, x, create_graph=True)
        watch.see("after")
        return force

    model = Net(forward, a=linear())
    x = torch.ones(1, 2, requires_grad=True)
    force = model(x)
    assert watch.taken() == [
        ("pre_fw", N),
        ("pre_fw", A),
        ("post_fw", A),
        ("before", N),
        ("pre_bw", N),
        ("pre_bw", A),
        ("post_bw", A),
        ("post_bw", N),
        ("after", N),
        ("post_fw", N),
    ]
    force.sum().backward()
    assert watch.taken() == [("pre_bw", N), ("pre_bw", A), ("post_bw", A), ("post_bw", N)]


@pytest.mark.usefixtures("tracker")
def test_two_backwards_of_one_forward(watch: Watch) -> None:
    loss = chain()(torch.ones(1, 2)).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert watch.taken() == CHAIN_FORWARD + CHAIN_BACKWARD + CHAIN_BACKWARD


@pytest.mark.usefixtures("tracker")
def test_double_backward(watch: Watch) -> None:
    x = torch.ones(1, 2, requires_grad=True)
    loss = chain()(x).sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    gradient.register_hook(watch.hook("of the second order"))
    watch.taken()
    gradient.pow(2).sum().backward()
    assert watch.taken() == [
        ("of the second order", []),
        ("pre_bw", N),
        ("pre_bw", A),
        ("post_bw", A),
        ("post_bw", N),
    ]


@pytest.mark.usefixtures("tracker")
def test_frozen_and_no_grad_parts_have_no_backward(watch: Watch) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = net.a(x)
        return net.b(x)

    model = Net(forward, a=linear(), b=nn.Sequential(linear().requires_grad_(False), linear()))
    output = model(torch.ones(1, 2))
    watch.taken()
    output.sum().backward()
    last = [*B, "Net.b.1"]
    assert watch.taken() == [
        ("pre_bw", N),
        ("pre_bw", B),
        ("pre_bw", last),
        ("post_bw", last),
        ("post_bw", B),
        ("post_bw", N),
    ]


@pytest.mark.usefixtures("tracker")
def test_an_output_that_the_loss_does_not_use(watch: Watch) -> None:
    model = Net(lambda net, x: (net.a(x), net.b(x)), a=linear(), b=linear())
    output, _ = model(torch.ones(1, 2))
    watch.taken()
    output.sum().backward()
    assert watch.taken() == [("pre_bw", N), ("pre_bw", A), ("post_bw", A), ("post_bw", N)]


@pytest.mark.usefixtures("tracker")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_forward_leaves_no_trace(watch: Watch, error: type[BaseException]) -> None:
    broken = [True]

    def maybe(net: Any, x: Tensor) -> Tensor:
        if broken[0]:
            raise error
        return x.sin()

    model = Net(lambda net, x: net.b(net.a(x)), a=linear(), b=Net(maybe))
    for _ in range(3):
        with pytest.raises(error):
            model(torch.ones(1, 2))
        assert watch.tracker.parents == {"Global"}
    left = [("post_fw", B), ("post_fw", N)] if error is ValueError else []
    assert watch.taken() == 3 * [*CHAIN_FORWARD[:4], *left]
    broken[0] = False
    model(torch.ones(1, 2)).sum().backward()
    assert watch.taken() == CHAIN_FORWARD + CHAIN_BACKWARD


@pytest.mark.usefixtures("tracker")
def test_an_interrupt_caught_in_an_outer_forward(watch: Watch) -> None:
    def interrupted(net: Any, x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    def forward(net: Any, x: Tensor) -> Tensor:
        with pytest.raises(KeyboardInterrupt):
            net.a(x)
        watch.see("caught")
        return net.b(x)

    Net(forward, a=Net(interrupted), b=linear())(torch.ones(1, 2))
    assert watch.taken() == [
        ("pre_fw", N),
        ("pre_fw", A),
        ("caught", N),
        ("pre_fw", B),
        ("post_fw", B),
        ("post_fw", N),
    ]


@pytest.mark.usefixtures("tracker")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_backward_leaves_no_trace(watch: Watch, error: type[BaseException]) -> None:
    broken = [True]

    def explode() -> None:
        watch.see("in backward")
        if broken[0]:
            raise error

    model = Net(
        lambda net, x: net.b(net.a(x)),
        a=linear(),
        b=Net(lambda net, x: Boom.apply(x.sin(), explode).cos()),
    )
    for _ in range(3):
        output = model(torch.ones(1, 2))
        # Before the first mark of its own, this backward must not show what the last one left open.
        loss = output.sum()
        loss.register_hook(watch.hook("loss"))
        with pytest.raises(error):
            loss.backward()
        assert watch.tracker.parents == {"Global"}
    assert watch.taken() == 3 * [
        *CHAIN_FORWARD,
        ("loss", []),
        ("pre_bw", N),
        ("pre_bw", B),
        ("in backward", B),
    ]
    broken[0] = False
    model(torch.ones(1, 2)).sum().backward()
    assert watch.taken() == [
        *CHAIN_FORWARD,
        *CHAIN_BACKWARD[:2],
        ("in backward", B),
        *CHAIN_BACKWARD[2:],
    ]


@pytest.mark.usefixtures("tracker")
def test_the_next_backward_does_not_show_what_a_broken_one_left(watch: Watch) -> None:
    model = chain()

    def step(hook: Callable[..., None]) -> None:
        loss = model(torch.ones(1, 2)).sum()
        loss.register_hook(hook)
        loss.backward()

    def fail(gradient: Tensor) -> None:
        raise ValueError("broken")

    watch.tracker.clear_user_hooks()
    handle = model.a.weight.register_hook(fail)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            step(watch.hook("loss"))
    handle.remove()
    step(watch.hook("loss"))
    assert watch.taken() == 4 * [("loss", [])]


@pytest.mark.usefixtures("tracker")
def test_a_backward_that_fails_inside_another(watch: Watch) -> None:
    inner = linear()

    def fail() -> None:
        raise ValueError("broken")

    def explode() -> None:
        with torch.enable_grad(), pytest.raises(ValueError, match="broken"):
            Boom.apply(inner(torch.ones(1, 2)), fail).sum().backward()
        with torch.enable_grad(), pytest.raises(ValueError, match="broken"):
            Net(lambda net, x: Boom.apply(net.a(x), fail), a=inner)(x).sum().backward()
        watch.see("inside")

    x = torch.ones(1, 2)
    output = Net(lambda net, x: Boom.apply(net.a(x), explode), a=linear())(x)
    watch.taken()
    output.sum().backward()
    inside = [event for event in watch.taken() if event[0] in ("inside", "pre_bw", "post_bw")]
    assert inside == [
        ("pre_bw", N),
        ("pre_bw", N),
        ("inside", N),
        ("pre_bw", A),
        ("post_bw", A),
        ("post_bw", N),
    ]


@pytest.mark.usefixtures("tracker")
def test_backward_in_another_thread(watch: Watch) -> None:
    model = chain()
    output = model(torch.ones(1, 2))
    output.register_hook(watch.hook("output"))
    thread = threading.Thread(target=output.sum().backward)
    thread.start()
    thread.join()
    assert watch.taken() == [*CHAIN_FORWARD, ("output", B), *CHAIN_BACKWARD]


@pytest.mark.usefixtures("tracker")
def test_forward_in_two_threads(watch: Watch) -> None:
    outputs: list[Tensor] = []

    def run(model: nn.Module, nodes_before: int) -> None:
        for _ in range(nodes_before):
            torch.ones(1, requires_grad=True) * 2
        outputs.append(model(torch.ones(1, 2)))

    # Each thread counts from 0: the nodes made before give all of the second model the higher numbers.
    for model, nodes_before in (
        (Net(lambda net, x: net.a(x), a=linear()), 0),
        (nn.Sequential(linear()), 9),
    ):
        thread = threading.Thread(target=run, args=(model, nodes_before))
        thread.start()
        thread.join()
    watch.taken()
    (outputs[0] + outputs[1]).sum().backward()
    S, S0 = "Sequential", "Sequential.0"  # noqa: N806
    assert watch.taken() == [
        ("pre_bw", [S]),
        ("pre_bw", [S, S0]),
        ("pre_bw", sorted([*N, S, S0])),
        ("pre_bw", sorted([*A, S, S0])),
        ("post_bw", sorted([*A, S, S0])),
        ("post_bw", sorted([*A, S])),
        ("post_bw", A),
        ("post_bw", N),
    ]


@pytest.mark.usefixtures("tracker")
def test_while_the_instrumentor_comes_and_goes(watch: Watch) -> None:
    instrumentor, provider = TorchModuleInstrumentor(), TracerProvider()

    def step() -> list[Event]:
        chain()(torch.ones(1, 2)).sum().backward()
        return watch.taken()

    assert step() == CHAIN_FORWARD + CHAIN_BACKWARD
    instrumentor.instrument(tracer_provider=provider)
    try:
        assert step() == CHAIN_FORWARD + CHAIN_BACKWARD
    finally:
        instrumentor.uninstrument()
    assert step() == CHAIN_FORWARD + CHAIN_BACKWARD


@pytest.mark.usefixtures("tracker")
def test_the_programs_engine_callbacks_run_before_the_end(watch: Watch) -> None:
    model = Net(lambda net, x: net.a(x), a=linear())

    def queue(gradient: Tensor) -> None:
        torch.autograd.Variable._execution_engine.queue_callback(watch.hook("callback"))

    model.a.weight.register_hook(queue)
    output = model(torch.ones(1, 2))
    watch.taken()
    output.sum().backward()
    assert watch.taken() == [
        ("pre_bw", N),
        ("pre_bw", A),
        ("callback", A),
        ("post_bw", A),
        ("post_bw", N),
    ]


@pytest.mark.usefixtures("tracker")
def test_an_error_in_a_user_hook_comes_out(watch: Watch) -> None:
    def fail(module: Any, gradients: Any) -> None:
        raise ValueError("of the hook")

    model = chain()
    watch.tracker.clear_user_hooks()
    watch.tracker.register_user_hooks(pre_bw_hook=fail)
    with pytest.raises(ValueError, match="of the hook"):
        model(torch.ones(1, 2)).sum().backward()
    assert watch.tracker.parents == {"Global"}
    watch.tracker.clear_user_hooks()
    watch.tracker.register_user_hooks(pre_fw_hook=fail)
    with pytest.raises(ValueError, match="of the hook"):
        model(torch.ones(1, 2))
    assert watch.tracker.parents == {"Global"}


@pytest.mark.usefixtures("tracker")
def test_entered_while_a_module_runs() -> None:
    inner = ModuleTracker()

    def forward(net: Any, x: Tensor) -> Tensor:
        inner.__enter__()
        return net.a(x)

    try:
        output = Net(forward, a=linear())(torch.ones(1, 2))
        assert inner.parents == {"Global"}
        seen = []
        output.register_hook(lambda grad: seen.append(inner.parents))
        output.sum().backward()
        assert seen == [{"Global", "Linear"}]
    finally:
        inner.__exit__()


def test_programs_that_transform_modules(watch: Watch) -> None:
    model, x = chain(), torch.ones(1, 2)
    traced = nn.Sequential(linear(), nn.ReLU())
    parameters = dict(model.named_parameters())

    def loss(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, values, (x,)).sum()

    def transformed() -> list[Any]:
        gradients = torch.func.grad(loss)(parameters, x)
        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x.expand(3, 1, 2))
        compiled = torch.compile(traced, backend="aot_eager", fullgraph=True)(x)
        torch.compiler.reset()
        return [
            *gradients.values(),
            *each.values(),
            compiled,
            torch.jit.trace(traced, x).code,
            torch.fx.symbolic_trace(traced).code,
            torch.export.export(traced, (x,)).graph_module.code,
            nn.Linear(2, 2, device="meta")(torch.ones(1, 2, device="meta")).shape,
        ]

    plain = transformed()
    with watch.tracker:
        tracked = transformed()
        assert watch.tracker.parents == {"Global"}
    for one, other in zip(plain, tracked, strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


@pytest.mark.slow
def test_no_sdk_is_imported() -> None:
    code = (
        "import sys, otel_torch_modules.tracker.module_tracker as t, torch\n"
        "with t.ModuleTracker() as tracker: torch.nn.Linear(1, 1)(torch.ones(1)).backward()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
