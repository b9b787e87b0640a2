"""What ``torch.distributed`` knows of this process, asked without waiting for anything."""

from __future__ import annotations

from torch import distributed

_IS_AVAILABLE = distributed.is_available()  # built into this torch


def rank_and_world_size() -> tuple[int, int] | None:
    """Return the rank in the default process group and its size; None while there is none."""
    if not _IS_AVAILABLE or distributed.GroupMember.WORLD is None:
        return None
    return distributed.get_rank(), distributed.get_world_size()
