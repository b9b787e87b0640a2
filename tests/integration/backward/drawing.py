"""Captured spans as text, one line each, so that a test compares a whole tree at sight.

``forward a ->`` recorded autograd nodes (kind PRODUCER); ``backward a <- forward`` is a CONSUMER with a link to the
forward span of the same call; ``<- earlier forward`` means one of an earlier trace. ``#1`` is the call index, ``!`` is
status ERROR. What a line does not say is checked while it is drawn: phases, kinds, times, and that links lead where
the structure says.
"""

from __future__ import annotations

from textwrap import dedent

import torch
from opentelemetry.trace import SpanKind, StatusCode
from torch import nn

from otel_torch_modules import semconv
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans

_PHASE_OF_WORD = {
    "train.step": semconv.PHASE_STEP,
    "dataloader.next": semconv.PHASE_DATA,
    "forward": semconv.PHASE_FORWARD,
    "backward": semconv.PHASE_BACKWARD,
    "recompute": semconv.PHASE_RECOMPUTE,
    "optimizer.step": semconv.PHASE_OPTIMIZER,
}


def tree(text: str) -> str:
    """Return the expected drawing, written as an indented block."""
    return dedent(text).strip()


def draw(captured: Captured) -> str:
    """Return the drawing of all trees, those that started first first."""
    trees = captured.trees
    drawing = _Drawing(trees)
    return "\n".join(line for root in trees for line in drawing.lines(root, None))


def drawing_of_a_step(model: nn.Module, *shape: int) -> str:
    """Return the drawing of a forward of `model`, with numbers of that shape, and its backward."""
    with capture_spans() as captured:
        model(torch.randn(shape)).sum().backward()
    return draw(captured)


class _Drawing:
    def __init__(self, trees: list[CapturedSpan]) -> None:
        self._by_id = {_id(span): span for root in trees for span in root.walk()}
        self._parents = {
            _id(child): span for root in trees for span in root.walk() for child in span.children
        }

    def lines(self, span: CapturedSpan, parent: CapturedSpan | None) -> list[str]:
        assert span.start <= span.end, span.name
        if parent is not None:
            assert parent.start <= span.start, f"{span.name} starts before {parent.name}"
            assert span.end <= parent.end, f"{span.name} ends after {parent.name}"
            assert span.span.context.trace_id == parent.span.context.trace_id
        ends = [child.end for child in span.children]
        starts = [child.start for child in span.children]
        for before, after in zip(ends, starts[1:], strict=False):
            assert before <= after, f"two children of {span.name} overlap"
        assert span.attributes[semconv.PHASE] == _PHASE_OF_WORD[span.name.split(" ")[0]], span.name
        line = span.name + _index(span) + self._direction(span)
        if span.span.status.status_code is StatusCode.ERROR:
            line += " !"
        return [line] + [
            "  " + below for child in span.children for below in self.lines(child, span)
        ]

    def _direction(self, span: CapturedSpan) -> str:
        links = span.span.links
        kind = span.span.kind
        if not span.name.startswith(semconv.BACKWARD_PREFIX):
            assert links == (), span.name
            if kind is SpanKind.PRODUCER:
                assert span.attributes[semconv.PHASE] == semconv.PHASE_FORWARD
                return " ->"
            assert kind is SpanKind.INTERNAL, span.name
            return ""
        assert kind is SpanKind.CONSUMER, span.name
        (link,) = links
        linked = self._by_id[link.context.span_id]
        for key in (semconv.MODULE_FQN, semconv.MODULE_CLASS, semconv.MODULE_CALL_INDEX):
            assert linked.attributes.get(key) == span.attributes.get(key), (key, span.name)
        above = self._parents[_id(span)]
        if above.span.links:  # of a module's backward: then the forward spans hang alike
            assert _id(self._parents[_id(linked)]) == above.span.links[0].context.span_id
        phase = linked.attributes[semconv.PHASE]
        same = link.context.trace_id == span.span.context.trace_id
        return f" <- {phase}" if same else f" <- earlier {phase}"


def _id(span: CapturedSpan) -> int:
    return span.span.context.span_id


def _index(span: CapturedSpan) -> str:
    index = span.attributes.get(semconv.MODULE_CALL_INDEX)
    return "" if index is None else f"#{index}"
