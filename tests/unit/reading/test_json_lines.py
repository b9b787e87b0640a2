"""Lines in bulk are read as span by span: whatever stands in them, the same is found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_torch_modules._reading.arrivals import Arrivals
from otel_torch_modules._reading.damage import Damage
from otel_torch_modules._reading.join import Joiner
from otel_torch_modules._reading.json_entries import read_entries
from otel_torch_modules._reading.json_lines import JsonReader
from otel_torch_modules._trace import Span
from tests.support.examples import examples
from tests.unit.cli.test_hostile_input import mutated_files


def found(arrivals: Arrivals, damage: Damage) -> Any:
    traces = {
        trace.trace_id: [
            (
                (span.span_id, span.parent_id, span.link_id, span.name, span.start, span.end),
                span.attributes,
                (span.failed, span.exception, span.process),
            )
            for root in trace.shape.roots
            for span in Span(trace, root).walk()
        ]
        for trace in Joiner(arrivals).traces()
    }
    return traces, damage


def in_bulk(lines: list[bytes]) -> Any:
    arrivals, damage = Arrivals(), Damage("file")
    reader = JsonReader(arrivals, damage)
    for number, line in enumerate(lines, 1):
        reader.read(number, line)
    return found(arrivals, damage)


def one_by_one(lines: list[bytes]) -> Any:
    arrivals, damage = Arrivals(), Damage("file")
    for number, line in enumerate(lines, 1):
        read_entries(number, line, arrivals, damage)
    return found(arrivals, damage)


@given(content=mutated_files())
@settings(max_examples=examples(200), deadline=None, suppress_health_check=list(HealthCheck))
def test_in_bulk_is_as_one_by_one(content: bytes) -> None:
    lines = content.splitlines(keepends=True)
    assert repr(in_bulk(lines)) == repr(one_by_one(lines))


@pytest.mark.parametrize("resource", ['{"attributes":{}}', "[]", '{"attributes":[1]}', "{}"])
@pytest.mark.parametrize("more", ["", ',"scopeSpans":[]', ',"scopeSpans":[{}]'])
def test_a_resource_is_looked_at_where_it_has_spans(resource: str, more: str) -> None:
    line = f'{{"resourceSpans":[{{"resource":{resource}{more}}}]}}'.encode()
    assert repr(in_bulk([line])) == repr(one_by_one([line]))


def _line(*spans: list[dict[str, Any]]) -> bytes:
    """Return a request as our writer spells it: without blanks."""
    entries = [
        {
            "traceId": "a" * 32,
            "spanId": f"{number:016x}",
            "name": "forward h",
            "startTimeUnixNano": "10",
            "endTimeUnixNano": "20",
            "attributes": attributes,
        }
        for number, attributes in enumerate(spans, 1)
    ]
    request = {"resourceSpans": [{"scopeSpans": [{"spans": entries}]}]}
    return json.dumps(request, separators=(",", ":")).encode()


def _double(key: str, value: float) -> dict[str, Any]:
    return {"key": key, "value": {"doubleValue": value}}


PHASE = {"key": "torch.phase", "value": {"stringValue": "forward"}}


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    place=st.integers(0, 2),
)
def test_numbers_that_vary_are_columns_wherever_they_stand(values: list[float], place: int) -> None:
    def attributes(value: float) -> list[dict[str, Any]]:
        pairs = [PHASE, _double("torch.device.lag", 1.5)]
        pairs.insert(place, _double("torch.self_time", value))
        return pairs

    lines = [_line([PHASE], *map(attributes, values), [PHASE])]
    arrivals, damage = Arrivals(), Damage("file")
    JsonReader(arrivals, damage).read(1, lines[0])
    assert len(arrivals.sites) == 1  # what varies makes no place of its own
    (trace,) = Joiner(arrivals).traces()
    spans = [Span(trace, root) for root in trace.shape.roots]
    assert [span.measure("torch.self_time") for span in spans] == [None, *values, None]
    assert [span.measure("torch.device.lag") for span in spans] == [None, 1.5, 1.5, 1.5, None]
    assert repr(in_bulk(lines)) == repr(one_by_one(lines))


def _spans(entry: str) -> list[bytes]:
    span = '"traceId":"a","spanId":"1","startTimeUnixNano":"10","endTimeUnixNano":"20"'
    other = '{"traceId":"a","spanId":"2","startTimeUnixNano":"10","endTimeUnixNano":"20"}'
    spans = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{span},{entry}}},{other}]}}]}}]}}'
    return [spans.encode()]


@pytest.mark.parametrize(
    "entry",
    [
        '"kind":%s',
        '"attributes":[{"key":"torch.self_time","value":{"doubleValue":%s}}]',
        '"attributes":[{"key":"torch.step","value":{"intValue":%s}}]',
        '"attributes":[{"key":"k","value":{"stringValue":"s"},"index":%s}]',
        '"events":[{"timeUnixNano":%s}]',
        '"links":[{"traceId":"a","spanId":"2","flags":%s}]',
        '"status":{"code":%s}',
        '"startTimeUnixNano":%s',
        '"endTimeUnixNano":%s',
    ],
)
@pytest.mark.parametrize(
    "number", ["9" * 5000, "-" + "9" * 5000, "9" * 400, "9" * 21, '"9"', '"9.0"', "9.0", "9e0"]
)
def test_a_number_harms_no_more_than_the_span_it_stands_in(entry: str, number: str) -> None:
    lines = _spans(entry % number)
    assert repr(in_bulk(lines)) == repr(one_by_one(lines))
    arrivals, damage = Arrivals(), Damage("file")
    read_entries(1, lines[0], arrivals, damage)
    assert (damage.requests, arrivals.count + damage.spans) == ([], 2)


def test_a_number_that_is_there_twice_takes_none_from_a_later_span() -> None:
    lag = _double("torch.device.lag", 1.5)
    lines = [_line([PHASE, lag, lag], [PHASE, lag], [PHASE], [PHASE, lag])]
    ((_, spans),) = in_bulk(lines)[0].items()
    assert [attributes.get("torch.device.lag") for _, attributes, _ in spans] == [
        1.5,
        1.5,
        None,
        1.5,
    ]
    assert repr(in_bulk(lines)) == repr(one_by_one(lines))


def test_more_kinds_of_numbers_than_columns_are_kept_as_attributes() -> None:
    pairs = [_double(f"torch.k{number}", number + 0.5) for number in range(40)]
    lines = [_line(pairs)]
    ((_, (span,)),) = in_bulk(lines)[0].items()
    assert span[1] == {f"torch.k{number}": number + 0.5 for number in range(40)}


def test_so_they_are_where_the_same_attributes_have_been_read_before() -> None:
    first = _line(*([_double(f"torch.k{number}", number + 0.5)] for number in range(40)))
    lines = [first, first.replace(b"a" * 32, b"b" * 32)]
    for spans in in_bulk(lines)[0].values():
        assert [span[1] for span in spans] == [
            {f"torch.k{number}": number + 0.5} for number in range(40)
        ]
    assert repr(in_bulk(lines)) == repr(one_by_one(lines))
