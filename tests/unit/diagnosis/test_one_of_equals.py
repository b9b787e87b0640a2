"""A place is told by its pattern where several blocks have a share in it, and by its name where one did it all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_torch_modules._diagnosis.comparison import compare
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.places import Places, TimedPlace, guilty
from otel_torch_modules._shape import Site
from tests.unit.diagnosis.steps import BLOCKS, Parts, make_run, site

When = Callable[[int], float]  # ms more in a step

RULES: dict[str, When] = {
    "period": lambda step: 40.0 if step % 7 == 3 else 0.0,
    "slow-step": lambda step: 50.0 if step in (33, 61, 70) else 0.0,
    "drift": lambda step: 8.0 if step >= 50 else 0.0,
}


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("rule", RULES)
def test_one_that_did_it_all_is_named(rule: str, phase: str) -> None:
    def change(step: int, parts: Parts) -> None:
        parts[f"{phase} GPT.h.2.attn"] += RULES[rule](step)

    (found,) = (one for one in diagnose(make_run(change=change)).findings if one.rule == rule)
    assert (found.place, found.phase) == ("GPT.h.2.attn", phase)
    assert f"in {phase} GPT.h.2.attn" in found.sentence


@pytest.mark.parametrize("rule", RULES)
def test_of_several_it_is_said_what_they_have_in_common(rule: str) -> None:
    def change(step: int, parts: Parts) -> None:
        # All blocks are slower, or in slow steps each is at another time.
        blocks = range(BLOCKS) if rule == "drift" else [step % BLOCKS]
        for block in blocks:
            parts[f"forward GPT.h.{block}.attn"] += RULES[rule](step) / len(blocks)

    (found,) = (one for one in diagnose(make_run(change=change)).findings if one.rule == rule)
    assert found.place == "GPT.h.*.attn"
    assert "in forward GPT.h.*.attn" in found.sentence


@pytest.mark.parametrize("more", [6.0, -0.8])
@pytest.mark.parametrize("blocks", [[2], [0, 2], [0, 1, 2, 3]])
def test_of_two_runs_the_one_that_changed_is_named(blocks: list[int], more: float) -> None:
    def change(step: int, parts: Parts) -> None:
        for block in blocks:
            parts[f"forward GPT.h.{block}.attn"] += more

    found = compare(make_run().steady, make_run(change=change, seed=1).steady)
    (place,) = (changed for changed in found.changes if "attn" in changed.place.name)
    assert place.place.name == ("GPT.h.2.attn" if len(blocks) == 1 else "GPT.h.*.attn")
    assert place.b_ms - place.a_ms == pytest.approx(more * len(blocks), rel=0.05)
    assert place.a_ms == pytest.approx(1.0 if len(blocks) == 1 else BLOCKS, rel=0.05)


def test_one_did_it_where_the_others_did_hardly_anything() -> None:
    equals = [TimedPlace("forward", f"GPT.h.{at}", "GPT.h.*", "Block") for at in range(3)]
    assert guilty(dict(zip(equals, (0.2, 9.0, 0.1), strict=True))) == equals[1]
    assert guilty(dict(zip(equals, (2.0, 9.0, -3.0), strict=True))) == equals[0].starred


@pytest.mark.parametrize("fqn", [".", "..", ".a", "a.", ".0", "a..b", "0", ""])
def test_a_full_name_may_have_dots_anywhere(fqn: str) -> None:
    sites: list[Site] = [site("forward", "forward", name) for name in (fqn, "GPT.h.0", "GPT.h.1")]
    assert Places(sites).pattern(fqn) == fqn
