"""How sure a comparison is of what it says: no surer than its steps let it be."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from otel_torch_modules._diagnosis.comparison import compare
from otel_torch_modules._diagnosis.run import Run
from tests.unit.diagnosis.steps import Parts, make_paused_run, make_run, make_steps


def slower(step: int, parts: Parts) -> None:
    parts["optimizer"] += 12.0


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 60), (60, 1), (3, 3), (5, 60), (60, 5)])
def test_few_steps_show_nothing(a: int, b: int) -> None:
    before, after = make_run(70).steady, make_run(70, slower, seed=1).steady
    found = compare(before.select(range(a)), after.select(range(b)))
    assert found.interval is None
    assert not found.differs
    assert found.changes == []
    assert not found.is_slower_than(0.05)
    few = min(a, b)
    steps = "1 step" if few == 1 else f"{few} steps"
    assert found.sentence.startswith(f"{steps} can show no difference, 6 of each might: 2")
    said = json.loads(json.dumps(found.as_json()))["step"]
    assert (said["low"], said["high"]) == (None, None)
    assert said["relative"] == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize(("a", "b"), [(6, 6), (6, 50), (50, 6), (50, 50)])
def test_enough_steps_show_what_is_beyond_their_noise(a: int, b: int) -> None:
    before, after = make_run(70).steady, make_run(70, slower, seed=1).steady
    found = compare(before.select(range(a)), after.select(range(b)))
    assert found.differs
    assert found.is_slower_than(0.05)
    assert [change.place.name for change in found.changes] == ["optimizer.step SGD"]
    assert "in optimizer.step SGD" in found.sentence


def test_a_minus_is_a_minus() -> None:
    found = compare(make_run(70).steady, make_run(70, seed=1).steady)
    assert not found.differs
    assert re.search(r"\(−\d+\.\d … \+\d+\.\d %\)\.$", found.sentence)


def every_tenth_waits(step: int, parts: Parts) -> None:
    parts["data"] += 100.0 * (step % 10 == 5)


def every_tenth_waits_and_all_are_faster(step: int, parts: Parts) -> None:
    parts["optimizer"] = 0.2
    every_tenth_waits(step, parts)


# What no median step knows of: 100 steps of about 29 ms, and where it says the difference lies.
BESIDE_THE_MEDIAN: dict[str, tuple[Run, str]] = {
    "logging after each step": (make_run(gap=12.0, seed=1), "between the steps"),
    "an evaluation in each tenth": (
        make_paused_run("evaluate", "evaluate", dict.fromkeys(range(5, 100, 10), 100.0)),
        "between the steps",
    ),
    "a wait in each tenth": (make_run(100, every_tenth_waits, seed=1), "in some of the steps"),
    "both": (
        make_run(100, every_tenth_waits, gap=10.0, seed=1),
        "between and in the steps",
    ),
}


@pytest.mark.parametrize("kind", BESIDE_THE_MEDIAN)
def test_what_the_median_step_knows_nothing_of_is_a_difference(kind: str) -> None:
    plain, (run, where) = make_run().steady, BESIDE_THE_MEDIAN[kind]
    slower, faster = compare(plain, run.steady), compare(run.steady, plain)
    assert not slower.differs
    assert slower.sentence.startswith(
        f"B is {100 * slower.pace.relative:.1f} % slower from start to start, on average"
    )
    assert f" ms, {where}; the median step shows no difference: " in slower.sentence
    assert " % faster from start to start" in faster.sentence
    assert slower.is_slower_than(0.02)
    assert not faster.is_slower_than(0.0)
    said = json.loads(json.dumps(slower.as_json()))["start_to_start"]
    assert 0.02 < said["low"] < said["relative"] < said["high"]


def test_where_the_median_step_says_the_contrary_both_are_said() -> None:
    found = compare(make_run().steady, make_run(100, every_tenth_waits_and_all_are_faster).steady)
    first, second = found.sentence.split(" B is ")
    assert "% faster per step" in first
    assert "% slower from start to start, on average" in second
    assert found.is_slower_than(0.05)


def hiccup(step: int, parts: Parts) -> None:
    parts["data"] += 500.0 * (step == 40)


@pytest.mark.parametrize(
    "about",
    [
        *({"noise": noise, "seed": seed} for noise in (0.02, 0.3) for seed in (1, 2, 3)),
        pytest.param({"change": hiccup}, id="a hiccup"),
        pytest.param({"gap": lambda step: 2000.0 if step == 60 else 0.1}, id="a pause"),
        pytest.param({"gap": lambda step: 2000.0 if step in (20, 60) else 0.1}, id="two pauses"),
    ],
    ids=str,
)
def test_noise_and_what_happened_once_are_no_difference(about: dict[str, Any]) -> None:
    usual, other = make_run(noise=about.get("noise", 0.02)).steady, make_run(**about).steady
    for found in (compare(usual, other), compare(other, usual)):
        assert found.sentence.startswith("No difference that 99 steps can show: ")
        assert not found.is_slower_than(0.02)


@pytest.mark.parametrize(("steps", "sure"), [(2, False), (6, False), (7, True), (50, True)])
def test_few_steps_show_no_pace(steps: int, *, sure: bool) -> None:
    a, b = (make_run(60, gap=gap).steady.select(range(steps)) for gap in (0.1, 12.0))
    found = compare(a, b)
    assert found.pace is not None
    assert found.pace.b_ms - found.pace.a_ms == pytest.approx(11.9, abs=1.0)
    assert (found.pace.interval is not None) is sure
    assert found.is_slower_than(0.05) is sure
    assert found.pace_sentence.startswith("From start to start, on average: ")


@pytest.mark.parametrize("numbers", [[0, 2, 4, 6, 8, 10, 12, 14], [3]], ids=str)
def test_where_no_step_follows_another_there_is_no_pace(numbers: list[int]) -> None:
    """A schedule or a sampler leaves the others out: what is between those that are there is no pause."""
    steps = make_steps(30)
    found = compare(Run([steps[number] for number in numbers]).steady, make_run().steady)
    assert found.pace is None
    assert "nothing is known" in found.pace_sentence
    assert found.as_json()["start_to_start"] is None


def test_nothing_is_faster_by_more_than_all() -> None:
    slow = make_run(30, gap=lambda step: 9000.0 if step in (7, 19) else 300.0)
    found = compare(slow.steady, make_run(30).steady)
    assert found.pace is not None
    assert found.pace.interval is not None
    assert found.pace.interval[0] == -1.0
