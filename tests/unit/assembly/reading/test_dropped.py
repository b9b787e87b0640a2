"""A step says how many records were dropped before it, on its own span and on that of its rank."""

from __future__ import annotations

import pytest

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._records import Record, SharedStep
from otel_torch_modules.config import Config

STEP = {"torch.phase": "step", "torch.step": 7, "torch.step.micro_batches": 1}


@pytest.mark.parametrize(
    ("dropped", "said"), [(0, {}), (1, {"torch.step.dropped": 1}), (9, {"torch.step.dropped": 9})]
)
def test_of_one_process_and_of_a_rank(dropped: int, said: dict[str, int]) -> None:
    def record(shared: SharedStep | None) -> Record:
        return Record("step", 7, 0, 0, 10, shared=shared, micro_batches=1, dropped_before=dropped)

    assembler = Assembler(Config())
    alone = assembler.assemble(record(None))
    assert (alone.all_attributes, list(alone.children)) == ({**STEP, **said}, [])
    of_job = assembler.assemble(record(SharedStep(1, rank=3, sent_here=False)))
    rank = {**STEP, **said, "torch.phase": "rank", "torch.distributed.rank": 3}
    assert of_job.all_attributes == {**STEP, **said}
    assert [child.all_attributes for child in of_job.children] == [rank]
