"""A trace that was read, as columns.

A `Trace` holds one number per span in each column: `starts[at]`, `ends[at]`, `span_ids[at]` belong to the span
numbered `at`. Spans are numbered from the root down: a parent before what is below it, siblings in the order in which
they began, ranks by number. What a span is, its `Site` (name, phase, module), and where it lies, `parents[at]`, is in
the trace's `Shape`. Training repeats itself: traces that look alike share one shape, so a million spans take some tens
of megabytes, and what follows from a shape is found out once.

To go through a step, take its columns::

    for at in range(step.at, step.shape.after[step.at]):
        step.shape.sites[at].fqn, step.trace.ends[at] - step.trace.starts[at]

or, where that is quick enough, its `Span`s, which are nothing but a trace and a number::

    for span in step.walk(): ...

Times are Unix ns. Nothing here has read a file: it is what reading hands to whoever has a question.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._shape import Shape, Site, number_in, text_in


class Remark(NamedTuple):
    """What some spans only have."""

    attributes: Mapping[str, Any]  # those that vary from span to span
    failed: bool = False
    exception: str = ""  # of the one that began here: its type and the first line of its message


@dataclass(slots=True, eq=False)
class Trace:
    """All spans of a trace that lead to a root."""

    trace_id: str
    shape: Shape
    span_ids: array[int]
    parent_ids: array[int]  # 0 for none
    starts: array[int]
    ends: array[int]
    processes: Sequence[str]  # which process sent the span
    measures: Mapping[str, array[float]]  # `torch.*` in seconds, one number per span, else NaN
    remarks: Mapping[int, Remark]
    link_ids: Sequence[
        int
    ] = ()  # of a span of the same trace, 0 for none; fewer where the last have none
    astray: Sequence[int] = ()  # starts of spans in a circle, to which no root leads
    incomplete: set[int] = field(default_factory=set)  # steps of which spans are missing

    def __len__(self) -> int:
        return len(self.starts)


class Span:
    """A span of a trace. Whoever wrote it may have put anything in an attribute.

    One of another type than ours is as if it were not there.
    """

    __slots__ = ("at", "trace")

    def __init__(self, trace: Trace, at: int) -> None:
        self.trace = trace
        self.at = at

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and (self.trace, self.at) == (other.trace, other.at)

    def __hash__(self) -> int:
        return hash((self.trace, self.at))

    def __repr__(self) -> str:
        return f"<{self.name} of {self.trace_id}, {self.duration / 1e6:.2f} ms>"

    @property
    def shape(self) -> Shape:
        return self.trace.shape

    @property
    def site(self) -> Site:
        return self.trace.shape.sites[self.at]

    @property
    def trace_id(self) -> str:
        return self.trace.trace_id

    @property
    def span_id(self) -> str:
        return f"{self.trace.span_ids[self.at]:016x}"

    @property
    def parent_id(self) -> str:
        """Empty where it has none."""
        parent = self.trace.parent_ids[self.at]
        return f"{parent:016x}" if parent else ""

    @property
    def link_id(self) -> str:
        """Id of the span of the same trace that it links to: of a backward its forward. Empty where it has none."""
        links = self.trace.link_ids
        link = links[self.at] if self.at < len(links) else 0
        return f"{link:016x}" if link else ""

    @property
    def name(self) -> str:
        return self.site.name

    @property
    def start(self) -> int:
        return self.trace.starts[self.at]

    @property
    def end(self) -> int:
        return self.trace.ends[self.at]

    @property
    def duration(self) -> int:
        return self.trace.ends[self.at] - self.trace.starts[self.at]

    @property
    def process(self) -> str:
        return self.trace.processes[self.at]

    @property
    def failed(self) -> bool:
        return self.at in self.trace.remarks and self.trace.remarks[self.at].failed

    @property
    def exception(self) -> str:
        """Type of the exception that began in this span and first line of its message, or empty."""
        remark = self.trace.remarks.get(self.at)
        return remark.exception if remark else ""

    @property
    def attributes(self) -> dict[str, Any]:
        """All of them."""
        remark = self.trace.remarks.get(self.at)
        measured = {key: column[self.at] for key, column in self.trace.measures.items()}
        return {
            **self.site.attributes,
            **(remark.attributes if remark else {}),
            **{key: value for key, value in measured.items() if value == value},
        }

    @property
    def phase(self) -> str | None:
        """Value of `torch.phase`; None on a span that the program made itself."""
        return self.site.phase

    @property
    def incomplete(self) -> bool:
        """Of a step's or a rank's span: spans below it are missing."""
        return self.at in self.trace.incomplete

    @property
    def truncated(self) -> bool:
        """Of a step's or a rank's span: module spans are missing that were too many, of the step or of one rank."""
        return any(span.flag(semconv.STEP_TRUNCATED) for span in (self, *self.ranks))

    @property
    def step(self) -> int | None:
        return self.number(semconv.STEP_INDEX)

    @property
    def dropped_before(self) -> int:
        """Of a step's or a rank's span: how many records were lost of which no step before it has told."""
        return max(self.number(semconv.STEP_DROPPED) or 0, 0)

    @property
    def is_evaluation(self) -> bool:
        """Whether it is that of an evaluation, or of a rank below it."""
        return self.phase == semconv.PHASE_EVALUATE or self.forwards is not None

    @property
    def is_stall(self) -> bool:
        """Whether it is that of a stall, or of a rank below it."""
        return self.text(semconv.STALL_REASON) is not None

    @property
    def forwards(self) -> int | None:
        """Of an evaluation's span, and of a rank's below it: how many forward passes it has."""
        return self.number(semconv.EVALUATION_FORWARDS)

    @property
    def rank(self) -> int | None:
        """Of a rank's span: which rank it is."""
        return self.site.rank

    @property
    def ranks(self) -> list[Span]:
        """Of a step's span: those of its ranks, by number. Of a rank's span: itself."""
        if self.rank is not None:
            return [self]
        sites = self.shape.sites
        numbered = [
            (rank, child)
            for child in self.shape.children(self.at)
            if (rank := sites[child].rank) is not None
        ]
        return [Span(self.trace, child) for _, child in sorted(numbered)]

    @property
    def children(self) -> list[Span]:
        """The spans right below, in the order in which they began; ranks by number."""
        return [Span(self.trace, child) for child in self.shape.children(self.at)]

    @property
    def lane(self) -> Span | None:
        """Of a step's or a rank's span: where its phases ran on its device, if that was sent."""
        lane = self.shape.lanes.get(self.at)
        return None if lane is None else Span(self.trace, lane)

    @property
    def above_lane(self) -> Span | None:
        """Of a lane: the span of the step or of the rank whose it is."""
        heads = (head for head, lane in self.shape.lanes.items() if lane == self.at)
        return next((Span(self.trace, head) for head in heads), None)

    def number(self, key: str) -> int | None:
        """Return the attribute `key` if it is a whole number."""
        return number_in(self._of(key), key)

    def text(self, key: str) -> str | None:
        """Return the attribute `key` if it is a string."""
        return text_in(self._of(key), key)

    def flag(self, key: str) -> bool:
        """Return whether the attribute `key` is true."""
        return self._of(key).get(key) is True

    def measure(self, key: str) -> float | None:
        """Return the attribute `key` if it is a number of seconds."""
        column = self.trace.measures.get(key)
        value = None if column is None else column[self.at]
        return value if value == value else None

    def _of(self, key: str) -> Mapping[str, Any]:
        remark = self.trace.remarks.get(self.at)
        if remark is not None and key in remark.attributes:
            return remark.attributes
        return self.site.attributes

    def walk(self) -> Iterator[Span]:
        """Yield this span and all below it, parents first."""
        for at in range(self.at, self.shape.after[self.at]):
            yield Span(self.trace, at)
