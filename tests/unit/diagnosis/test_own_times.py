"""Every instant of a step is one span's own, wherever the program's own spans lie."""

from __future__ import annotations

import io
import json
from array import array
from collections import Counter
from typing import Any, NamedTuple

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import own_times
from otel_torch_modules._pictures.speedscope import write_speedscope
from otel_torch_modules._pictures.stacks import TimedStacks
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Remark, Span, Trace
from otel_torch_modules.cli.folded_tree import Row, folded
from otel_torch_modules.cli.phase_shares import phase_shares
from tests.unit.diagnosis.steps import START, site

MS = 1_000_000


class Part(NamedTuple):
    """A span below a step, or below the span of the step's that is named; times are ms."""

    name: str
    phase: str | None
    start: float
    end: float
    parent: str = "train.step"


class Case(NamedTuple):
    parts: tuple[Part, ...]
    own: dict[str, float]  # ms by name
    between: float  # share of the phase, the program's own spans among it


FORWARD = Part("forward", "forward", 10, 30)
BACKWARD = Part("backward", "backward", 50, 80)
GAPS = (
    Part("between", "between", 0, 10),
    Part("between", "between", 30, 50),
    Part("between", "between", 80, 100),
)

CASES = {
    "none": Case((FORWARD, BACKWARD, *GAPS), {"between": 50}, 0.5),
    "in a gap": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 32, 45)), {"between": 37, "mine": 13}, 0.5
    ),
    "all of a gap": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 30, 50)), {"between": 30, "mine": 20}, 0.5
    ),
    "in a gap too short for a span": Case(
        (FORWARD, BACKWARD, *GAPS[1:], Part("mine", None, 2, 6)),
        {"between": 40, "mine": 4, "train.step": 6},
        0.5,
    ),
    "two in a gap": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 32, 40), Part("other", None, 42, 45)),
        {"between": 39, "mine": 8, "other": 3},
        0.5,
    ),
    "one in another": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 32, 45), Part("in", None, 33, 36, "mine")),
        {"between": 37, "mine": 10, "in": 3},
        0.5,
    ),
    "around a phase": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 45, 90)),
        {"between": 35, "mine": 15},
        0.5,
    ),
    "around all phases": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 5, 95)),
        {"between": 10, "mine": 40},
        0.5,
    ),
    "around a phase, one in another": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 5, 95), Part("in", None, 40, 90, "mine")),
        {"between": 10, "mine": 20, "in": 20},
        0.5,
    ),
    "beyond the step": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 90, 300)), {"between": 40, "mine": 10}, 0.5
    ),
    "in a phase": Case(
        (FORWARD, BACKWARD, *GAPS, Part("mine", None, 12, 18, "forward")),
        {"between": 50, "forward": 14, "mine": 6},
        0.5,
    ),
}


def step_of(parts: tuple[Part, ...], number: int = 0) -> Span:
    """Return a step of 100 ms; parents come before what is below them, siblings by their start."""
    whole = Part("train.step", "step", 0, 100, "")
    in_order: list[Part] = []
    parents: list[int] = []
    stack = [(whole, -1)]
    while stack:
        part, parent = stack.pop()
        below = [one for one in parts if one.parent == part.name]
        below.sort(key=lambda one: (one.start, -one.end), reverse=True)
        stack += [(one, len(in_order)) for one in below]
        in_order.append(part)
        parents.append(parent)
    sites = tuple([site(part.name, part.phase) for part in in_order])
    since = START + number * 100 * MS
    trace = Trace(
        f"{number:032x}",
        Shape(sites, tuple(parents)),
        array("Q", range(1, len(in_order) + 1)),
        array("Q", [parent + 1 for parent in parents]),
        array("Q", [since + round(part.start * MS) for part in in_order]),
        array("Q", [since + round(part.end * MS) for part in in_order]),
        [""] * len(in_order),
        {},
        {0: Remark({"torch.step": number})},
    )
    return Span(trace, 0)


def of_profile(events: list[dict[str, Any]], frames: list[dict[str, str]]) -> dict[str, float]:
    """Return the own times in ms of an evented profile."""
    own: Counter[str] = Counter()
    stack: list[str] = []
    now = 0
    for event in events:
        if stack:
            own[stack[-1]] += event["at"] - now
        now = event["at"]
        if event["type"] == "O":
            stack.append(frames[event["frame"]]["name"])
        else:
            stack.pop()
    return {name: time / MS for name, time in own.items() if time}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_own_times_add_up_to_the_step(case: Case) -> None:
    step = step_of(case.parts)
    own: dict[str, float] = {}
    for span, time in zip(step.walk(), own_times(step), strict=True):
        own[span.name] = own.get(span.name, 0.0) + time / MS
    expected = {"train.step": 0.0, "forward": 20.0, "backward": 30.0, **case.own}
    assert own == expected
    assert sum(own.values()) == 100
    stacks = dict(TimedStacks([step]))
    assert sum(stacks.values()) == 100 * MS
    out = io.BytesIO()
    write_speedscope([step], out)
    content = json.loads(out.getvalue())
    (single,) = [one for one in content["profiles"] if one["name"] == "step 0"]
    assert of_profile(single["events"], content["shared"]["frames"]) == {
        name: time for name, time in expected.items() if time
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_printed_of_the_step_says_the_same(case: Case) -> None:
    step = step_of(case.parts)
    shares = phase_shares(step)
    assert shares["forward"] == pytest.approx(0.2)
    assert shares["backward"] == pytest.approx(0.3)
    assert shares["between"] == pytest.approx(case.between)
    rows = [folded(step)]
    own: dict[str, float] = {}
    while rows:
        row: Row = rows.pop()
        rows += row.children
        name = row.spans[0].name
        own[name] = own.get(name, 0.0) + row.own
    assert own == {"train.step": 0.0, "forward": 20.0, "backward": 30.0, **case.own}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_finding_counts_a_span_of_the_program_as_what_lies_in_none(case: Case) -> None:
    run = Run([step_of(case.parts, number) for number in range(12)])
    findings = diagnose(run).findings
    assert all(finding.cost_share <= 1 for finding in findings)
    (between,) = [finding for finding in findings if finding.rule == "between"]
    unnamed = case.own.get("between", 0.0) + case.own.get("train.step", 0.0)
    assert between.cost_ms == pytest.approx(unnamed)
