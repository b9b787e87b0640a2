"""What waits until torch is imported: an instrumentor that was there before it."""

from __future__ import annotations

from collections.abc import Callable

start: Callable[[], None] | None = None
"""Called at the end of ``import torch``; None where nobody waits."""
