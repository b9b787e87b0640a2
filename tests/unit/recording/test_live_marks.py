"""How many nodes may be marked, while threads come and go."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from otel_torch_modules._recording.live_marks import LiveMarks
from otel_torch_modules._recording.torch_private.node_marks import mark_carrier, marks_by


def test_two_threads_may_find_at_once_that_the_marks_of_a_third_are_gone() -> None:
    live = LiveMarks()
    here = mark_carrier(lambda gradient: None)
    live.watch(here)

    def gone() -> Any:
        live._watched.remove(watched)  # as another thread does that is as fast
        return None

    watched: Any = (gone, lambda: None)
    live._watched.insert(0, watched)
    assert live.room() > 1_000
    assert [hooks() for hooks, _ in live._watched] == [here._backward_hooks]


def test_marks_of_threads_that_are_gone_count_as_those_of_others() -> None:
    live = LiveMarks()
    kept = [(torch.ones(2, requires_grad=True) * 2).grad_fn for _ in range(3)]
    empty = LiveMarks()
    empty.watch(mark_carrier(lambda gradient: None))
    most = empty.room()
    for _ in range(20):
        carrier = mark_carrier(lambda gradient: None)
        live.watch(carrier)
        for node in kept:
            assert node is not None
            marks_by(carrier)(node)
        before = live.room()
        del carrier
        assert live.room() == before
    assert live.room() == most - 60
    kept.clear()
    node = None
    assert live.room() == most


def test_the_stack_is_the_threads_own_whatever_it_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A greenlet's name for its thread is no thread's."""
    here, live = threading.get_ident(), LiveMarks()

    def watch() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading, "get_ident", lambda: here)
            live.watch(mark_carrier(lambda gradient: None))

    before = threading.stack_size(1 << 20)
    thread = threading.Thread(target=watch)
    thread.start()
    threading.stack_size(before)
    thread.join()
    assert live.room() == pytest.approx((1 << 20) / 768, rel=0.1)
