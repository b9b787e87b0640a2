"""The file of a report: what stands in it, how large it is, and that it is whole by itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.table import own_times
from otel_torch_modules._pictures.charts import PHASES, heat
from otel_torch_modules._pictures.report import Around, report
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Remark, Span, Trace
from tests.unit.diagnosis.steps import Parts, make_run, make_steps, site

AROUND = Around("title", "heading", ("a loss",), "footer")
MEGABYTE = 1_000_000


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*)</script>', page)
    assert found
    return json.loads(found[1])


def slow(step: int, parts: Parts) -> None:
    if step == 33:
        parts["forward GPT.h.1.attn"] += 40


@pytest.fixture(scope="module")
def run() -> Run:
    return make_run(60, slow)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return report(run, AROUND).decode()


def test_it_says_what_why_says(run: Run, page: str) -> None:
    diagnosis = diagnose(run)
    said = re.sub(r"<[^>]+>", " ", page)
    for text in (diagnosis.verdict, *(finding.sentence for finding in diagnosis.findings)):
        assert text.replace("'", "&#x27;") in said
    rows = re.findall(r'<tr data-place="([^"]*)">.*?</tr>', page)
    assert rows == [row.name for row in own_times(run)]
    assert "a loss." in said


def test_its_pictures_are_of_the_steps_that_there_are(run: Run, page: str) -> None:
    data = data_of(page)
    series = run.main
    assert data["bars"]["numbers"] == series.numbers
    assert data["bars"]["ms"] == pytest.approx(series.ms, rel=1e-3)
    for at, ms in enumerate(series.ms):
        parts = sum(part[at] for part in data["bars"]["parts"])
        assert parts == pytest.approx(ms, rel=2e-3)  # these steps have nothing but phases
    assert data["bars"]["odd"] == {
        "0": "warm-up, not counted",
        "33": data["bars"]["odd"]["33"],
    }
    assert data["bars"]["odd"]["33"].endswith("ms forward GPT.h.1.attn")
    flames = data["flames"]
    assert (flames["slowest"], set(flames["steps"])) == (33, {str(flames["usual"]), "33", "0"})
    step = series.steps[33]
    drawn = flames["steps"]["33"]
    assert [flames["titles"][span[4]] for span in drawn["spans"]][:2] == [
        "train.step",
        "dataloader.next",
    ]
    for (_, start, length, *_), span in zip(drawn["spans"], step.walk(), strict=True):
        assert start * drawn["unit"] == pytest.approx((span.start - step.start) / 1e6, abs=0.001)
        assert length * drawn["unit"] == pytest.approx(span.duration / 1e6, abs=0.001)
    assert sum(span[3] for span in drawn["spans"]) * drawn["unit"] == pytest.approx(
        drawn["ms"], abs=len(drawn["spans"]) * drawn["unit"]
    )
    assert data["heat"] is None


def with_lane(step: Span) -> Span:
    """Return a step that says where its forward and backward ran on its device: late, and longer than itself."""
    trace, lane = step.trace, len(step.trace)
    below = [site(name, semconv.PHASE_DEVICE) for name in ("device", "forward", "backward")]
    trace.shape = Shape(
        (*trace.shape.sites, *below), (*trace.shape.parents, -1, lane, lane), {step.at: lane}
    )
    for number, (start, end) in enumerate([(5, 90), (5, 35), (36, 90)]):
        trace.span_ids.append(lane + number + 1)
        trace.parent_ids.append(1 if number == 0 else lane + 1)
        trace.starts.append(step.start + start * 10**6)
        trace.ends.append(step.start + end * 10**6)
    return step


def test_where_a_device_was_at_a_step_lies_below_what_the_program_did() -> None:
    steps = [with_lane(step) if step.step else step for step in make_steps(20)]
    flames = data_of(report(Run(steps), AROUND).decode())["flames"]
    (drawn, unlike) = (flames["steps"][str(number)] for number in (flames["slowest"], 0))
    *program, lane, forward, backward = [
        (row, flames["titles"][title], phase, start * drawn["unit"], length * drawn["unit"])
        for row, start, length, _, title, phase in drawn["spans"]
    ]
    deepest = max(row for row, *_ in program)
    phases = {title: phase for _, title, phase, *_ in program}
    assert lane == (deepest + 1, "device", len(PHASES), *near(5, 85))
    assert forward == (
        deepest + 2, "device forward", phases["forward GPT"], *near(5, 30)
    )  # fmt: skip
    assert backward == (
        deepest + 2, "device backward", phases["backward GPT"], *near(36, 54)
    )  # fmt: skip
    assert len(unlike["spans"]) == len(program)
    assert (drawn["left"], unlike["left"]) == (0, 0)


def near(*times: float) -> list[Any]:
    return [pytest.approx(time, abs=0.001) for time in times]


def test_it_is_whole_by_itself(page: str) -> None:
    assert re.findall(r"https?://\S+|@import|url\(", page) == []
    assert set(re.findall(r'(?:src|href)="([^"#]*)', page)) == {"data:,", ""}
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def heat_of(
    ranks: int,
    late_rank: int,
    late: Callable[[int, Parts], None],
    others: Callable[[int, Parts], None],
) -> Any:
    """Return the picture of steps in which one rank does something else than the others."""
    steps = [
        step
        for rank in range(ranks)
        for step in make_steps(20, late if rank == late_rank else others, rank=rank, seed=rank)
    ]
    found = heat(Run(steps))
    assert found is not None
    return found


def test_a_rank_that_works_longer_shows() -> None:
    def late(step: int, parts: Parts) -> None:
        parts["backward GPT.h.1.mlp"] += 3

    def waiting(step: int, parts: Parts) -> None:
        parts["engine"] += 3

    found = heat_of(4, 2, late, waiting)
    assert (found["ranks"], found["numbers"]) == ([0, 1, 2, 3], list(range(20)))
    assert all(8 <= value <= 14 for value in found["rows"][2][1:])  # 3 ms of 29
    assert all(abs(value) <= 3 for rank in (0, 1, 3) for value in found["rows"][rank][1:])


@pytest.mark.parametrize("wait", ["engine", "collective"])
@pytest.mark.parametrize("hit", [range(20), [13], [4, 5]], ids=["in each step", "in one", "in two"])
def test_who_is_waited_for_worked_longer_wherever_the_others_wait(
    hit: Sequence[int], wait: str
) -> None:
    def late(step: int, parts: Parts) -> None:
        parts[wait] = 0.1
        parts["forward GPT.h.1.mlp"] += 30 if step in hit else 0

    def waiting(step: int, parts: Parts) -> None:
        parts[wait] = 30.1 if step in hit else 0.1

    found = heat_of(3, 1, late, waiting)
    for rank, row in enumerate(found["rows"]):
        longer = [at for at, value in enumerate(row) if value > 50]
        assert longer == (list(hit) if rank == 1 else [])
        assert all(abs(value) < 12 for at, value in enumerate(row) if at not in hit)


def test_a_rank_that_was_not_there_in_some_steps() -> None:
    steps = [step for rank in range(3) for step in make_steps(20, rank=rank, seed=rank)]
    some = [step for step in steps if step.rank != 1 or (step.step or 0) < 15]
    found = heat(Run(some))
    assert found is not None
    assert [value is None for value in found["rows"][1]] == [False] * 15 + [True] * 5


def wide(number: int, count: int) -> Span:
    """Return a step of `count` spans of as many modules below one forward."""
    sites = [site("train.step", "step"), site("forward GPT", "forward", "GPT")]
    sites += [site(f"forward m{at}", "forward", f"GPT.some.module.m{at}") for at in range(count)]
    start, each = 10**18 + number * 10**9, 10**8 // count
    starts = [start, start, *(start + at * each for at in range(count))]
    ends = [start + 10**8 + number * 10**6] * 2 + [start + (at + 1) * each for at in range(count)]
    shape = Shape((*sites,), (-1, 0, *([1] * count)))
    trace = Trace(
        f"{number:032x}",
        shape,
        array("Q", range(1, count + 3)),
        array("Q", [0, 1, *([2] * count)]),
        array("Q", starts),
        array("Q", ends),
        [""] * len(sites),
        {},
        {0: Remark({semconv.STEP_INDEX: number})},
    )
    return Span(trace, 0)


@pytest.mark.slow
def test_it_stays_small_whatever_the_run_is() -> None:
    long = report(make_run(3000, slow), AROUND)
    assert len(long) < MEGABYTE
    bars = data_of(long.decode())["bars"]
    assert (bars["stride"], len(bars["numbers"])) == (2, 1500)
    assert 33 in bars["numbers"]  # of two steps the slower one
    large = report(Run([wide(number, 6000) for number in range(10)]), AROUND)
    assert len(large) < 2 * MEGABYTE
    flames = data_of(large.decode())["flames"]["steps"].values()
    assert {(len(flame["spans"]), flame["left"]) for flame in flames} == {(4000, 2002)}
    ranks = [step for rank in range(300) for step in make_steps(3, rank=rank, seed=rank)]
    found = heat(Run(ranks))
    assert found is not None
    assert len(json.dumps(found)) < MEGABYTE
