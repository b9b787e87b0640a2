"""A provider with nothing of the SDK in it, as Datadog's: steps are spans of its own, with the times that they had."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.side_by_side import side_by_side
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


PROGRAMS = {
    "alone": (PROVIDER + TRAIN + "train()\n", STEP * 2),
    "in a span of the program's": (
        TRAIN + PROVIDER + IN_A_SPAN_OF_THE_PROGRAM,
        ["epoch", *("  " + line for line in STEP * 2)],
    ),
    "around a span of the program's": (
        PROVIDER + TRAIN + AROUND_ONE_OF_THE_PROGRAM,
        ["loss", *STEP],
    ),
}


def test_steps_are_spans_of_the_providers(tmp_path: Path) -> None:
    def provided(folder: Path, name: str) -> dict[str, object]:
        source, _ = PROGRAMS[name]
        found: dict[str, object] = json.loads(said(run(folder, source + PRINT, **ENABLED)))
        assert traces(folder) == [], name  # none of ours was made beside it
        return found

    assert side_by_side(tmp_path, provided, PROGRAMS) == {
        name: {"outline": outline, "foreign": 0, "open": [], "within": True}
        for name, (_, outline) in PROGRAMS.items()
    }
