"""Ranks decide alone which steps they send with their modules: one that is slow on one is there in full on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_torch_modules.cli.main import main
from tests.distributed.launch import command, run
from tests.distributed.traces import Span, read

pytestmark = pytest.mark.slow

STEPS, SLOW = 18, (14, 0)  # the number of the slow step, and its rank
WHOLE = """  forward DistributedDataParallel
    forward GPT
      forward h.0
        forward fc
        forward act
        forward out
      forward h.1
        forward fc
        forward act
        forward out
      forward head
  backward
    backward DistributedDataParallel
      backward GPT
        backward head
        backward h.1
          backward out
          backward act
          backward fc
        backward h.0
          backward out
          backward act
          backward fc
  optimizer.step SGD
"""
PHASES = """  forward DistributedDataParallel
  backward
    backward DistributedDataParallel
  optimizer.step SGD
"""


def below(rank: Span) -> str:
    return rank.outline().partition("\n")[2]


def test_a_step_that_is_slow_on_one_rank_is_there_in_full_on_that_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "traces.jsonl"
    line = command("slow_step.py", str(STEPS), str(SLOW[0] + 1), "1.0")
    run(line, file, OTEL_TORCH_MODULES_KEEP="slow=1.3,first=2,every=16")
    traces = {trace.step: trace for trace in read(file)}
    assert set(traces) == set(range(STEPS))
    reasons: dict[int, list[object]] = {}
    for step, trace in traces.items():
        assert trace.tops == trace.parentless
        assert [span.name for span in trace.ranks] == [f"rank {rank}" for rank in range(4)]
        reasons[step] = [rank.attributes.get("torch.step.kept") for rank in trace.ranks]
        for span, reason in zip(trace.ranks, reasons[step], strict=True):
            assert below(span) == (PHASES if reason is None else WHOLE)
            assert ("torch.step.slowdown" in span.attributes) == (reason == "slow")
    assert reasons[0] == reasons[1] == ["first"] * 4
    assert all(reason in ("slow", "every") for reason in reasons[16])
    step, rank = SLOW
    assert reasons[step][rank] == "slow"
    slow = traces[step].ranks[rank]
    assert slow.attributes["torch.step.slowdown"] > 1.3
    block = slow.find("forward h.1")
    assert block.end - block.start > 1e9
    assert main(["why", str(file), "--step", str(step)]) == 0
    said = capsys.readouterr().out
    assert "forward GPT.h.1" in " ".join(said.partition("\n\n")[0].split())
