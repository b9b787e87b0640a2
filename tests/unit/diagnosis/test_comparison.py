"""How sure a comparison is of what it says: no surer than its steps let it be."""

from __future__ import annotations

import json
import re

import pytest

from otel_torch_modules._diagnosis.comparison import compare
from tests.unit.diagnosis.steps import Parts, make_run


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
