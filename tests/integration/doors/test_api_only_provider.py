"""A provider with nothing of the SDK in it, as Datadog's: steps are spans of its own, with the times that they had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.training_program import ENABLED, STEP, TRAIN, run, said, traces

ROOT = Path(__file__).parents[3]

PROVIDER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from opentelemetry import trace
from tests.support.api_provider import ApiProvider

provider = ApiProvider()
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("theirs")
"""
PRINT = """
import json
from otel_torch_modules import TorchModuleInstrumentor

TorchModuleInstrumentor().uninstrument()
spans = [span for span in provider.spans if span.name != "between"]
provider.spans = spans
print(json.dumps({
    "outline": provider.outline(),
    "foreign": provider.foreign_parents,
    "open": [span.name for span in spans if span.end_time is None],
    "within": all(
        span.parent is None
        or span.parent.start_time <= span.start_time <= span.end_time <= span.parent.end_time
        for span in spans
    ),
}))
"""
IN_A_SPAN_OF_THE_PROGRAM = """
with tracer.start_as_current_span("epoch"):
    train()
"""
AROUND_ONE_OF_THE_PROGRAM = """
output = model(torch.ones(2, 4))
with tracer.start_as_current_span("loss"):
    trace.get_current_span().set_attribute("seen", True)
    loss = output.sum()
loss.backward()
optimizer.step()
assert [s.attributes for s in provider.spans if s.name == "loss"] == [{"seen": True}]
"""


@pytest.mark.parametrize(
    ("source", "outline"),
    [
        (PROVIDER + TRAIN + "train()\n", STEP * 2),
        (
            TRAIN + PROVIDER + IN_A_SPAN_OF_THE_PROGRAM,
            ["epoch", *("  " + line for line in STEP * 2)],
        ),
        (PROVIDER + TRAIN + AROUND_ONE_OF_THE_PROGRAM, ["loss", *STEP]),
    ],
    ids=["alone", "in a span of the program's", "around a span of the program's"],
)
def test_steps_are_spans_of_the_providers(tmp_path: Path, source: str, outline: list[str]) -> None:
    found = json.loads(said(run(tmp_path, source + PRINT, **ENABLED)))
    assert found == {"outline": outline, "foreign": 0, "open": [], "within": True}
    assert traces(tmp_path) == []  # none of ours was made beside it
