"""Hand-made files of OTLP JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

START = 1_700_000_000_000_000_000


class Sample(NamedTuple):
    """A span to be written; times are milliseconds after `START`."""

    name: str
    phase: str | None
    start: float
    end: float
    children: tuple[Sample, ...] = ()
    attributes: dict[str, Any] | None = None
    exception: tuple[str, str] | None = None


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": value}


def _pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _flatten(
    sample: Sample, trace_id: str, parent_id: str, ids: Iterable[int]
) -> list[dict[str, Any]]:
    span_id = f"{next(iter(ids)):016x}"
    attributes = dict(sample.attributes or {})
    if sample.phase:
        attributes["torch.phase"] = sample.phase
    span: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": sample.name,
        "kind": 1,
        "startTimeUnixNano": str(START + round(sample.start * 1e6)),
        "endTimeUnixNano": str(START + round(sample.end * 1e6)),
        "attributes": _pairs(attributes),
    }
    if parent_id:
        span["parentSpanId"] = parent_id
    if sample.exception:
        kind, message = sample.exception
        about = _pairs({"exception.type": kind, "exception.message": message})
        span["events"] = [{"name": "exception", "attributes": about}]
        span["status"] = {"code": 2, "message": f"{kind}: {message}"}
    spans = [span]
    for child in sample.children:
        spans += _flatten(child, trace_id, span_id, ids)
    return spans


RESOURCE = {"service.name": "train", "service.instance.id": "job-1"}


def _request(spans: list[dict[str, Any]], resource_attributes: dict[str, Any]) -> str:
    resource = {"attributes": _pairs(resource_attributes)}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})


@pytest.fixture
def write_traces(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes one trace per sample, each on lines of at most `per_line` spans."""

    def write(
        *samples: Sample,
        per_line: int = 1000,
        resources: Sequence[dict[str, Any]] = (),
        name: str = "run.jsonl",
    ) -> Path:
        path = tmp_path / name
        ids = count(1)
        lines = []
        for number, sample in enumerate(samples, 1):
            spans = _flatten(sample, f"{number:032x}", "", ids)
            resource = resources[number - 1] if resources else RESOURCE
            pieces = (spans[at : at + per_line] for at in range(0, len(spans), per_line))
            lines += [_request(piece, resource) for piece in pieces]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def sample() -> type[Sample]:
    return Sample


def _module_spans(phase: str, start: float, label: str) -> Sample:
    parts = ("ln", 1.0), ("attn", 4.0), ("mlp", 3.0)
    spans, now = [], start
    for name, duration in parts:
        spans.append(Sample(f"{phase} {name}", phase, now, now + duration))
        now += duration
    return Sample(f"{phase} {label}", phase, start, now, tuple(spans))


@pytest.fixture
def step() -> Callable[..., Sample]:
    """Return a function that makes one step of a model of two blocks; the second block is checkpointed."""

    def make(index: int, start: float = 0, wait: float = 2) -> Sample:
        at = start + wait
        forward = Sample(
            "forward GPT",
            "forward",
            at,
            at + 20,
            (_module_spans("forward", at + 1, "h.0"), _module_spans("forward", at + 10, "h.1")),
        )
        back = at + 22
        recompute = _module_spans("recompute", back + 2, "h.1")
        backward = Sample(
            "backward",
            "backward",
            back,
            back + 50,
            (
                Sample(
                    "backward GPT",
                    "backward",
                    back + 1,
                    back + 49,
                    (
                        Sample("backward h.1", "backward", back + 2, back + 27, (recompute,)),
                        _module_spans("backward", back + 27, "h.0"),
                    ),
                ),
            ),
        )
        end = back + 51
        return Sample(
            "train.step",
            "step",
            start,
            end + 4,
            (
                Sample("dataloader.next", "data", start, at),
                forward,
                backward,
                Sample("optimizer.step AdamW", "optimizer", end, end + 4),
            ),
            {"torch.step": index, "torch.step.micro_batches": 1},
        )

    return make
