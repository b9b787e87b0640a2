"""What a rule says of a run."""

from __future__ import annotations

from typing import Any, NamedTuple


class Finding(NamedTuple):
    """A sentence, what it costs and where."""

    rule: str
    sentence: str
    cost_ms: float = 0.0  # per step of the run
    cost_share: float = 0.0  # of the run's time
    steps: tuple[int, ...] = ()  # numbers of those that it is about; empty: all
    rank: int | None = None
    place: str | None = None
    phase: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            **self._asdict(),
            "cost_ms": round(self.cost_ms, 4),
            "cost_share": round(self.cost_share, 5),
            "steps": list(self.steps),
        }
