"""Says whether this torch has been tried."""

from __future__ import annotations

from typing import Final

import torch

_NEWEST_CHECKED: Final = (2, 14)


def is_unchecked() -> bool:
    """Return whether this torch is newer than all that this was checked on; then it may still do."""
    return (*map(int, torch.__version__.split(".")[:2]),) > _NEWEST_CHECKED
