"""A record that has not ended, as a tree that ends now: what is open in it, and where it stands.

Nothing is kept of it: the record goes on, and is read once more when it has ended.
"""

from __future__ import annotations

from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._assembly.reading.between import add_between
from otel_torch_modules._assembly.reading.enclose import enclose
from otel_torch_modules._assembly.reading.history import History
from otel_torch_modules._assembly.reading.tree import RecordTree
from otel_torch_modules._records import Record
from otel_torch_modules._spans.span import Kinds, Span


class Snapshot(NamedTuple):
    """A tree, and its innermost place."""

    root: Span
    place: str  # empty where no span is open
    seconds: float  # for how long it has been open


def read_snapshot(record: Record, kinds: Kinds, max_spans: int) -> Snapshot:
    """Return the tree of `record`, a stall.

    Args:
        record: what is read.
        kinds: of module spans.
        max_spans: how many module spans there may be.
    """
    tree = RecordTree(record, kinds, max_spans, 0, History())
    tree.read(record.log)
    unfinished = tree.unfinished()
    root = tree.finish()
    enclose(root)
    place = max(reversed(unfinished), key=lambda span: span.start, default=None)
    for span in unfinished:
        span.attributes = {**span.attributes, semconv.UNFINISHED: True}
    snapshot = Snapshot(
        root,
        "" if place is None else _name(place),
        0.0 if place is None else (record.end - place.start) / 1e9,
    )
    for head in tree.heads:
        head.attributes = {**head.attributes, semconv.STALL_PLACE: snapshot.place}
    for span in root.walk():
        if span not in tree.heads:
            span.span_id = 0  # the program may have asked for one: that is the step's
    add_between(tree.heads[-1])
    return snapshot


def _name(span: Span) -> str:
    fqn = span.attributes.get(semconv.MODULE_FQN)
    if fqn is not None:
        return f"{span.phase} {fqn}"
    if span.phase != semconv.PHASE_BACKWARD:
        return span.name
    last = span
    while last.children:
        last = last.children[-1]
    after = last.attributes.get(semconv.MODULE_FQN, last.name)
    return span.name if last is span else f"{span.name}, after {after}"
