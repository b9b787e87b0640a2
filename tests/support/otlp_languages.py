"""The languages of OTLP that we write, read back by the protocol's own message."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_torch_modules._emission.otlp.json import Json
from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._emission.otlp.protobuf import Protobuf

LANGUAGES: list[Language] = [Protobuf(), Json()]


def parsed(language: Language, data: bytes) -> ExportTraceServiceRequest:
    """Return the message that `data` is."""
    if language.name == "protobuf":
        message: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(data)
        return message
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    return parsed_line(data.decode())


def parsed_line(line: str) -> ExportTraceServiceRequest:
    """Read a line as OTLP asks: protobuf's JSON mapping, but for hexadecimal ids."""

    def with_base64(value: Any) -> Any:
        if isinstance(value, list):
            return [with_base64(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode()
            if key in ("traceId", "spanId", "parentSpanId")
            else with_base64(item)
            for key, item in value.items()
        }

    request = ExportTraceServiceRequest()
    ParseDict(with_base64(json.loads(line)), request)
    return request
