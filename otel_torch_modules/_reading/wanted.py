"""Which traces of files are wanted: what a backend's search answers for a query, told of what has been read.

Known only once all has been read: the root of a trace comes last, and its ranks are in other files. Nothing has been
joined by then, which is what takes long.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._reading.arrivals import Arrivals
from otel_torch_modules._reading.query import UNITS_S, Query


def leave_out_unwanted(query: Query, arrivals: Arrivals, searched: Collection[str]) -> int:
    """Leave out the traces that `query` does not want, whole, and return how many.

    Args:
        searched: traces that a backend has chosen already.
    """
    if query.service is None and query.run is None and query.since_s is None:
        return 0
    earliest = 0 if query.since_s is None else time.time_ns() - int(query.since_s * 1e9)
    of_query = {
        number
        for number, resource in enumerate(arrivals.origins)
        if _is_of_service(resource, query.service) and _is_of_run(resource, query.run)
    }
    unwanted = [
        trace_id
        for trace_id, columns in arrivals.traces.items()
        if trace_id not in searched
        and (of_query.isdisjoint(columns.processes) or max(columns.starts) < earliest)
    ]
    for trace_id in unwanted:
        del arrivals.traces[trace_id]
    return len(unwanted)


def options(query: Query) -> str:
    """Return what was asked for, as on the command line.

    Example:
        >>> options(Query("train", since_s=5400, run="r1"))
        '--service train --since 90m --run r1'
    """
    return " ".join(f"{option} {value}" for option, value in asked_by(query))


def asked_by(query: Query) -> Iterator[tuple[str, str]]:
    """Yield the options that say which traces are wanted, with their values."""
    if query.service is not None:
        yield "--service", query.service
    if query.since_s is not None:
        units = ((size, unit) for unit, size in UNITS_S.items() if query.since_s % size == 0)
        size, unit = next(units, (1, "s"))
        yield "--since", f"{query.since_s / size:g}{unit}"
    if query.run is not None:
        yield "--run", query.run


def service_of(resource: Mapping[str, Any]) -> str:
    """Return the name of its service, without the phase or rank that `OTEL_TORCH_MODULES_SERVICES` adds."""
    return _service_name(resource).partition(semconv.SERVICE_PART_SEPARATOR)[0]


def _service_name(resource: Mapping[str, Any]) -> str:
    return str(resource.get("service.name") or "unknown_service")


def _is_of_service(resource: Mapping[str, Any], service: str | None) -> bool:
    return service in (None, _service_name(resource), service_of(resource))


def _is_of_run(resource: Mapping[str, Any], run: str | None) -> bool:
    return run is None or resource.get(semconv.DISTRIBUTED_RUN_ID) == run
