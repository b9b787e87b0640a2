"""What lies between two steps is a tree by itself, linked to the step before."""

from __future__ import annotations

from otel_torch_modules import semconv
from otel_torch_modules._assembly.reading.history import History
from otel_torch_modules._assembly.reading.tree import RecordTree
from otel_torch_modules._events import WIDTH
from otel_torch_modules._records import Record
from otel_torch_modules._spans.span import INTERNAL, Kinds, SharedAttributes, Span

_KINDS = Kinds(INTERNAL, INTERNAL)


def alone(record: Record) -> Span:
    """Return the tree of `record`, a checkpoint: its last event is the root; what happened meanwhile is below it."""
    event, _, _, _, detail = record.log[-WIDTH:]
    tree = RecordTree(record, _KINDS, 0, 0, History())
    tree.read(record.log[:-WIDTH])
    root = tree.finish()
    root.attributes = SharedAttributes({semconv.PHASE: event.shown.phase})
    root.keys, root.values = event.values, detail.values
    return root
