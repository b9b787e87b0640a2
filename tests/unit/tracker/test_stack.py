"""What counts as still running, where frames of Python are the evidence."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from otel_torch_modules._recording.torch_private.autograd import graph_task_id
from otel_torch_modules.tracker.backward import LiveBackward
from otel_torch_modules.tracker.calls import LiveCall, LiveRuler
from otel_torch_modules.tracker.frames import KnownFrame
from otel_torch_modules.tracker.stack import LiveStack


def call_at(place: KnownFrame) -> LiveCall:
    return LiveCall("Module", nn.Module(), place, LiveRuler(), None)


def backward_at(place: KnownFrame, graph_task: int) -> LiveBackward:
    return LiveBackward(graph_task, place, LiveRuler(), lambda *_: None, lambda *_: None)


def in_backward(look: Callable[[], None]) -> None:
    """Run `look` in a tensor hook."""

    def hook(gradient: Tensor) -> None:
        with torch.enable_grad():
            look()

    x = torch.ones(1, requires_grad=True)
    x.register_hook(hook)
    (x * 1).backward()


def test_a_place_is_found_among_the_callers() -> None:
    def inner() -> None:
        frame = sys._getframe()
        assert place.frames_inside(frame) == [frame]
        assert KnownFrame.of(frame).frames_inside(frame) == []
        assert KnownFrame.of(frame).frames_inside(frame.f_back) is None

    place = KnownFrame.of(sys._getframe())
    inner()


def test_a_frame_of_other_code_with_the_same_id_is_another_frame() -> None:
    frame = sys._getframe()
    assert KnownFrame(id(frame), call_at.__code__).frames_inside(frame) is None


def test_threads_of_the_engine_have_no_frame_below() -> None:
    frame = sys._getframe()
    assert KnownFrame.of(None).frames_inside(None) == []
    assert KnownFrame.of(None).frames_inside(frame)[0] is frame


def test_a_call_runs_while_its_frame_does() -> None:
    def left() -> LiveCall:
        return call_at(KnownFrame.of(sys._getframe()))

    outer = call_at(KnownFrame.of(sys._getframe()))
    stack = LiveStack([outer, left(), left()])
    stack.heal(sys._getframe())
    assert stack == [outer]
    assert stack.innermost_call() is outer


def test_returning_to_a_call_drops_what_is_inside() -> None:
    def inner() -> None:
        stack.append(call_at(KnownFrame.of(sys._getframe())))

    here = sys._getframe()
    stack = LiveStack([call_at(KnownFrame.of(here))])
    inner()
    outer = stack[0]
    assert stack.return_to(here) is outer
    assert stack == [outer]
    assert LiveStack().return_to(here) is None


def test_a_backward_in_the_frame_of_one_that_raised_is_another() -> None:
    seen = []

    def look() -> None:
        engine = sys._getframe(2)
        assert engine.f_code.co_name == "_engine_run_backward"
        this = backward_at(KnownFrame.of(engine), graph_task_id())
        raised = backward_at(KnownFrame.of(engine), graph_task_id() - 1)
        for stack in (LiveStack([this]), LiveStack([raised])):
            stack.heal(sys._getframe())
            seen.append(len(stack))

    in_backward(look)
    assert seen == [1, 0]


def test_a_backward_runs_while_another_runs_inside_of_it() -> None:
    seen = []
    stack = LiveStack()

    def inner() -> None:
        stack.heal(sys._getframe())
        seen.append([entry.graph_task for entry in stack])
        seen.append(stack.backward(graph_task_id()))

    def outer() -> None:
        stack.append(backward_at(KnownFrame.of(sys._getframe(2)), graph_task_id()))
        seen.append([graph_task_id()])
        in_backward(inner)

    in_backward(outer)
    assert seen == [seen[0], seen[0], None]
    stack.heal(sys._getframe())
    assert stack == []
