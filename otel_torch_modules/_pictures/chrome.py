"""Chrome's trace event format, as JSON: what `chrome://tracing`, Perfetto and many other programs read.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Times are µs after the first span
began, with three decimals: Unix times in µs would not fit a JavaScript number to the nanosecond.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from otel_torch_modules import semconv
from otel_torch_modules._pictures.tracks import Flows, OnTrack, Timeline, Track
from otel_torch_modules._shape import Site
from otel_torch_modules._trace import Span

_FLOW = '"name":"backward","cat":"flow"'


def write_chrome(roots: Sequence[Span], out: IO[bytes]) -> None:
    """Write the spans of `roots`, which are in order of time."""
    first = min((root.start for root in roots), default=0)
    said = {"displayTimeUnit": "ms", "otherData": {"start_unix_ns": str(first)}}
    out.write(json.dumps(said)[:-1].encode() + b', "traceEvents": [\n')
    separator = b""
    for event in _events(roots, first):
        out.write(separator + event.encode("utf-8", "replace"))
        separator = b",\n"
    out.write(b"\n]}\n")


def _events(roots: Sequence[Span], first: int) -> Iterator[str]:
    timeline = Timeline()
    about = _About()
    flows = Flows()
    told: set[int] = set()
    for root in roots:
        flows.turn_to(root.trace)
        for placed in timeline.place(root):
            track = placed.track
            if track.number not in told:
                told.add(track.number)
                yield from _introduced(track)
            yield from _of_span(placed, flows, about, first)


def _introduced(track: Track) -> Iterator[str]:
    process, thread = {"pid": track.process.number}, {"tid": track.number}
    for name, where, value in (
        ("process_name", process, {"name": track.process.name}),
        ("thread_name", process | thread, {"name": track.name}),
        ("thread_sort_index", process | thread, {"sort_index": track.order}),
    ):
        yield _json({"ph": "M", "name": name, **where, "args": value})


def _of_span(placed: OnTrack, flows: Flows, about: _About, first: int) -> Iterator[str]:
    trace, at = placed.trace, placed.at
    start, end = trace.starts[at], trace.ends[at]
    where = (
        f'"pid":{placed.track.process.number},"tid":{placed.track.number},"ts":{_us(start - first)}'
    )
    step = Span(trace, at).step if at in trace.remarks else None
    said = about.of(trace.shape.sites[at]) if step is None else about.of_step(trace, at, step)
    yield f'{{"ph":"X",{where},"dur":{_us(end - start)},{said}}}'
    # A flow belongs to the span that was written last of those that began then.
    for flow in flows.begin(at):
        yield f'{{"ph":"s","id":{flow},{_FLOW},{where}}}'
    for flow in flows.end(at):
        yield f'{{"ph":"f","bp":"e","id":{flow},{_FLOW},{where}}}'


class _About:
    """What is said of spans beside their times: the same for all of a site, so it is written once."""

    def __init__(self) -> None:
        self._of: dict[Site, str] = {}

    def of(self, site: Site) -> str:
        said = self._of.get(site)
        if said is None:
            said = self._of[site] = self._written(site, {})
        return said

    def of_step(self, trace: Any, at: int, step: int) -> str:
        return self._written(trace.shape.sites[at], {semconv.STEP_INDEX: step})

    def _written(self, site: Site, args: dict[str, Any]) -> str:
        if site.fqn is not None:
            args = {"module": site.fqn, **args}
        said = {
            "name": site.name,
            "cat": site.phase or "program",
            **({"args": args} if args else {}),
        }
        return _json(said)[1:-1]


def _us(ns: int) -> str:
    """Return a time in µs.

    Example:
        >>> _us(1_234_567), _us(5_000), _us(7)
        ('1234.567', '5', '0.007')
    """
    whole, rest = divmod(ns, 1000)
    return f"{whole}.{rest:03}" if rest else str(whole)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
