"""What is taken of torch for `process_group.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

from pathlib import Path

from torch import distributed

from otel_torch_modules._recording.torch_private.process_group import (
    process_groups,
    rank_and_world_size,
)


def test_process_groups_and_rank_and_world_size(tmp_path: Path) -> None:
    for number in range(2):  # one that is made anew too
        assert not process_groups
        assert rank_and_world_size() is None
        distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path}/{number}", rank=0, world_size=1
        )
        assert process_groups
        assert rank_and_world_size() == (0, 1)
        distributed.destroy_process_group()
    assert not process_groups
