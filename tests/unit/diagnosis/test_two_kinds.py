"""Two kinds of steps in turn, as of a loop that trains two models: it is said that there are two, and nothing false."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.one_step import sentence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules.cli.overview import overview
from tests.unit.diagnosis.steps import Parts, make_run

EVEN_MS = 29.0


def in_turn(rest: int, more: float) -> Callable[[int, Parts], None]:
    def change(step: int, parts: Parts) -> None:
        if step % 2 == rest:
            parts["GPT"] = more

    return change


@pytest.fixture(params=[0, 1], ids=["even", "odd"])
def rest(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


@pytest.mark.parametrize("count", [10, 60, 61])
@pytest.mark.parametrize("more", [5.0, 20.0, 200.0])
def test_it_is_said_that_there_are_two(rest: int, count: int, more: float) -> None:
    run = make_run(count, in_turn(rest, more))
    kinds = run.steady.in_turn
    assert kinds is not None
    assert kinds.shorter_ms == pytest.approx(EVEN_MS, rel=0.1)
    assert kinds.longer_ms == pytest.approx(EVEN_MS + more, rel=0.1)
    found = [one for one in diagnose(run).findings if one.rule == "period"]
    (finding,) = found
    assert finding.sentence.startswith("There are two kinds of steps in turn, ")
    assert (finding.place, finding.phase) == ("GPT", "forward")
    assert all(number % 2 == rest for number in finding.steps)
    assert finding.cost_ms == pytest.approx(more / 2, rel=0.25)
    assert {one.rule for one in diagnose(run).findings} <= {"period", "warm-up", "module"}
    first, *_ = overview(run, None, 120)
    assert first.plain.endswith(kinds.said)


@pytest.mark.parametrize("at", [20, 21])
def test_a_slow_step_is_told_beside_those_of_its_kind(rest: int, at: int) -> None:
    def change(step: int, parts: Parts) -> None:
        in_turn(rest, 20.0)(step, parts)
        if step == at:
            parts["optimizer"] += 60.0

    run = make_run(60, change)
    slow = [one for one in diagnose(run).findings if one.rule == "slow-step"]
    (finding,) = slow
    assert (finding.steps, finding.place) == ((at,), "optimizer.step SGD")
    usual = EVEN_MS + (20.0 if at % 2 == rest else 0.0)
    for said in (finding.sentence, sentence(run, at)):
        match = re.search(r"the usual ([\d.]+)", said)
        assert match is not None
        assert float(match[1]) == pytest.approx(usual, rel=0.1)


def test_a_step_of_the_longer_kind_is_as_its_neighbours(rest: int) -> None:
    run = make_run(60, in_turn(rest, 20.0))
    for number in (20, 21):
        assert sentence(run, number).endswith("it is as its neighbours.")


def one_of(period: int) -> Callable[[int, Parts], None]:
    def change(step: int, parts: Parts) -> None:
        if step % period == 0:
            parts["GPT"] = 20.0

    return change


def since_the_middle(step: int, parts: Parts) -> None:
    parts["GPT"] = 20.0 * (step >= 30)


ALIKE: dict[str, Callable[[], Run]] = {
    "even": lambda: make_run(60),
    "noisy": lambda: make_run(60, noise=0.3),
    "every third": lambda: make_run(60, one_of(3)),
    "every fourth": lambda: make_run(60, one_of(4)),
    "since the middle": lambda: make_run(60, since_the_middle),
    "few": lambda: make_run(6, in_turn(1, 20.0)),
    "with modules in every second": lambda: make_run(
        60, in_turn(0, 20.0), kept=lambda step: "every" if step % 2 == 0 else None
    ),
}


@pytest.mark.parametrize("name", ALIKE)
def test_others_are_none(name: str) -> None:
    run = ALIKE[name]()
    assert run.steady.in_turn is None
    assert not any("two kinds" in finding.sentence for finding in diagnose(run).findings)
