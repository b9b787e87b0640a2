"""Every way of spreading a model over ranks, on four real ones: whole trees, names, losses."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.distributed.parallel_runs import RANKS, STEPS, Runs, losses_untraced, runs_of

pytestmark = pytest.mark.slow

BLOCK_FORWARD = """\
forward {0}
  forward fc
  forward act
  forward out
"""
BLOCK_BACKWARD = """\
backward {0}
  backward out
  backward act
  backward fc
"""
FORWARD = (
    "forward GPT\n"
    + indent(BLOCK_FORWARD.format("h.0") + BLOCK_FORWARD.format("h.1"), "  ")
    + "  forward head\n"
)
BACKWARD = "backward GPT\n  backward head\n" + indent(
    BLOCK_BACKWARD.format("h.1") + BLOCK_BACKWARD.format("h.0"), "  "
)
RECOMPUTED = """\
    recompute h.1
      recompute fc
      recompute act
      recompute out
"""
STAGE_FORWARD = "forward Stage\n" + indent(BLOCK_FORWARD.format("block"), "  ")
STAGE_BACKWARD = "backward Stage\n" + indent(BLOCK_BACKWARD.format("block"), "  ")


def in_ddp(forward: str, backward: str) -> str:
    return (
        f"forward DistributedDataParallel\n{indent(forward, '  ')}"
        f"backward\n  backward DistributedDataParallel\n{indent(backward, '    ')}"
    )


def in_fsdp1(forward: str, backward: str) -> str:
    forward, backward = (
        "".join(
            f"{line}\n" + f"    {line.split()[0]} Block\n" * (" h." in line)
            if not line.startswith("    ")
            else f"  {line}\n"
            for line in tree.splitlines()
        )
        for tree in (forward, backward)
    )
    return in_ddp(forward, backward).replace("DistributedDataParallel", "FullyShardedDataParallel")


def alone(forward: str, backward: str) -> str:
    return f"{forward}backward\n{indent(backward, '  ')}"


# Below each rank's span, but for the optimizer that comes last.
EXPECTED = {
    "data_parallel.py": {
        "ddp": in_ddp(FORWARD, BACKWARD),
        "ddp_accumulating": in_ddp(FORWARD, BACKWARD) * 2,
        "ddp_static_graph": in_ddp(FORWARD, BACKWARD),
        "fsdp1": in_fsdp1(FORWARD, BACKWARD),
        "fsdp2": alone(FORWARD, BACKWARD),
        "fsdp2_checkpointed": alone(
            FORWARD, BACKWARD.replace("  backward h.1\n", f"  backward h.1\n{RECOMPUTED}")
        ),
    },
    "model_parallel.py": {
        "tensor_parallel": alone(FORWARD, BACKWARD),
        "tensor_parallel_in_fsdp2": alone(FORWARD, BACKWARD),
        "pipeline": STAGE_FORWARD * 2 + alone("", STAGE_BACKWARD) * 2,
    },
}
FQNS = {
    "GPT",
    *(f"GPT.h.{block}{part}" for block in (0, 1) for part in ("", ".fc", ".act", ".out")),
    "GPT.head",
}
CLASSES = {"GPT", "Block", "Linear", "ReLU"}
WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel"}


@pytest.fixture(params=[(p, s) for p, scenarios in EXPECTED.items() for s in scenarios], ids=str)
def scenario(request: pytest.FixtureRequest) -> tuple[str, str, Runs]:
    """A program, one of its scenarios, and its runs."""
    program, name = request.param
    return program, name, runs_of(program)


def test_each_step_is_one_trace_with_the_right_tree_on_every_rank(
    scenario: tuple[str, str, Runs],
) -> None:
    program, name, runs = scenario
    traces = runs.steps_of(name)
    assert len(traces) == STEPS
    for trace in traces:
        assert [span.name for span in trace.parentless] == ["train.step"]
        assert trace.tops == trace.parentless
        assert [span.name for span in trace.ranks] == [f"rank {rank}" for rank in range(RANKS)]
        expected = EXPECTED[program][name] + "optimizer.step SGD\n"
        for rank in trace.ranks:
            outline = rank.outline(without="collective")
            assert outline == f"{rank.name}\n{indent(expected, '  ')}"


def test_names_are_those_of_the_model_without_wrappers(scenario: tuple[str, str, Runs]) -> None:
    _, name, runs = scenario
    if name == "pipeline":
        fqns = {"Stage", "Stage.block", *(f"Stage.block.{part}" for part in ("fc", "act", "out"))}
        classes = {"Stage", "Block", "Linear", "ReLU"}
    else:
        fqns, classes = FQNS, CLASSES
    for trace in runs.steps_of(name):
        modules = [span.attributes for span in trace.spans if "torch.module.fqn" in span.attributes]
        assert {module["torch.module.fqn"] for module in modules} - WRAPPERS == fqns
        assert {module["torch.module.class"] for module in modules} - WRAPPERS == classes


def test_losses_are_those_of_an_untraced_run(scenario: tuple[str, str, Runs]) -> None:
    program, name, runs = scenario
    assert runs.losses[name] == losses_untraced(program)[name]
