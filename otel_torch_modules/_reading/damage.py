"""What of a source of traces could not be read, and which steps it belonged to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_torch_modules._grammar import agree, counted


class MissingSpan(NamedTuple):
    """Where a span is missing."""

    trace_id: str
    time: int | None  # Unix ns, of its start; None where that is not known either


@dataclass
class Damage:
    """What is missing in one source."""

    source: str
    unit: str = "line"  # what holds a request there
    encoding: str = "OTLP JSON"  # of the requests
    requests: list[int] = field(default_factory=list)  # numbers of those that are none
    cut_off: bool = False  # the last of them ends before its time
    spans: int = 0  # malformed ones, in requests that are otherwise good
    places: list[MissingSpan] = field(default_factory=list)  # as far as can be told
    limit: int = 0  # of the search, where it was reached: there may be more
    ended: str = ""  # why nothing could be read from some place on
    # What is no damage, and passed over: signals whose requests stand between those of traces.
    other_signals: set[str] = field(default_factory=set)

    def sentences(self) -> Iterator[str]:
        """Yield what is to be told of it."""
        whole = self.requests[:-1] if self.cut_off else self.requests
        if whole:
            units = agree(
                len(whole),
                f"{self.unit} {whole[0]} is",
                f"{len(whole)} {self.unit}s, first {self.unit} {whole[0]}, are",
            )
            requests = agree(
                len(whole), f"an {self.encoding} trace request", f"{self.encoding} trace requests"
            )
            yield f"{self.source}: {units} not {requests} and {_was_left_out(len(whole))}"
        if self.cut_off:
            yield f"{self.source}: the last {self.unit} is cut off and {_was_left_out(1)}"
        if self.spans:
            yield (
                f"{self.source}: {counted(self.spans, 'span is', 'spans are')} malformed and "
                f"{_was_left_out(self.spans)}"
            )
        if self.limit:
            yield f"{self.source}: the search ended at its limit of {self.limit} traces; --limit asks for more"
        if self.ended:
            yield f"{self.source}: {self.ended}; what comes after could not be read"


def _was_left_out(count: int) -> str:
    return agree(count, "was left out", "were left out")
