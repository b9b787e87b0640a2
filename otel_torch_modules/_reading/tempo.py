"""Reads traces from Tempo's API: a search by TraceQL, then each trace by its id as protobuf.

https://grafana.com/docs/tempo/latest/api_docs/. A trace by id is a message whose first field is what the first field of
a request of OTLP is, so that it is read as one.
"""

from __future__ import annotations

import time
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._reading.arrivals import Arrivals
from otel_torch_modules._reading.damage import Damage
from otel_torch_modules._reading.query import Backend, Query
from otel_torch_modules._reading.source_error import SourceError


def read_tempo(url: str, query: Query, arrivals: Arrivals) -> Damage:
    """Read the traces that `query` wants.

    Raises:
        SourceError: the server does not answer, or there is no trace.
    """
    from otel_torch_modules._reading.protobuf import ProtobufReader

    backend = Backend("tempo", url, query.progress)
    damage = Damage(backend.said, "answer", "OTLP")
    now = int(time.time())
    answer = backend.get_json(
        "/api/search",
        q=trace_ql(query),
        start=str(now - int(query.searched_s)),
        end=str(now + 60),
        limit=str(query.limit),
    )
    ids = _ids(answer)
    reader = ProtobufReader(arrivals, damage)
    for number, trace_id in enumerate(ids, 1):
        message = backend.get(f"/api/traces/{trace_id}", "application/protobuf")
        if message is not None:  # its block has been dropped since the search
            reader.read(number, message)
    if not ids:
        wanted = trace_ql(query)
        raise SourceError(
            f"{backend.said} has no {query.wanted} that {wanted} finds since then; --since 1d looks further back"
        )
    if len(ids) >= query.limit:
        damage.limit = query.limit
    return damage


def trace_ql(query: Query) -> str:
    """Return the search.

    Example:
        >>> trace_ql(Query("train", run="r1"))
        '{ span.torch.phase = "step" && resource.service.name = "train" && resource.torch.distributed.run_id = "r1" }'
    """
    terms = [f'span.{semconv.PHASE} = "{query.phase}"']
    if query.service:
        terms.append(f"resource.service.name = {_quoted(query.service)}")
    if query.run:
        terms.append(f"resource.{semconv.DISTRIBUTED_RUN_ID} = {_quoted(query.run)}")
    return f"{{ {' && '.join(terms)} }}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _ids(answer: Any) -> list[str]:
    traces = answer.get("traces") if isinstance(answer, dict) else None
    if not isinstance(traces, list):
        return []
    found = [trace.get("traceID") for trace in traces if isinstance(trace, dict)]
    # Leading zeros are left out there.
    return [
        trace_id.rjust(32, "0")
        for trace_id in found
        if isinstance(trace_id, str)
        and 0 < len(trace_id) <= 32
        and trace_id.isascii()
        and trace_id.isalnum()
    ]
