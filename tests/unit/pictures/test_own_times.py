"""Whatever the format, the own times in it are those of the spans."""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import jsonschema
import polars
import pytest
from hypothesis import given, settings
from pyarrow import parquet as pyarrow_parquet

from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._pictures.collapsed import write_collapsed
from otel_torch_modules._pictures.parquet import SCHEMA, write_parquet
from otel_torch_modules._pictures.speedscope import write_speedscope
from otel_torch_modules._trace import Span
from tests.support.examples import examples
from tests.unit.diagnosis.steps import make_steps
from tests.unit.pictures.generated import OURS, own_times, own_times_of_ours, runs

ROOT = Path(__file__).parents[3]
# https://www.speedscope.app/file-format-schema.json, of speedscope 1.25.0
VALIDATOR = jsonschema.Draft7Validator(
    json.loads(Path(__file__).with_name("speedscope.schema.json").read_text())
)


def speedscope(steps: list[Span]) -> Any:
    out = io.BytesIO()
    write_speedscope(steps, out)
    content = json.loads(out.getvalue())
    VALIDATOR.validate(content)
    return content


def summed(content: Any, profiles: list[Any]) -> dict[str, int]:
    """Return the own time of each frame, as speedscope reckons it."""
    frames = [frame["name"] for frame in content["shared"]["frames"]]
    sums: Counter[str] = Counter()
    for profile in profiles:
        if profile["type"] == "sampled":
            for stack, weight in zip(profile["samples"], profile["weights"], strict=True):
                sums[frames[stack[-1]]] += weight
            continue
        stack, now = [], 0
        for event in profile["events"]:
            assert event["at"] >= now
            if stack:
                sums[frames[stack[-1]]] += event["at"] - now
            now = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
            else:
                assert stack.pop() == event["frame"]
        assert not stack
        assert now <= profile["endValue"]
    return {name: time for name, time in sums.items() if time}


def of_ranks(steps: list[Span]) -> list[Span]:
    return [span for step in steps for span in step.ranks or [step]]


@given(steps=runs(overlapping=True, places=OURS))
@settings(max_examples=examples(40), deadline=None)
def test_own_time_is_without_that_of_the_spans_below(steps: list[Span]) -> None:
    assert own_times(steps) == own_times_of_ours(steps)


@given(steps=runs(overlapping=False))
@settings(max_examples=examples(40), deadline=None)
def test_speedscope_together_and_step_by_step(steps: list[Span]) -> None:
    content = speedscope(steps)
    together = [one for one in content["profiles"] if one["name"].endswith("together")]
    single = [one for one in content["profiles"] if one not in together]
    expected = own_times(of_ranks(steps))
    assert summed(content, together) == expected
    assert summed(content, single) == expected
    names = [
        ("" if span.rank is None else f"rank {span.rank}: ") + f"step {span.step}"
        for span in of_ranks(steps)
    ]
    assert sorted(one["name"] for one in single) == sorted(names)


@given(steps=runs(overlapping=True))
@settings(max_examples=examples(40), deadline=None)
def test_speedscope_of_spans_beside_each_other(steps: list[Span]) -> None:
    """Each step is as long as its root, and all together have the own times that `why` has."""
    content = speedscope(steps)
    together = [one for one in content["profiles"] if one["name"].endswith("together")]
    assert summed(content, together) == own_times(of_ranks(steps))
    single = [one for one in content["profiles"] if one not in together]
    assert sum(summed(content, single).values()) == sum(span.duration for span in of_ranks(steps))


@given(steps=runs(overlapping=True))
@settings(max_examples=examples(40), deadline=None)
def test_collapsed(steps: list[Span]) -> None:
    out = io.BytesIO()
    write_collapsed(steps, out)
    lines = out.getvalue().decode().splitlines()
    sums: defaultdict[str, float] = defaultdict(float)
    for line in lines:
        stack, _, us = line.rpartition(" ")
        assert stack.split(";")[0] == "train.step"
        sums[stack.split(";")[-1]] += int(us)
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)
    for name, ns in own_times(steps).items():
        stacks = sum(len(list(step.walk())) for step in steps)
        assert sums[name.replace(";", ":")] == pytest.approx(ns / 1000, abs=0.5 * stacks)


@given(roots=runs(overlapping=True))
@settings(max_examples=examples(40), deadline=None)
def test_parquet(roots: list[Span]) -> None:
    out = io.BytesIO()
    write_parquet(roots, out)
    table = pyarrow_parquet.read_table(io.BytesIO(out.getvalue()))
    spans = [span for root in roots for span in root.walk()]
    assert table.column_names == SCHEMA.names
    assert table["span_id"].to_pylist() == [span.span_id for span in spans]
    for name, expected in {
        "trace_id": [span.trace_id for span in spans],
        "parent_id": [span.parent_id or None for span in spans],
        "forward_id": [span.link_id or None for span in spans],
        "name": [span.name for span in spans],
        "module": [span.site.fqn for span in spans],
        "duration_ns": [span.duration for span in spans],
        "step": [root.step for root in roots for _ in root.walk()],
    }.items():
        assert table[name].to_pylist() == expected
    assert [value.value for value in table["start"]] == [span.start for span in spans]
    frame = polars.read_parquet(io.BytesIO(out.getvalue()))
    assert int(frame["self_ns"].sum()) == sum(own_times(roots).values())
    assert frame["rank"].is_null().sum() == sum(
        1
        for root in roots
        for span in root.walk()
        if not any(
            rank.at <= span.at < rank.shape.after[rank.at] and rank.rank is not None
            for rank in root.ranks
        )
    )
    assert {json.loads(said)["torch.self_time"] for said in frame["attributes"]} == {0.5}


def test_places_are_those_of_why() -> None:
    steps = make_steps(20)
    run = Run(steps)
    out = io.BytesIO()
    write_parquet(steps, out)
    frame = polars.read_parquet(io.BytesIO(out.getvalue()))
    of_modules = frame.filter(polars.col("module").is_not_null())
    sums = of_modules.group_by("phase", "pattern").agg(polars.col("self_ns").sum())
    expected: defaultdict[tuple[str, str], float] = defaultdict(float)
    for place, own in run.main.own.items():
        if place.module_class is not None:
            expected[place.phase, place.pattern] += sum(own)
    assert len(expected) > 4
    assert {(phase, pattern): ns / 1e6 for phase, pattern, ns in sums.rows()} == pytest.approx(
        dict(expected)
    )


def test_every_column_is_in_the_documents() -> None:
    text = (ROOT / "docs" / "convert.md").read_text(encoding="utf-8")
    assert [name for name in SCHEMA.names if f"\n| `{name}` |" not in text] == []
