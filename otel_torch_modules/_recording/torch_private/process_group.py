"""What ``torch.distributed`` knows of this process, asked without waiting for anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import distributed

process_groups: Final[Mapping[Any, Any]] = (
    distributed.distributed_c10d._world.pg_map if distributed.is_available() else {}
)
"""The process groups that there are: always the same dictionary, asked at each step."""


def rank_and_world_size() -> tuple[int, int] | None:
    """Return the rank in the default process group and its size; None while there is none."""
    if not process_groups or distributed.GroupMember.WORLD is None:
        return None
    return distributed.get_rank(), distributed.get_world_size()
