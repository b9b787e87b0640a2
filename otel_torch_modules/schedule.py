"""Which steps are recorded, by their number."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields

from otel_torch_modules._allowed import is_whole, refuse, shown


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which steps are recorded, in the words and with the meaning of `torch.profiler.schedule`.

    Args:
        skip_first: steps left out once, at the start.
        wait: steps left out at the start of each cycle.
        active: steps recorded at the end of each cycle.
        repeat: number of cycles; 0 for no end.

    Example:
        >>> [step for step in range(10) if Schedule(skip_first=1, wait=2, active=1).records(step)]
        [3, 6, 9]
    """

    skip_first: int = 0
    wait: int = 0
    active: int = 1
    repeat: int = 0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            least = 1 if entry.name == "active" else 0
            if not is_whole(value, least):
                refuse(
                    "schedule", f"{entry.name}={shown(value)}", f"an integer of at least {least}"
                )

    def records(self, step: int) -> bool:
        """Return whether the step with this index, counted from 0, is recorded.

        Those that a program numbers from below 0 on are at the start, which `skip_first` leaves out; without it they
        are in cycles as the others are.
        """
        started = step >= self.skip_first or not self.skip_first
        cycle, place = divmod(step - self.skip_first, self.wait + self.active)
        return started and place >= self.wait and (self.repeat == 0 or cycle < self.repeat)

    def recorded_before(self, step: int) -> int:
        """Return how many steps are recorded before the one with this index, which is recorded too.

        From 0 on: less than 0 for one with an index below it, of which it is not known where they begin.
        """
        cycle, place = divmod(step - self.skip_first, self.wait + self.active)
        return cycle * self.active + place - self.wait

    @property
    def share(self) -> float:
        """The share of steps that are recorded, in the long run and without `repeat`."""
        return max(self.active / (self.wait + self.active), sys.float_info.min)
