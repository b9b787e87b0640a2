"""What of a file of traces could not be read, and which steps it belonged to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_torch_modules.cli.grammar import agree, counted


class Place(NamedTuple):
    """Where a span is missing."""

    trace_id: str
    time: int | None  # Unix ns, of its start; None where that is not known either


@dataclass
class Damage:
    """What is missing in one file."""

    file: str
    lines: list[int] = field(default_factory=list)  # numbers of those that are no trace request
    cut_off: bool = False  # the last of them ends without a line feed
    spans: int = 0  # malformed ones, in lines that are otherwise good
    places: list[Place] = field(default_factory=list)  # of what is missing, as far as can be told

    def sentences(self) -> Iterator[str]:
        """Yield what is to be told of it."""
        whole = self.lines[:-1] if self.cut_off else self.lines
        if whole:
            lines = agree(
                len(whole), f"line {whole[0]} is", f"{len(whole)} lines, first line {whole[0]}, are"
            )
            requests = agree(len(whole), "an OTLP JSON trace request", "OTLP JSON trace requests")
            yield f"{self.file}: {lines} not {requests} and {_was_left_out(len(whole))}"
        if self.cut_off:
            yield f"{self.file}: the last line is cut off and {_was_left_out(1)}"
        if self.spans:
            yield (
                f"{self.file}: {counted(self.spans, 'span is', 'spans are')} malformed and "
                f"{_was_left_out(self.spans)}"
            )


def _was_left_out(count: int) -> str:
    return agree(count, "was left out", "were left out")
