"""The usual step has one length: shares of it add up, and are the same wherever they are said."""

from __future__ import annotations

import re
from random import Random

import pytest

from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.table import own_times
from otel_torch_modules._diagnosis.words import percent
from otel_torch_modules.cli.overview import overview
from tests.unit.diagnosis.steps import Parts, make_run


def in_turn(step: int, parts: Parts) -> None:
    """Make every second step twice as long in one place."""
    if step % 2:
        parts["GPT"] = 30.0


def now_here_now_there(step: int, parts: Parts) -> None:
    """Spend as much in each step, but in another place."""
    parts[("GPT", "optimizer", "engine")[step % 3]] = 20.0


def skewed(step: int, parts: Parts) -> None:
    """Have the time of each place be short mostly, and long at times, each for itself."""
    random = Random(step)
    for key in parts:
        parts[key] *= random.expovariate(1)


def one_that_is_all(step: int, parts: Parts) -> None:
    parts["GPT"] = 60.0 * (1 + Random(step).random())


RUNS = {
    "even": lambda: make_run(60),
    "noisy": lambda: make_run(60, noise=0.3),
    "two kinds in turn": lambda: make_run(60, in_turn),
    "now here now there": lambda: make_run(60, now_here_now_there),
    "skewed": lambda: make_run(60, skewed),
    "one that is all": lambda: make_run(60, one_that_is_all),
    "few": lambda: make_run(4),
    "three": lambda: make_run(3, noise=0.3),
    "one": lambda: make_run(1),
    "with modules now and then": lambda: make_run(
        60, kept=lambda step: "every" if step % 10 == 0 else None
    ),
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    return RUNS[request.param]()


def test_shares_of_the_table_are_those_of_findings_and_verdict(run: Run) -> None:
    rows = own_times(run)
    whole = sum(row.ms for row in rows)
    diagnosis = diagnose(run)
    phases: dict[str, float] = {}
    for row in rows:
        for phase, own in row.phases.items():
            phases[phase] = phases.get(phase, 0.0) + own
    said = re.search(r"([\d.]+ %) of a step", diagnosis.verdict)
    assert said is not None
    assert said[1] == percent(max(phases.values()) / whole)
    by_name = {row.name: row.ms / whole for row in rows}
    for finding in diagnosis.findings:
        alone = re.fullmatch(r"(\S+) alone takes ([\d.]+ %) of a step, .*", finding.sentence)
        if alone is not None:
            assert alone[2] == percent(by_name[alone[1]])


def test_shares_of_the_usual_row_add_up(run: Run) -> None:
    lines = [line.plain for line in overview(run, None, 200)]
    usual = next(line for line in lines if line.split()[:1] == ["usual"])
    shares = [float(share) for share in re.findall(r"([\d.]+)%", usual)]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    verdict = diagnose(run).verdict
    said = re.search(r"([\d.]+) % of a step", verdict)
    assert said is not None
    assert any(abs(share - float(said[1])) <= 0.55 for share in shares)


def test_the_usual_step_is_about_as_long_as_the_median(run: Run) -> None:
    assert run.usual_whole_ms == pytest.approx(run.usual_ms, rel=0.25)
