"""The demo training, traced by the variable alone, through the real collector into the real Jaeger and back."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import pytest

from tests.support.backend_programs import REPOSITORY
from tests.support.backend_servers import Collector, Jaeger
from tests.support.jaeger_query import StoredSpan, count, poll
from tests.support.training_program import without_stretches

pytestmark = pytest.mark.backend

STEPS = 3
SPANS_PER_STEP = 210
WIDTH = 16
TIME_LIMIT = 120  # seconds


@dataclass
class Module:
    """A module of the demo's GPT as its spans describe it."""

    label: str
    fqn: str
    function: str  # the class and where it is defined
    parameters: int
    children: list[Module] = field(default_factory=list)

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            "torch.module.fqn": self.fqn,
            "torch.module.pattern": re.sub(r"\.\d+", ".*", self.fqn),
            "torch.module.class": self.function.rpartition(".")[2],
            "torch.module.training": True,
            "torch.module.parameters": self.parameters,
            "code.function.name": f"{self.function}.forward",
        }


@dataclass
class Expected:
    name: str
    kind: str
    attributes: dict[str, Any]
    children: list[Expected] = field(default_factory=list)
    link: Expected | None = None

    def walk(self) -> Iterator[Expected]:
        yield self
        for child in self.children:
            yield from child.walk()


def linear(label: str, fqn: str, inputs: int, outputs: int, *, bias: bool = True) -> Module:
    parameters = inputs * outputs + (outputs if bias else 0)
    return Module(label, fqn, "torch.nn.modules.linear.Linear", parameters)


def layer_norm(label: str, fqn: str) -> Module:
    return Module(label, fqn, "torch.nn.modules.normalization.LayerNorm", 2 * WIDTH)


def embedding(label: str, rows: int) -> Module:
    return Module(label, f"GPT.{label}", "torch.nn.modules.sparse.Embedding", rows * WIDTH)


def block(number: int) -> Module:
    fqn = f"GPT.h.{number}"
    attention = [
        linear("c_attn", f"{fqn}.attn.c_attn", WIDTH, 3 * WIDTH),
        linear("c_proj", f"{fqn}.attn.c_proj", WIDTH, WIDTH),
    ]
    mlp = [
        linear("c_fc", f"{fqn}.mlp.c_fc", WIDTH, 4 * WIDTH),
        Module("gelu", f"{fqn}.mlp.gelu", "torch.nn.modules.activation.GELU", 0),
        linear("c_proj", f"{fqn}.mlp.c_proj", 4 * WIDTH, WIDTH),
    ]
    children = [
        layer_norm("ln_1", f"{fqn}.ln_1"),
        Module(
            "attn", f"{fqn}.attn", "__main__.CausalSelfAttention", parameters(attention), attention
        ),
        layer_norm("ln_2", f"{fqn}.ln_2"),
        Module("mlp", f"{fqn}.mlp", "__main__.MLP", parameters(mlp), mlp),
    ]
    return Module(f"h.{number}", fqn, "__main__.Block", parameters(children), children)


def parameters(modules: list[Module]) -> int:
    return sum(module.parameters for module in modules)


def gpt() -> Module:
    characters, context = 97, 128
    children = [
        embedding("wte", characters),
        embedding("wpe", context),
        Module("drop", "GPT.drop", "torch.nn.modules.dropout.Dropout", 0),
        *map(block, range(4)),
        layer_norm("ln_f", "GPT.ln_f"),
        linear("lm_head", "GPT.lm_head", WIDTH, characters, bias=False),
    ]
    tied = children[0].parameters
    return Module("GPT", "GPT", "__main__.GPT", parameters(children) - tied, children)


CHECKPOINTED = "GPT.h.3"
SELF_TIME = "torch.self_time"  # another one in each run


def forward(module: Module) -> Expected:
    attributes = {"torch.phase": "forward", **module.attributes}
    return Expected(
        f"forward {module.label}", "PRODUCER", attributes, [*map(forward, module.children)]
    )


def recompute(module: Module) -> Expected:
    attributes = {"torch.phase": "recompute", **module.attributes}
    return Expected(
        f"recompute {module.label}", "INTERNAL", attributes, [*map(recompute, module.children)]
    )


def backward(module: Module, of: Expected) -> Expected:
    children = [
        backward(child, of_child)
        for child, of_child in zip(module.children, of.children, strict=True)
    ]
    children.reverse()
    if module.fqn == CHECKPOINTED:
        children.insert(0, recompute(module))
    attributes = {"torch.phase": "backward", **module.attributes}
    return Expected(f"backward {module.label}", "CONSUMER", attributes, children, link=of)


def micro_batch(number: int) -> list[Expected]:
    forward_of_root = forward(gpt())
    backward_of_root = backward(gpt(), forward_of_root)
    if number > 0:
        forward_of_root.attributes["torch.module.call_index"] = number
        backward_of_root.attributes["torch.module.call_index"] = number
    backward_pass = Expected(
        "backward", "INTERNAL", {"torch.phase": "backward"}, [backward_of_root]
    )
    wait = Expected("dataloader.next", "INTERNAL", {"torch.phase": "data"})
    return [wait, forward_of_root, backward_pass]


def step(index: int) -> Expected:
    optimizer = {"torch.phase": "optimizer", "torch.optimizer.class": "AdamW"}
    return Expected(
        "train.step",
        "INTERNAL",
        {"torch.phase": "step", "torch.step": index, "torch.step.micro_batches": 2},
        [
            *micro_batch(0),
            *micro_batch(1),
            Expected("optimizer.step AdamW", "INTERNAL", optimizer),
        ],
    )


Row = tuple[str, str, dict[str, Any], list[int], list[int]]
"""Name, kind, attributes, rows of the children, rows of the links."""


def expected_rows(root: Expected) -> list[Row]:
    spans = list(root.walk())
    row_of = {id(span): row for row, span in enumerate(spans)}
    return [
        (
            span.name,
            span.kind,
            span.attributes,
            [row_of[id(child)] for child in span.children],
            [row_of[id(span.link)]] if span.link else [],
        )
        for span in spans
    ]


def stored_rows(root: StoredSpan) -> list[Row]:
    spans = list(root.walk())
    row_of = {(span.trace_id, span.span_id): row for row, span in enumerate(spans)}
    return [
        (
            span.name,
            span.kind,
            {name: value for name, value in span.attributes.items() if name != SELF_TIME},
            [row_of[child.trace_id, child.span_id] for child in span.children],
            [row_of[link.trace_id, link.span_id] for link in span.links],
        )
        for span in spans
    ]


@pytest.fixture(params=["grpc", "http/protobuf"], scope="module")
def run_steps(
    request: pytest.FixtureRequest, collector: Collector, jaeger: Jaeger
) -> list[StoredSpan]:
    """What Jaeger has of one run."""
    protocol = request.param
    service = f"demo over {protocol}"
    endpoints = {"grpc": f"http://{collector.otlp_grpc}", "http/protobuf": collector.otlp_http}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    variables = {
        "OTEL_TORCH_MODULES_ENABLED": "true",
        "OTEL_TORCH_MODULES_CAUSES": "none",  # they come and go with what the machine does
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoints[protocol],
    }
    script = str(REPOSITORY / "otel_torch_modules" / "examples" / "train_gpt.py")
    size = ["--steps", str(STEPS), "--width", str(WIDTH), "--batch-size", "2"]
    done = subprocess.run(
        [sys.executable, script, *size],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # Long stretches between phases are as many as the machine makes.
    return poll(
        lambda: without_stretches(jaeger.query.traces(service)),
        lambda found: count(found) >= STEPS * SPANS_PER_STEP,
        f"{STEPS * SPANS_PER_STEP} spans of {service}",
    )


def test_every_step_is_one_whole_trace(run_steps: list[StoredSpan]) -> None:
    stored = [row for root in run_steps for row in stored_rows(root)]
    assert stored == [row for index in range(STEPS) for row in expected_rows(step(index))]


def test_every_trace_has_one_span_without_a_parent(run_steps: list[StoredSpan]) -> None:
    assert len({root.trace_id for root in run_steps}) == STEPS
    assert [root.parent_id for root in run_steps] == [""] * STEPS
    assert count(run_steps) == STEPS * SPANS_PER_STEP


def test_steps_follow_each_other_and_children_lie_inside_their_parents(
    run_steps: list[StoredSpan],
) -> None:
    for before, after in pairwise(run_steps):
        assert before.end <= after.start
    for root in run_steps:
        for span in root.walk():
            assert span.start <= span.end
            for child in span.children:
                assert span.start <= child.start <= child.end <= span.end, (span, child)


def test_a_module_says_how_long_it_lasts_without_those_below_it(
    run_steps: list[StoredSpan],
) -> None:
    for root in run_steps:
        for span in root.walk():
            if "torch.module.fqn" in span.attributes:
                below = sum(child.end - child.start for child in span.children)
                own = (span.end - span.start - below) / 1e9
                assert span.attributes[SELF_TIME] == pytest.approx(own)
            else:
                assert SELF_TIME not in span.attributes


def test_nothing_failed_and_all_spans_say_where_they_come_from(
    run_steps: list[StoredSpan],
) -> None:
    resource = run_steps[0].resource
    assert uuid.UUID(resource["service.instance.id"]).version == 4
    assert isinstance(resource["process.pid"], int)
    assert resource["service.name"].startswith("demo over ")
    assert resource == {
        "host.name": socket.gethostname(),
        "process.pid": resource["process.pid"],
        "service.instance.id": resource["service.instance.id"],
        "service.name": resource["service.name"],
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": version("opentelemetry-sdk"),
        "torch.version": version("torch"),
    }
    for root in run_steps:
        for span in root.walk():
            assert (span.status, span.events, span.scope) == ("UNSET", [], "otel_torch_modules")
            assert span.resource == resource
