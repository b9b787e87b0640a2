"""Every instant of a step has exactly one phase."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.phase_shares import phase_shares

Write = Callable[..., Path]


def shares_of(write_traces: Write, step: Any) -> dict[str, float]:
    read = Traces.read(write_traces(step)).steps[0]
    return {phase: round(share, 6) for phase, share in phase_shares(read).items()}


def test_recompute_is_not_counted_as_backward(write_traces: Write, step: Any) -> None:
    assert shares_of(write_traces, step(0, wait=23)) == {
        "data": 0.23,
        "forward": 0.2,
        "backward": 0.42,
        "recompute": 0.08,
        "optimizer": 0.04,
        "between": 0.03,
    }


def test_forward_inside_the_optimizer_is_forward(write_traces: Write, sample: Any) -> None:
    closure = sample("forward GPT", "forward", 2, 6)
    optimizer = sample("optimizer.step LBFGS", "optimizer", 0, 8, (closure,))
    shares = shares_of(write_traces, sample("train.step", "step", 0, 10, (optimizer,)))
    assert shares == {
        "data": 0,
        "forward": 0.4,
        "backward": 0,
        "recompute": 0,
        "optimizer": 0.4,
        "between": 0.2,
    }


def test_a_span_of_the_program_counts_as_what_it_lies_in(write_traces: Write, sample: Any) -> None:
    rope = sample("rope", None, 1, 3)
    loss = sample("loss", None, 5, 8)
    step = sample(
        "train.step", "step", 0, 10, (sample("forward A", "forward", 0, 4, (rope,)), loss)
    )
    shares = shares_of(write_traces, step)
    assert (shares["forward"], shares["between"]) == (0.4, 0.6)


def test_overlapping_and_protruding_spans_are_not_counted_twice(
    write_traces: Write, sample: Any
) -> None:
    spans = (
        sample("forward A", "forward", 0, 6),
        sample("forward B", "forward", 1, 3),
        sample("backward", "backward", 4, 14),
    )
    shares = shares_of(write_traces, sample("train.step", "step", 0, 10, spans))
    assert (shares["forward"], shares["backward"], shares["between"]) == (0.6, 0.4, 0)


def test_a_step_without_length_has_no_shares(write_traces: Write, sample: Any) -> None:
    assert set(shares_of(write_traces, sample("train.step", "step", 5, 5)).values()) == {0}
