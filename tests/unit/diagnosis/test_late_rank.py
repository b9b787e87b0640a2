"""Where one rank is late in a step and the others wait for it, it is that rank of which is told, wherever it was."""

from __future__ import annotations

import re

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.one_step import sentence
from otel_torch_modules._diagnosis.run import Run
from tests.unit.diagnosis.ranks_that_meet import Meet, Part, Work, run_of

RANKS, SLOW, LOST = 3, 21, 300.0
MAIN = 0  # whose steps are told of, be all as long
LOOP = Work("", None, 0.3)  # of the loop's own, in no span
PARTS: list[Part] = [
    LOOP,
    Work("dataloader.next", "data", 0.1),
    Work("forward GPT", "forward", 5.0, "GPT"),
    LOOP,
    Meet("all_reduce", (tuple(range(RANKS)),)),
    LOOP,
    Work("optimizer.step SGD", "optimizer", 1.0),
    Work("my logging", None, 0.1),
    LOOP,
]
MET = PARTS.index(Meet("all_reduce", (tuple(range(RANKS)),)))
LATE = [number for number, part in enumerate(PARTS) if isinstance(part, Work)]
BEHIND = len(PARTS)  # in no step


def where(number: int) -> str:
    """Return how the place of a part stands in a sentence."""
    if number == BEHIND:
        return "before the step"
    part = PARTS[number]
    assert isinstance(part, Work)
    words = f"{part.phase} {part.fqn}" if part.fqn else part.name
    return f"in {words}" if words else "between the spans"


def run_with(rank: int, number: int) -> Run:
    return run_of(RANKS, PARTS, {(SLOW, rank, number): LOST})


@pytest.mark.parametrize("rank", range(RANKS))
@pytest.mark.parametrize("number", [*LATE, BEHIND])
def test_the_slow_step_is_told_of_the_late_rank(number: int, rank: int) -> None:
    found = [one for one in diagnose(run_with(rank, number)).findings if one.cost_share > 0.1]
    if number == BEHIND and rank == MAIN:  # it is late in none of its steps
        assert [one.rule for one in found] == ["between"]
        return
    (one,) = found
    waits = number > MET and rank != MAIN
    assert (one.rule, one.rank, one.steps) == ("slow-step", rank, (SLOW + waits,))
    assert where(number) in one.sentence
    on_rank = f"on rank {rank}" + " at the end of the step before" * (number < BEHIND and waits)
    assert one.sentence.endswith(f"{on_rank}; the others waited for it.") is (rank != MAIN)


@pytest.mark.parametrize("after", [MET - 1, MET + 1])
@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("python.gc", "gc"),
        ("compile", "compile"),
        ("checkpoint.save", "checkpoint"),
        ("mine", None),
    ],
)
def test_a_rank_that_is_late_in_what_it_does_alone_is_late_in_that(
    name: str, phase: str | None, after: int
) -> None:
    """Right in the step, before all meet or after: the others have no such span."""
    parts = [*PARTS[:after], Work(name, phase, 0.0), *PARTS[after:]]
    late = {(step, 1, after): 20.0 for step in range(30)}
    findings = diagnose(run_of(RANKS, parts, late)).findings
    (straggler,) = [one for one in findings if one.rule == "straggler"]
    assert (straggler.rank, straggler.place, straggler.phase) == (1, name, phase)
    assert f"it loses them in {name}" in straggler.sentence


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("more", [0.0, 40.0])
@pytest.mark.parametrize(
    ("name", "rule"),
    [("python.gc", "gc"), ("compile", "compile"), ("checkpoint.save", "checkpoint")],
)
def test_what_makes_a_rank_late_is_told_once_unless_there_is_more_of_it(
    name: str, rule: str, more: float, rank: int
) -> None:
    """All ranks have more of it, or none has; what a cause costs is told of the main rank alone."""
    after = MET - 1
    parts = [*PARTS[:after], Work(name, rule, more), *PARTS[after:]]
    findings = diagnose(run_of(RANKS, parts, {(n, rank, after): 20.0 for n in range(30)})).findings
    rules = [one.rule for one in findings if one.rule in ("straggler", rule)]
    assert sorted(rules) == sorted(["straggler", *[rule] * bool(more)])


@pytest.mark.parametrize("rank", range(RANKS))
@pytest.mark.parametrize("number", [*LATE, BEHIND])
def test_of_one_step_it_is_said_who_was_late_and_who_waited(number: int, rank: int) -> None:
    run = run_with(rank, number)
    lost = r"\+300 ms [^:]*"
    if number < MET:
        said = sentence(run, SLOW)
        assert re.search(
            rf"{lost} on rank {rank} alone; the others waited for it in all_reduce\.$", said
        )
        return
    if number < BEHIND:
        assert re.search(rf"{lost} on rank {rank} alone\.$", sentence(run, SLOW))
    said = sentence(run, SLOW + 1)
    did = "began 300 ms late"
    if number < BEHIND:
        place = where(number).replace("the spans", "its phases")
        did = f"lost 300 ms {place} at the end of the step before"
    waiting = min(set(range(RANKS)) - {rank})
    assert re.fullmatch(
        rf"Step 22 took 30\d ms on rank {waiting}, [\d.]+ × the usual [\d.]+: \+300 ms all_reduce "
        rf"\(usually [\d.]+\), where it waited for rank {rank}, which {did}\.",
        said,
    ), said
