"""Marks inside one compiled graph: all borders of the chosen modules, and nothing else is changed by them.

What Inductor makes takes many seconds, so all that is asked of it is run once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import config as inductor
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch._inductor.utils import fresh_inductor_cache
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import Config
from otel_torch_modules._assembly.reading import between
from otel_torch_modules.testing import Captured, capture_spans
from tests.integration.compiled.blocks import Model
from tests.support.small_training import batch, outline, text, train

MARKED = Config(causes=(), compiled_marks=("*.h.*",))

STEP = """
    train.step
      forward Model
        forward h.0
        forward h.1
        forward h.2
      backward
        backward Model
          backward h.2
          backward h.1
          backward h.0
      optimizer.step SGD
"""
EVALUATION = """
    evaluate
      forward Model
        forward h.0
        forward h.1
        forward h.2
"""
UNMARKED = """
    train.step
      forward Model
      backward
        backward Model
      optimizer.step SGD
    train.step
      forward Model
      backward
        backward Model
      optimizer.step SGD
    evaluate
      forward Model
"""


class Programs(CustomGraphPass):
    """A pass that the program has set: it counts graphs, and sees no mark, for it is before ours."""

    def __init__(self) -> None:
        self.graphs = 0
        self.marks = 0

    def __call__(self, graph: torch.fx.Graph) -> None:
        self.graphs += 1
        self.marks += sum("otel_torch_modules" in str(node.target) for node in graph.nodes)

    def uuid(self) -> Any:
        return "the program's"


class Checkpointed(nn.Module):
    """Computes all of a model again in backward."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.model, x, use_reentrant=False))


def compiled(**options: Any) -> Model:
    """Return a model compiled as one, the same each time."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Model()
    model.compile(fullgraph=True, **options)
    return model


def trained(model: Model) -> list[float]:
    """Make two steps and evaluate; return parameters and outputs."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        train(model, sgd)
    with torch.no_grad():
        outputs = model(batch())
    return [value for one in (*model.parameters(), outputs) for value in one.flatten().tolist()]


class Ran(NamedTuple):
    """What came of it."""

    numbers: dict[str, list[float]]
    captured: dict[str, Captured]
    hits: int  # in Inductor's cache, of what was marked
    passes: Programs
    setting: list[object]  # Inductor's: before, while tracing was on, after


@pytest.fixture(scope="module")
def ran() -> Ran:
    numbers, captured = {}, {}
    passes = Programs()
    with (
        pytest.MonkeyPatch.context() as patched,
        fresh_inductor_cache(),
        inductor.patch(fx_graph_cache=True, post_grad_custom_post_pass=passes),
    ):
        patched.setattr(between, "SHORTEST", 1 << 62)  # trees are compared whole
        setting = [inductor.post_grad_custom_post_pass]
        numbers["without"] = trained(compiled())
        counters.clear()
        with capture_spans(MARKED) as captured["first"]:
            model = compiled()
            numbers["first"] = trained(model)
            setting.append(inductor.post_grad_custom_post_pass)
        numbers["after it"] = trained(model)  # calls marks that nobody listens to
        counters.clear()
        with capture_spans(MARKED) as captured["again"]:
            model = compiled()
            numbers["again"] = trained(model)
        hits = counters["inductor"]["fxgraph_cache_hit"]
        with capture_spans(Config(causes=(), compiled_marks=("*.h.*",), detail_ranks="1")) as of:
            captured["phases"] = of
            trained(model)
        with capture_spans(MARKED) as captured["recompute"]:
            outer = Checkpointed(model)
            train(outer, torch.optim.SGD(outer.parameters(), lr=0.01))
        with capture_spans(MARKED) as captured["replayed"]:
            numbers["replayed"] = trained(compiled(mode="reduce-overhead"))
        setting.append(inductor.post_grad_custom_post_pass)
    torch._dynamo.reset()
    return Ran(numbers, captured, hits, passes, setting)


def test_all_borders_forward_and_backward_in_order(ran: Ran) -> None:
    assert outline(ran.captured["first"]) == 2 * text(STEP) + text(EVALUATION)


def test_the_numbers_are_those_without_marks(ran: Ran) -> None:
    first = ran.numbers["without"]
    for name in ("first", "again", "replayed"):
        assert ran.numbers[name] == first, name


def test_what_was_compiled_with_marks_runs_on_without_us(ran: Ran) -> None:
    twice = compiled(backend="eager")
    trained(twice)
    assert ran.numbers["after it"] == pytest.approx(trained(twice), rel=1e-5)


def test_what_is_found_in_the_cache_has_its_marks(ran: Ran) -> None:
    assert ran.hits >= 3
    assert outline(ran.captured["again"]) == 2 * text(STEP) + text(EVALUATION)


def test_a_span_says_what_it_is(ran: Ran) -> None:
    step = ran.captured["first"].trees[1]
    for name in ("forward h.1", "backward h.1"):
        (span,) = step.find(name)
        attributes = {**span.attributes}
        assert 0 < attributes.pop("torch.self_time") < 60
        assert attributes == {
            "torch.phase": name.split()[0],
            "torch.module.fqn": "Model.h.1",
            "torch.module.pattern": "Model.h.*",
            "torch.compiled": True,
            "torch.compiled.region": True,
        }


def test_the_programs_own_pass_is_kept_before_ours_and_put_back(ran: Ran) -> None:
    before, meanwhile, after = ran.setting
    assert before is after is ran.passes is not meanwhile
    if isinstance(meanwhile, tuple):  # before there could be several, ours is around the program's
        assert meanwhile[0] is ran.passes
        assert len(meanwhile) == 2
    assert ran.passes.graphs >= 6
    assert ran.passes.marks == 0


def test_phases_alone_have_none(ran: Ran) -> None:
    phases = text(UNMARKED).replace("evaluate\n  forward Model\n", "")
    found = outline(ran.captured["phases"])
    assert found.startswith(phases)
    assert "h.0" not in found


def test_what_is_computed_again_is_a_recompute(ran: Ran) -> None:
    assert outline(ran.captured["recompute"]) == text("""
        train.step
          forward Checkpointed
            forward model
              forward h.0
              forward h.1
              forward h.2
            forward head
          backward
            backward Checkpointed
              backward head
              backward model
                recompute model
                  recompute h.0
                  recompute h.1
                  recompute h.2
                backward h.2
                backward h.1
                backward h.0
          optimizer.step SGD
    """)


def test_graphs_that_a_device_would_replay_are_left_alone(ran: Ran) -> None:
    assert outline(ran.captured["replayed"]) == text(UNMARKED)
