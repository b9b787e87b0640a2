"""A number that stands beside a place is what was lost in that place, and not all that a step lost."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.one_step import sentence
from otel_torch_modules._diagnosis.rules.excess import SLOW, excesses
from otel_torch_modules._diagnosis.rules.explained import in_short
from otel_torch_modules._diagnosis.run import Run
from tests.unit.diagnosis.steps import Parts, make_run, make_steps

WORST, OTHER = "forward GPT.h.3.mlp", "backward GPT.h.1.attn"
LOST = 100.0  # ms of a slow step
NUMBER = r"([0-9.]+) ms"


def slowed(steps: tuple[int, ...], share: float) -> Callable[[int, Parts], None]:
    """Return what has steps lose `LOST` ms, that share of it in the worst place and the rest in others."""

    def change(step: int, parts: Parts) -> None:
        if step in steps:
            parts[WORST] += share * LOST
            for block in range(4):
                parts[f"backward GPT.h.{block}.attn"] += (1 - share) * LOST / 4

    return change


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8, 1.0])
@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((21,), rf"{NUMBER} of it more in forward GPT\.h\.3\.mlp"),
        ((21, 34, 61), rf"took {NUMBER} more each, (?:{NUMBER} of it )?in forward GPT\.h\.3\.mlp"),
        (tuple(range(9, 100, 10)), rf"takes {NUMBER} more(?:, {NUMBER} of it)? in forward GPT"),
    ],
    ids=["one step", "some", "a period"],
)
def test_in_a_finding(steps: tuple[int, ...], said: str, share: float) -> None:
    run = make_run(change=slowed(steps, share))
    (finding,) = (one for one in diagnose(run).findings if set(one.steps) == set(steps))
    match = re.search(said, finding.sentence)
    assert match, finding.sentence
    whole, there = float(match[1]), float(match[match.lastindex or 1])
    assert there == pytest.approx(share * LOST, rel=0.05)
    assert whole == pytest.approx(LOST if len(steps) > 1 else there, rel=0.05)


@pytest.mark.parametrize("share", [0.4, 0.6, 1.0])
def test_beside_an_odd_step_as_where_that_one_is_asked_for(share: float) -> None:
    run = make_run(change=slowed((21,), share))
    (excess,) = excesses(run, SLOW)
    words = [
        rf"^\+{NUMBER} forward GPT\.h\.3\.mlp$",
        rf"\+{NUMBER} forward GPT\.h\.3\.mlp \(usually",
    ]
    for text, pattern in zip((in_short(run, excess), sentence(run, 21)), words, strict=True):
        match = re.search(pattern, text)
        assert match, text
        assert float(match[1]) == pytest.approx(share * LOST, rel=0.05)


def test_of_a_step_that_was_slower_all_over_it_is_all_that_it_lost() -> None:
    def change(step: int, parts: Parts) -> None:
        for part in parts:
            parts[part] *= 3 if step == 21 else 1

    run = make_run(change=change)
    (excess,) = excesses(run, SLOW)
    match = re.fullmatch(rf"\+{NUMBER} in many places.*", in_short(run, excess))
    assert match
    assert float(match[1]) == pytest.approx(excess.ms, rel=0.01)


def test_what_another_rank_lost_is_said_to_be_that_ranks() -> None:
    ranks = [
        make_steps(40, slowed((21,), 1.0 if rank == 2 else 0.0) if rank == 2 else _waits, rank=rank)
        for rank in range(3)
    ]
    run = Run([span for steps in zip(*ranks, strict=True) for span in steps])
    (excess,) = (one for one in excesses(run, SLOW) if run.steady.numbers[one.at] == 21)
    assert re.fullmatch(rf"\+{NUMBER} forward GPT\.h\.3\.mlp on rank 2", in_short(run, excess))


def _waits(step: int, parts: Parts) -> None:
    """Lose what the late rank loses where the others' gradients are waited for."""
    parts["engine"] += LOST if step == 21 else 0.0
