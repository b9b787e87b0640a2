"""Collectives of every way of spreading a model, on four real ranks: names, bytes counted by hand, places, ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.distributed.parallel_runs import RANKS, STEPS, Runs, runs_of
from tests.distributed.traces import Span, Trace

pytestmark = pytest.mark.slow

NEAR = 3_000_000  # ns: each rank reads the world's clock for itself

# A linear layer has 8 * 8 weights and 8 biases of 4 bytes, a block two of them, the model two blocks and a head.
LINEAR = (8 * 8 + 8) * 4
BLOCK = 2 * LINEAR
MODEL = 2 * BLOCK + LINEAR
PARAMETERS = 10
ACTIVATION = 2 * 8 * 4  # of a batch of two
# Of two ranks each has half the rows of `fc` and half the columns of `out`, whose bias both have.
HALF_BLOCK = (4 * 8 + 4 + 8 * 4 + 8) * 4


class Collective(NamedTuple):
    """One of a step: what it is below of, its name, its bytes on this rank, the ranks of its group."""

    above: str
    name: str
    size: int
    ranks: int = RANKS


def sharded(root: str, shard_of: int, block: int) -> list[Collective]:
    """Return those of a step in which parameters are gathered where they are used, those of blocks once more."""
    shards = {f"forward {root}": LINEAR, "forward h.0": block, "forward h.1": block}
    return [
        *(
            Collective(above, "all_gather", size // shard_of, shard_of)
            for above, size in shards.items()
        ),
        *[Collective("backward", "all_gather", block // shard_of, shard_of)] * 2,
        *(Collective("backward", "reduce_scatter", size, shard_of) for size in shards.values()),
    ]


def parallel(ranks: int) -> list[Collective]:
    """Return those of a step whose blocks are split: sums of activations, and of the gradient of the second's input."""
    return [
        Collective("forward h.0", "all_reduce", ACTIVATION, ranks),
        Collective("forward h.1", "all_reduce", ACTIVATION, ranks),
        Collective("backward", "all_reduce", ACTIVATION, ranks),
    ]


GRADIENTS = Collective("backward", "all_reduce", MODEL)
# After the first step DDP tells which parameter is in which bucket and how many there are of these, and the sizes.
BUCKETS = [
    Collective("forward DistributedDataParallel", "broadcast", (PARAMETERS + 1) * 4),
    Collective("forward DistributedDataParallel", "broadcast", 4),
]
USED = Collective("backward", "all_reduce", PARAMETERS * 4)  # which parameters were, on some rank

# Of the first step and of the second, the same on all ranks.
EXPECTED = {
    "data_parallel.py": {
        "ddp": ([GRADIENTS], [*BUCKETS, GRADIENTS]),
        "ddp_accumulating": ([GRADIENTS], [*BUCKETS, GRADIENTS]),
        "ddp_static_graph": ([USED, GRADIENTS], [GRADIENTS]),
        "fsdp1": (sharded("FullyShardedDataParallel", RANKS, BLOCK),) * STEPS,
        "fsdp2": (sharded("GPT", RANKS, BLOCK),) * STEPS,
        "fsdp2_checkpointed": (sharded("GPT", RANKS, BLOCK),) * STEPS,
    },
    "model_parallel.py": {
        "tensor_parallel": (parallel(RANKS),) * STEPS,
        "tensor_parallel_in_fsdp2": ([*sharded("GPT", 2, HALF_BLOCK), *parallel(2)],) * STEPS,
    },
}


@pytest.fixture(params=[(p, s) for p, scenarios in EXPECTED.items() for s in scenarios], ids=str)
def scenario(request: pytest.FixtureRequest) -> tuple[str, str, Runs]:
    """A program, one of its scenarios, and its runs."""
    program, name = request.param
    return program, name, runs_of(program)


def collectives(span: Span, above: str) -> Iterator[tuple[Collective, Span]]:
    """Yield the collectives below `span`, which is said to be `above`: so is a layer whose output is on its way."""
    for child in span.children:
        told = child.attributes
        if told["torch.phase"] == "collective":
            assert child.children == []
            assert span.start <= child.start <= child.end <= span.end
            size, ranks = told["torch.collective.bytes"], told["torch.collective.group.size"]
            yield Collective(above, child.name, size, ranks), child
        else:
            yield from collectives(child, above if child.name == "forward out" else child.name)


def of_rank(trace: Trace, rank: int) -> list[tuple[Collective, Span]]:
    """Return those of a rank in the phases of a step, in the order in which they began.

    What the program does to make the model of the next scenario may be in that one's first step, or in the last before.
    """
    found = [
        one for one in collectives(trace.ranks[rank], "the step") if one[0].above != "the step"
    ]
    return sorted(found, key=lambda one: one[1].start)


def test_all_are_there_with_their_bytes_and_where_they_belong(
    scenario: tuple[str, str, Runs],
) -> None:
    program, name, runs = scenario
    for trace, expected in zip(runs.steps_of(name), EXPECTED[program][name], strict=True):
        for rank in range(RANKS):
            assert sorted(one for one, _ in of_rank(trace, rank)) == sorted(expected)


def test_none_ends_before_the_last_rank_has_come(scenario: tuple[str, str, Runs]) -> None:
    _, name, runs = scenario
    for trace in runs.steps_of(name):
        for same in zip(*(of_rank(trace, rank) for rank in range(RANKS)), strict=True):
            (collective,) = {one for one, _ in same}
            spans = [span for _, span in same]
            known = {span.attributes["torch.collective.completed"] for span in spans}
            assert known == {collective.name != "reduce_scatter"}  # of which gloo does not say it
            if collective.ranks == RANKS and collective.name in ("all_reduce", "all_gather"):
                last_came = max(span.start for span in spans)
                assert min(span.end for span in spans) > last_came - NEAR


def test_what_stages_of_a_pipeline_send_and_receive() -> None:
    """Two micro-batches of two go forward, and their gradients back."""
    *_, trace = runs_of("model_parallel.py").steps_of("pipeline")
    for rank in range(RANKS):
        of_stages = [
            (one, span)
            for one, span in collectives(trace.ranks[rank], "the step")
            if one.name in ("send", "recv") and one.size == ACTIVATION
        ]
        found = [one for one, _ in of_stages]
        # Of these gloo does not say when they are done.
        known = {span.attributes["torch.collective.completed"] for _, span in of_stages}
        assert known == {False}
        forward_in, forward_out = 2 * (rank > 0), 2 * (rank < RANKS - 1)
        sent, received = (forward_out + forward_in,) * 2
        expected = [Collective("the step", "send", ACTIVATION)] * sent
        expected += [Collective("the step", "recv", ACTIVATION)] * received
        assert sorted(found) == sorted(expected)
