"""A span that was read from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_torch_modules import semconv


@dataclass(slots=True, eq=False)
class SpanNode:
    """A span of a file with the spans below it, in the order in which they began. Times are Unix ns.

    Whoever wrote the file may have put anything in an attribute: one of another type than ours is as if it were not
    there.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: int
    end: int
    attributes: Mapping[str, Any]
    process: str  # which process sent it
    failed: bool
    exception: (
        str  # type of the exception that began in this span and first line of its message, or empty
    )
    children: list[SpanNode] = field(default_factory=list)
    incomplete: bool = False  # of a step's or a rank's span: spans below it are missing

    @property
    def phase(self) -> str | None:
        """Value of `torch.phase`; None on a span that the program made itself."""
        return self.text(semconv.PHASE)

    @property
    def duration(self) -> int:
        return self.end - self.start

    @property
    def step(self) -> int | None:
        return self.number(semconv.STEP_INDEX)

    @property
    def dropped_before(self) -> int:
        """Of a step's or a rank's span: how many records were dropped since the step before it."""
        return max(self.number(semconv.STEP_DROPPED) or 0, 0)

    @property
    def is_evaluation(self) -> bool:
        """Whether it is that of an evaluation, or of a rank below it."""
        return self.phase == semconv.PHASE_EVALUATE or self.forwards is not None

    @property
    def forwards(self) -> int | None:
        """Of an evaluation's span, and of a rank's below it: how many forward passes it has."""
        return self.number(semconv.EVALUATION_FORWARDS)

    @property
    def rank(self) -> int | None:
        """Of a rank's span: which rank it is."""
        return self.number(semconv.DISTRIBUTED_RANK) if self.phase == semconv.PHASE_RANK else None

    @property
    def ranks(self) -> list[SpanNode]:
        """Of a step's span: those of its ranks, by number. Of a rank's span: itself."""
        if self.rank is not None:
            return [self]
        found = [(child.rank, child) for child in self.children]
        numbered = [(rank, child) for rank, child in found if rank is not None]
        return [child for _, child in sorted(numbered, key=lambda entry: entry[0])]

    def number(self, key: str) -> int | None:
        """Return the attribute `key` if it is a whole number."""
        value = self.attributes.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, key: str) -> str | None:
        """Return the attribute `key` if it is a string."""
        value = self.attributes.get(key)
        return value if isinstance(value, str) else None

    def walk(self) -> Iterator[SpanNode]:
        """Yield this span and all below it, parents first."""
        stack = [self]
        while stack:
            span = stack.pop()
            yield span
            stack.extend(reversed(span.children))
