"""Ranks that also meet in groups: told of is who is late, not who only waited for that one in a group."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.one_step import sentence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.small_groups import less_waits
from otel_torch_modules._diagnosis.straggler import find_straggler
from tests.unit.diagnosis.ranks_that_meet import Meet, Part, Work, run_of, steps_of

STEPS, SLOW, LOST = 30, 21, 30.0
FORWARD = Work("forward GPT", "forward", 5.0, "GPT")
LOOP = Work("", None, 0.1)
PAIRS, ALL = ((0, 1), (2, 3)), ((0, 1, 2, 3),)
GROUPS: dict[str, tuple[int, list[Part]]] = {
    "pairs": (4, [LOOP, FORWARD, Meet("all_reduce", PAIRS), LOOP, Meet("all_reduce", ALL), LOOP]),
    "pairs of one name": (
        4,
        [LOOP, FORWARD, Meet("all_reduce", PAIRS, "tp"), LOOP, Meet("all_reduce", ALL), LOOP],
    ),
    "pairs, twice": (
        4,
        [LOOP, Meet("all_gather", PAIRS), FORWARD, Meet("all_reduce", PAIRS), Meet("barrier", ALL)],
    ),
    "rows and columns": (
        4,
        [
            LOOP,
            FORWARD,
            Meet("all_reduce", PAIRS, "tp"),
            Meet("all_reduce", ((0, 2), (1, 3)), "dp"),
            LOOP,
        ],
    ),
    "some pass by": (
        3,
        [
            LOOP,
            FORWARD,
            Meet("all_reduce", ((0, 1),)),
            LOOP,
            Meet("all_reduce", ((0, 1, 2),)),
            LOOP,
        ],
    ),
    "most are in one": (
        4,
        [LOOP, FORWARD, Meet("all_reduce", ((0, 1, 2),)), Meet("all_reduce", ALL), LOOP],
    ),
    "at the end": (
        3,
        [FORWARD, Meet("all_reduce", ((0, 1, 2),)), LOOP, Meet("all_reduce", ((0, 1),)), LOOP],
    ),
}


def late_in(name: str, rank: int, part: Part, steps: range) -> Run:
    """Return a run in some of whose steps a rank is late, in a part that lies before all collectives of the step."""
    ranks, parts = GROUPS[name]
    return run_of(ranks, parts, {(step, rank, parts.index(part)): LOST for step in steps}, STEPS)


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("name", GROUPS)
def test_the_late_rank_is_named_and_none_that_waited_for_it_in_a_group(
    name: str, rank: int
) -> None:
    for finding in diagnose(late_in(name, rank, FORWARD, range(STEPS))).findings:
        if finding.rule == "straggler":
            assert (finding.rank, finding.place) == (rank, "forward GPT")
            assert finding.cost_ms == pytest.approx(LOST, rel=0.1)
            break
    else:
        raise AssertionError("no rank is named")


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_late_for_a_group_after_all_have_met_is_named_in_both_steps(rank: int) -> None:
    ranks, parts = GROUPS["at the end"]
    late = {(SLOW, rank, 2): LOST}
    steps = [
        steps_of(ranks, parts, late)[at * ranks :][:ranks] for at in (SLOW - 1, SLOW, SLOW + 1)
    ]
    for at in (1, 2):
        last = find_straggler(steps[at], steps[at - 1])
        assert (last.rank, last.is_before) == (rank, at == 2)
        assert last.behind == pytest.approx(LOST * 1e6, rel=0.02)
        assert last.lost == pytest.approx(LOST * 1e6, rel=0.02)


def test_a_rank_that_first_waited_in_a_group_lost_its_own_time_elsewhere() -> None:
    ranks, parts = GROUPS["some pass by"]
    steps = steps_of(ranks, parts, {(0, 0, 1): 0.6 * LOST, (0, 1, 3): LOST}, 1)
    last = find_straggler(steps)
    assert (last.rank, last.place) == (1, "between its phases")
    assert last.lost == pytest.approx(LOST * 1e6, rel=0.02)


@pytest.mark.parametrize("rank", [0, 1])
def test_what_a_group_waits_for_at_the_end_of_a_step_is_told_once(rank: int) -> None:
    ranks, parts = GROUPS["at the end"]
    run = run_of(ranks, parts, {(SLOW, rank, 2): LOST})
    (finding,) = [one for one in diagnose(run).findings if one.cost_share > 0.02]
    assert (finding.rule, finding.rank, finding.steps) == ("slow-step", rank, (SLOW,))
    assert f"on rank {rank} alone; rank {1 - rank} waited for it in all_reduce." in sentence(
        run, SLOW
    )
    assert "on rank 2, " in sentence(run, SLOW + 1)
    assert f"it waited for rank {rank}, which lost 30.0 ms between" in sentence(run, SLOW + 1)
    often = {(step, rank, 2): LOST for step in (5, 8, 14, 19, 26)}
    told = [
        one for one in diagnose(run_of(ranks, parts, often)).findings if one.rule == "straggler"
    ]
    assert [(one.rank, one.steps) for one in told] == [(rank, (5, 8, 14, 19, 26))]


@given(st.integers(0, 10**6))
def test_however_ranks_are_grouped_the_one_that_lost_most_of_its_own_is_last(seed: int) -> None:
    random = Random(seed)
    size, of = random.choice([(2, 4), (2, 6), (3, 6), (4, 8), (2, 8)])
    order = random.sample(range(of), of)
    groups = tuple(tuple(sorted(order[at : at + size])) for at in range(0, of, size))
    group_name = random.choice(["", "tp"])
    every = Meet("all_reduce", (tuple(range(of)),))
    parts: list[Part] = [every]
    for _ in range(random.randint(1, 3)):
        parts += [LOOP, Meet("all_reduce", groups, group_name)]
    parts += [LOOP, every, LOOP]
    late = random.randrange(of)
    part = random.choice([at for at, one in enumerate(parts[:-1]) if isinstance(one, Work)])
    last = find_straggler(steps_of(of, parts, {(0, late, part): LOST}, 1))
    assert last.rank == late
    assert last.behind == pytest.approx(LOST * 1e6, rel=0.05)


def test_nobody_comes_before_the_first_that_came() -> None:
    assert less_waits([5, 9, 30], [0, 30, 4]) == [5, 5, 26]
