"""How many nodes may be marked, while threads come and go."""

from __future__ import annotations

from typing import Any

from otel_torch_modules._recording.live_marks import LiveMarks
from otel_torch_modules._recording.torch_private.node_marks import mark_carrier


def test_two_threads_may_find_at_once_that_the_marks_of_a_third_are_gone() -> None:
    live = LiveMarks()
    here = mark_carrier(lambda gradient: None)
    live.watch(here)

    def gone() -> Any:
        live._hooks.remove(gone)  # type: ignore[arg-type]  # as another thread does that is as fast
        return None

    live._hooks.insert(0, gone)  # type: ignore[arg-type]
    assert live.room() > 1_000
    assert [watched() for watched in live._hooks] == [here._backward_hooks]
