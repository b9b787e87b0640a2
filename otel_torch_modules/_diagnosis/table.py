"""The usual step as a table: own time by place, numbers of repeated blocks starred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import digits


class ModuleRow(NamedTuple):
    """A module, or what stands in its place, with its own time of the usual step in ms."""

    name: str
    module_class: str | None
    phases: Mapping[str, float]
    calls: float  # of the usual step, in the phase that has most of them

    @property
    def ms(self) -> float:
        """Of all phases."""
        return sum(self.phases.values())

    @property
    def each(self) -> str:
        """How long one call takes, and how many a step has; empty where it is one."""
        calls = round(self.calls, 1)
        return f"{digits(self.ms / self.calls)} × {calls:g}" if calls > 1 else ""


def own_times(run: Run) -> list[ModuleRow]:
    """Return a row for each place, those with most own time first."""
    phases: defaultdict[tuple[str, str | None], dict[str, float]] = defaultdict(dict)
    calls: defaultdict[tuple[str, str | None], dict[str, float]] = defaultdict(dict)
    usual_calls = run.steady.usual_steps.middling.calls
    for place, own in run.usual_own.items():
        key = (place.pattern, place.module_class)
        phases[key][place.phase] = phases[key].get(place.phase, 0.0) + own
        calls[key][place.phase] = calls[key].get(place.phase, 0) + usual_calls.get(place, 0.0)
    rows = [
        ModuleRow(name, module_class, own, max(calls[name, module_class].values()))
        for (name, module_class), own in phases.items()
    ]
    return sorted(rows, key=lambda row: -row.ms)
