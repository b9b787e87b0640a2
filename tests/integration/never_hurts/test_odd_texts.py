"""Names and texts of the program's that UTF-8 has no bytes for: no span is lost for them, and none cannot be sent."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import Status, StatusCode
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans
from tests.support.examples import examples

characters = st.one_of(
    st.characters(exclude_characters="."),
    st.characters(categories=["Cs"]),  # surrogates, often
)
odd_texts = st.lists(characters, min_size=1, max_size=8).map("".join)


class BrokenError(Exception):
    pass


class Inner(nn.Module):
    """Says `text` wherever a program can say something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        text = self.text
        span = trace.get_current_span()
        span.set_attribute(text, text)
        span.set_attributes({text + "s": [text, text]})
        span.add_event(text, {text: text})
        span.add_link(trace.SpanContext(1, 2, True), {text: text})
        span.update_name(text)
        try:
            raise BrokenError(text)
        except BrokenError as error:
            span.record_exception(error, {text: text})
        span.set_status(StatusCode.ERROR, text)
        span.set_status(Status(StatusCode.ERROR, text))
        return self.fc(x)


class Raises(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@settings(max_examples=examples(25), deadline=None)
@given(odd_texts)
def test_every_text_that_enters_arrives_as_one_that_can_be_sent(text: str) -> None:
    names = {"__qualname__": text, "__module__": text}
    model = nn.Sequential()
    model.add_module(text, type("Named", (Inner,), names)(text))
    fails = nn.Sequential()
    fails.add_module(text, Raises(type("Named", (RuntimeError,), names)(text)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans(Config(record_shapes=True)) as captured:
        for _ in range(4):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
        with pytest.raises(RuntimeError), torch.no_grad():
            fails(torch.ones(1, 2))
    # A step: itself, three forwards, the backward and three in it, the optimizer; an evaluation: itself, two forwards.
    assert len(captured.spans) == 4 * 9 + 3
    for span in captured.spans:
        sent = encode_spans([span])
        (of_resource,) = sent.resource_spans
        (encoded,) = of_resource.scope_spans[0].spans
        encoded.SerializeToString()
        assert len(encoded.attributes) == len(span.attributes or ())
        for event, written in zip(span.events, encoded.events, strict=True):
            assert len(written.attributes) == len(event.attributes or ())
        for link, linked in zip(span.links, encoded.links, strict=True):
            assert len(linked.attributes) == len(link.attributes or ())
