"""Lines of OTLP JSON hold what protobuf's own mapping says, with ids as OTLP wants them."""

from __future__ import annotations

import base64
import json
from math import inf, nan
from typing import Any

from google.protobuf.json_format import MessageToDict
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_torch_modules._emission.otlp.json import Json, encode_line
from otel_torch_modules._events import Varying

texts = st.sampled_from(["", "forward h.0", '"spans":[]', "äö\n"])
ids = st.binary(min_size=8, max_size=8)
times = st.integers(0, 2**63)
links = st.builds(Span.Link, trace_id=st.binary(min_size=16, max_size=16), span_id=ids)
events = st.builds(Span.Event, name=texts, time_unix_nano=times)
spans = st.builds(
    Span,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=ids,
    parent_span_id=st.one_of(st.just(b""), ids),
    name=texts,
    kind=st.sampled_from([1, 4, 5]),
    start_time_unix_nano=times,
    end_time_unix_nano=times,
    links=st.lists(links, max_size=2),
    events=st.lists(events, max_size=2),
    flags=st.sampled_from([0, 256]),
)
scopes = st.builds(ScopeSpans, spans=st.lists(spans, max_size=4), schema_url=texts)
requests = st.builds(
    ExportTraceServiceRequest,
    resource_spans=st.lists(
        st.builds(ResourceSpans, scope_spans=st.lists(scopes, max_size=2), schema_url=texts),
        max_size=2,
    ),
)


def mapped(request: ExportTraceServiceRequest) -> dict[str, Any]:
    messages: dict[str, Any] = MessageToDict(request, use_integers_for_enums=True)
    for resource_spans in messages.get("resourceSpans", ()):
        for scope_spans in resource_spans.get("scopeSpans", ()):
            for span in scope_spans.get("spans", ()):
                for message in (span, *span.get("links", ())):
                    for key in {"traceId", "spanId", "parentSpanId"} & message.keys():
                        message[key] = base64.b64decode(message[key]).hex()
    return messages


def without_defaults(node: Any) -> Any:
    """Leave out what says nothing: empty lists and texts, and times of 0."""
    if isinstance(node, dict):
        found = {key: without_defaults(value) for key, value in node.items()}
        return {key: value for key, value in found.items() if value not in ([], "", "0")}
    return [without_defaults(item) for item in node] if isinstance(node, list) else node


@given(st.lists(requests, max_size=3))
def test_a_line_holds_what_the_mapping_says(several: list[ExportTraceServiceRequest]) -> None:
    for request in several:
        expected = mapped(request)
        line = encode_line(request)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert without_defaults(json.loads(line)) == without_defaults(expected)


@given(
    st.sampled_from(["torch.self_time", '100 %s "\n{}']),
    st.one_of(
        st.lists(st.floats(allow_nan=False, allow_infinity=False)),
        st.lists(st.floats()),
        st.lists(st.one_of(st.none(), st.floats())),
    ),
)
@example("x", [1.5, inf, -inf, nan])
@example("x", [1e308, 1e308])
def test_a_column_of_doubles_holds_what_the_mapping_says(
    name: str, column: list[float | None]
) -> None:
    written = Json().attributes(Varying(name, float), column)
    assert len(written) == len(column)
    for text, value in zip(written, column, strict=True):
        if value is None:
            assert text == b""
        else:
            attribute = KeyValue(key=name, value=AnyValue(double_value=value))
            assert text[:1] == b","
            assert json.loads(text[1:]) == MessageToDict(attribute)
