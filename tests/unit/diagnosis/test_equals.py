"""Of equal blocks those that are unlike the others are told of together, in a sentence that its numbers bear out."""

from __future__ import annotations

import re

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.finding import Finding
from tests.unit.diagnosis.steps import Parts, make_run, usual_parts

MORE = 6.0


def findings(blocks: int, *keys: str) -> list[Finding]:
    """Return what the rule says of a run in which some places of a model of so many blocks take longer."""

    def change(step: int, parts: Parts) -> None:
        parts |= usual_parts(blocks)
        for key in keys:
            parts[key] += MORE

    return [one for one in diagnose(make_run(60, change)).findings if one.rule == "module"]


@pytest.mark.parametrize("several", range(1, 7))
@pytest.mark.parametrize("blocks", [4, 6, 12])
def test_all_of_them_are_told_of_with_what_they_cost(blocks: int, several: int) -> None:
    slow = [*range(1, blocks, 2)][:several]
    keys = [f"forward GPT.h.{block}.mlp" for block in slow]
    (found,) = findings(blocks, *keys)
    assert found.cost_ms == pytest.approx(MORE * len(slow), rel=0.05)
    assert found.place == (f"GPT.h.{slow[0]}.mlp" if len(slow) == 1 else "GPT.h.*.mlp")
    assert all(f"GPT.h.{block}.mlp" in found.sentence for block in slow[:3])
    assert f"the {blocks - len(slow)} others" in found.sentence
    assert ("is unlike its equals" in found.sentence) == (len(slow) == 1)
    assert (f"({len(slow)} of {blocks})" in found.sentence) == (len(slow) > 3)
    times = re.findall(r"\d+\.\d+", found.sentence)
    least, most = float(times[0]), float(times[-1])
    assert least > 1.5 * most, found.sentence


def test_most_of_them_are_not_unlike_the_others() -> None:
    assert findings(4, *(f"forward GPT.h.{at}.mlp" for at in (0, 1, 3))) == []


def test_blocks_that_are_unlike_in_both_phases_are_told_of_once() -> None:
    keys = [f"{phase} GPT.h.{at}.mlp" for phase in ("forward", "backward") for at in (0, 3)]
    (found,) = findings(6, *keys, "backward GPT.h.4.mlp")
    assert found.phase == "backward"
    assert found.cost_ms == pytest.approx(5 * MORE, rel=0.05)
    assert found.sentence.startswith("GPT.h.0.mlp, GPT.h.3.mlp and GPT.h.4.mlp are unlike")


def test_two_that_are_unlike_in_a_phase_each_are_told_of_apart() -> None:
    found = findings(6, "forward GPT.h.1.mlp", "backward GPT.h.4.mlp")
    assert {(one.place, one.phase) for one in found} == {
        ("GPT.h.1.mlp", "forward"),
        ("GPT.h.4.mlp", "backward"),
    }


@pytest.mark.parametrize("always", [0.0, MORE])
def test_what_one_has_become_is_told_of_once(always: float) -> None:
    def change(step: int, parts: Parts) -> None:
        parts["forward GPT.h.1.mlp"] += always + (2 * MORE if step >= 30 else 0.0)

    found = {one.rule: one for one in diagnose(make_run(60, change)).findings}
    assert found["drift"].place == "GPT.h.1.mlp"
    told = found["module"].cost_ms if "module" in found else 0.0
    assert told == pytest.approx(always, rel=0.05)
