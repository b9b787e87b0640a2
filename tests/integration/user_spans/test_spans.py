"""The program's own spans find their place among ours, and ours among them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from textwrap import indent

import torch
from opentelemetry import context, trace
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import step as manual_step
from otel_torch_modules.testing import Captured, capture_spans
from tests.support.small_training import (
    BACKWARD,
    EVALUATION,
    FORWARD,
    STEP,
    Net,
    batch,
    optimizer,
    outline,
    step,
    train,
)


def tracer(captured: Captured) -> trace.Tracer:
    return captured.provider.get_tracer("program")


def below(parent: str, *parts: str) -> str:
    return parent + "\n" + indent("".join(parts), "  ")


class Rope(nn.Module):
    """Opens a span of its own between two layers."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU()
        self._tracer = tracer

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        with self._tracer.start_as_current_span("rope"):
            x = x * 2
        return self.act(x)


def test_a_span_in_the_loop_is_a_child_of_the_step(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for _ in range(2):
            output = model(batch())
            with tracer(captured).start_as_current_span("loss"):
                loss = output.sum()
            loss.backward()
            sgd.step()
    assert outline(captured) == 2 * step(FORWARD, "loss\n", BACKWARD, optimizer())


def test_what_a_span_of_the_loop_encloses_keeps_its_place_in_the_step(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        for _ in range(2):
            loss = model(batch()).sum()
            with tracer(captured).start_as_current_span("update"):
                loss.backward()
                sgd.step()
    (first, second) = captured.trees
    for tree in (first, second):
        assert sorted(child.name for child in tree.children) == [
            "backward",
            "forward Net",
            "optimizer.step SGD",
            "update",
        ]


def test_a_span_in_a_module_is_a_child_of_that_module() -> None:
    with capture_spans() as captured:
        model = Rope(tracer(captured))
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(2):
            train(model, sgd)
    expected = """\
train.step
  forward Rope
    forward fc
    rope
    forward act
  backward
    backward Rope
      backward act
      backward fc
  optimizer.step SGD
"""
    assert outline(captured) == 2 * expected


def test_a_span_around_a_child_call_is_its_sibling() -> None:
    class Outer(nn.Module):
        def __init__(self, tracer: trace.Tracer) -> None:
            super().__init__()
            self.rope = Rope(tracer)
            self._tracer = tracer

        def forward(self, x: Tensor) -> Tensor:
            with self._tracer.start_as_current_span("around"):
                return self.rope(x)

    with capture_spans() as captured, torch.no_grad():
        model = Outer(tracer(captured)).eval()
        model(batch())
    (tree,) = captured.trees
    names = {child.name: [below.name for below in child.children] for child in tree.children}
    assert names == {"around": ["rope"], "forward rope": ["forward fc", "forward act"]}


def test_a_span_in_an_evaluation_is_a_child_of_its_module() -> None:
    with capture_spans() as captured, torch.no_grad():
        Rope(tracer(captured)).eval()(batch())
    assert outline(captured) == "forward Rope\n  forward fc\n  rope\n  forward act\n"


def test_a_span_in_recompute_is_a_child_of_the_recomputed_module() -> None:
    with capture_spans() as captured:
        model = Rope(tracer(captured))
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        checkpoint(model, batch(), use_reentrant=False).sum().backward()
        sgd.step()
    (recomputed,) = captured.trees[0].find("recompute Rope")
    # Recomputes are drawn before the work that set them off; the program's own span keeps its times.
    assert [child.name for child in recomputed.children if child.name != "rope"] == [
        "recompute fc",
        "recompute act",
    ]
    assert [child.name for child in recomputed.children].count("rope") == 1


def test_a_span_in_a_tensor_hook_is_a_child_of_the_step(sgd: torch.optim.SGD, model: Net) -> None:
    with capture_spans() as captured:

        def hook(gradient: Tensor) -> None:
            with tracer(captured).start_as_current_span("clip"):
                pass

        output = model(batch())
        output.register_hook(hook)
        output.sum().backward()
        sgd.step()
    (tree,) = captured.trees
    assert sorted(child.name for child in tree.children) == [
        "backward",
        "clip",
        "forward Net",
        "optimizer.step SGD",
    ]


def test_an_epoch_is_the_parent_of_its_steps_and_evaluations(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        for _ in range(2):
            with tracer(captured).start_as_current_span("epoch"):
                for _ in range(2):
                    model.train()
                    train(model, sgd)
                with torch.no_grad():
                    model.eval()(batch())
    assert outline(captured) == 2 * below("epoch", 2 * STEP, EVALUATION)
    for tree in captured.trees:
        assert tree.span.parent is None


def test_a_span_around_each_step_is_its_parent(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for _ in range(3):
            with tracer(captured).start_as_current_span("iteration"):
                train(model, sgd)
    assert outline(captured) == 3 * below("iteration", STEP)


def test_an_epoch_opened_in_the_middle_of_a_step_is_its_child(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        train(model, sgd)
        output = model(batch())
        with tracer(captured).start_as_current_span("epoch"):
            output.sum().backward()
            sgd.step()
            train(model, sgd)
        train(model, sgd)
    first, second, last = captured.trees
    assert first.outline() + "\n" == STEP
    assert last.outline() + "\n" == STEP
    assert [child.name for child in second.children if child.name == "epoch"] == ["epoch"]
    assert [child.name for child in second.find("epoch")[0].children] == ["train.step"]


def test_a_span_that_is_left_open_does_no_harm(model: Net, sgd: torch.optim.SGD) -> None:
    before = context.get_current()
    with capture_spans() as captured:
        left = tracer(captured).start_span("left open")
        token = context.attach(trace.set_span_in_context(left))
        for _ in range(2):
            train(model, sgd)
        assert trace.get_current_span() is left
        context.detach(token)
        train(model, sgd)
    assert context.get_current() is before
    assert outline(captured) == 3 * STEP
    parents = [tree.span.parent and tree.span.parent.span_id for tree in captured.trees]
    assert parents == [left.get_span_context().span_id] * 2 + [None]


def test_a_span_left_open_inside_a_step_becomes_the_parent_of_the_next(
    model: Net, sgd: torch.optim.SGD
) -> None:
    before = context.get_current()
    with capture_spans() as captured:
        output = model(batch())
        left = tracer(captured).start_span("left open")
        token = context.attach(trace.set_span_in_context(left))
        output.sum().backward()
        sgd.step()
        train(model, sgd)
        context.detach(token)
        train(model, sgd)
        train(model, sgd)
    assert not trace.get_current_span().get_span_context().is_valid
    context.attach(before)
    assert outline(captured) == 4 * STEP
    parents = [tree.span.parent and tree.span.parent.span_id for tree in captured.trees]
    assert parents == [None, left.get_span_context().span_id, None, None]


def test_outside_of_steps_nothing_of_ours_is_current(model: Net, sgd: torch.optim.SGD) -> None:
    valid = []
    with capture_spans():
        for _ in range(2):
            valid.append(trace.get_current_span().get_span_context().is_valid)
            output = model(batch())
            valid.append(trace.get_current_span().get_span_context().is_valid)
            output.sum().backward()
            valid.append(trace.get_current_span().get_span_context().is_valid)
            sgd.step()
        valid.append(trace.get_current_span().get_span_context().is_valid)
    assert valid == [False, True, True, False, True, True, False]


def test_steps_inside_a_generator(model: Net, sgd: torch.optim.SGD) -> None:
    def steps(tracer: trace.Tracer) -> Iterator[Tensor]:
        for _ in range(3):
            output = model(batch())
            yield output
            output.sum().backward()
            sgd.step()

    with capture_spans() as captured:
        for _ in steps(tracer(captured)):
            with tracer(captured).start_as_current_span("consumer"):
                pass
    assert outline(captured) == 3 * step(FORWARD, "consumer\n", BACKWARD, optimizer())


def test_steps_inside_tasks_of_an_event_loop(model: Net, sgd: torch.optim.SGD) -> None:
    async def one() -> None:
        output = model(batch())
        await asyncio.sleep(0)
        output.sum().backward()
        await asyncio.sleep(0)
        sgd.step()

    async def main() -> None:
        for _ in range(2):
            await asyncio.create_task(one())
        await one()

    with capture_spans() as captured:
        asyncio.run(main())
        train(model, sgd)
    assert outline(captured) == 4 * STEP


def test_a_step_that_begins_in_one_context_and_ends_in_another(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        loss = contextvars.copy_context().run(lambda: model(batch()).sum())
        loss.backward()
        contextvars.copy_context().run(sgd.step)
        train(model, sgd)
    assert outline(captured) == 2 * STEP


def test_a_span_of_another_thread_has_no_place_in_the_step(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        output = model(batch())

        def elsewhere() -> None:
            with tracer(captured).start_as_current_span("elsewhere"):
                pass

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        output.sum().backward()
        sgd.step()
    assert outline(captured) == STEP + "elsewhere\n"


def test_a_manual_step_inside_a_span_and_spans_inside_a_manual_step(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        with tracer(captured).start_as_current_span("epoch"):
            for _ in range(2):
                with manual_step():
                    with tracer(captured).start_as_current_span("before"):
                        pass
                    train(model, sgd)
                    with tracer(captured).start_as_current_span("after"):
                        pass
        assert not trace.get_current_span().get_span_context().is_valid
    inside = step("before\n", FORWARD, BACKWARD, optimizer(), "after\n")
    assert outline(captured) == below("epoch", 2 * inside)
