"""Reads traces from Jaeger's query API, version 3 (https://www.jaegertracing.io/docs/2.latest/architecture/apis/).

It answers with OTLP JSON, one document after the other.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._printable import printable
from otel_torch_modules._reading.arrivals import Arrivals
from otel_torch_modules._reading.damage import Damage
from otel_torch_modules._reading.json_documents import documents
from otel_torch_modules._reading.json_lines import JsonReader
from otel_torch_modules._reading.query import Backend, Query
from otel_torch_modules._reading.source_error import SourceError

_ITSELF = "jaeger"
_SERVICES = "/api/v3/services"


def read_jaeger(url: str, query: Query, arrivals: Arrivals) -> Damage:
    """Read the traces that `query` wants.

    Raises:
        SourceError: the server does not answer, the service is not known, or there is no trace.
    """
    backend = Backend("jaeger", url, query.progress)
    damage = Damage(backend.said, "answer")
    now = datetime.now(timezone.utc)
    parameters = {
        "query.service_name": query.service or _only_service(backend),
        "query.start_time_min": (now - timedelta(seconds=query.searched_s)).isoformat(),
        "query.start_time_max": (now + timedelta(minutes=1)).isoformat(),
        "query.num_traces": str(query.limit),
    }
    if query.phase == semconv.PHASE_STALL:
        parameters["query.operation_name"] = semconv.STALL
    reader = JsonReader(arrivals, damage)
    before = arrivals.count
    answer = backend.get("/api/v3/traces", **parameters) or b""
    try:
        results = documents(answer.decode("utf-8", "replace"))
    except ValueError as error:
        raise SourceError(f"{backend.said} answers with what is no JSON") from error
    found: set[str] = set()
    for number, document in enumerate(results, 1):
        result = document.get("result") if isinstance(document, dict) else None
        found |= _trace_ids(result)
        reader.read(number, json.dumps(_of_run(result, query.run)).encode())
    if arrivals.count == before:
        if query.service is not None:
            _services(backend)  # is it Jaeger at all?
        service = printable(parameters["query.service_name"])
        run = "" if query.run is None else f", run {printable(query.run)},"
        raise SourceError(
            f"{backend.said} has no {query.wanted} of {service}{run} since then; --since 1d looks further back"
        )
    if len(found) >= query.limit:
        damage.limit = query.limit
    return damage


def _trace_ids(result: Any) -> set[str]:
    try:
        return {
            span["traceId"]
            for of_resource in result["resourceSpans"]
            for of_scope in of_resource["scopeSpans"]
            for span in of_scope["spans"]
        }
    except (KeyError, TypeError):
        return set()


def _of_run(result: Any, run: str | None) -> Any:
    """Return what of a request is of a run: Jaeger's search knows attributes of spans only."""
    if run is None or not isinstance(result, dict):
        return result
    of_resources = result.get("resourceSpans")
    if not isinstance(of_resources, list):
        return result
    return {"resourceSpans": [one for one in of_resources if _run_of(one) == run]}


def _run_of(of_resource: Any) -> Any:
    try:
        pairs = of_resource["resource"]["attributes"]
        values = (pair["value"] for pair in pairs if pair["key"] == semconv.DISTRIBUTED_RUN_ID)
        return next((value.get("stringValue") for value in values), None)
    except (KeyError, TypeError, AttributeError):
        return None


def _services(backend: Backend) -> list[str]:
    answer = backend.get_json(_SERVICES)
    names = answer.get("services") if isinstance(answer, dict) else None
    if not isinstance(names, list):
        if answer != {}:  # which has none: empty lists are left out there
            raise SourceError(f"{backend.said} answers to {_SERVICES} as no Jaeger does")
        names = []
    return sorted(name for name in names if isinstance(name, str) and name != _ITSELF)


def _only_service(backend: Backend) -> str:
    known = _services(backend)
    if len(known) == 1:
        return known[0]
    if not known:
        raise SourceError(f"{backend.said} knows no service: nothing has been sent to it yet")
    raise SourceError(
        f"{backend.said} knows {len(known)} services; choose one by --service: "
        f"{', '.join(map(printable, known[:20]))}"
    )
