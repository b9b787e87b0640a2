"""The usual step as a table: own time by place, numbers of repeated blocks starred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from otel_torch_modules._diagnosis.run import Run


class ModuleRow(NamedTuple):
    """A module, or what stands in its place, with its own time of the usual step in ms."""

    name: str
    module_class: str | None
    phases: Mapping[str, float]
    calls: int  # in the phase that has most of them

    @property
    def ms(self) -> float:
        """Of all phases."""
        return sum(self.phases.values())


def own_times(run: Run) -> list[ModuleRow]:
    """Return a row for each place, those with most own time first."""
    phases: defaultdict[tuple[str, str | None], dict[str, float]] = defaultdict(dict)
    calls: defaultdict[tuple[str, str | None], dict[str, int]] = defaultdict(dict)
    for place, own in run.usual_own.items():
        key = (place.pattern, place.module_class)
        phases[key][place.phase] = phases[key].get(place.phase, 0.0) + own
        calls[key][place.phase] = calls[key].get(place.phase, 0) + run.main.calls[place]
    rows = [
        ModuleRow(name, module_class, own, max(calls[name, module_class].values()))
        for (name, module_class), own in phases.items()
    ]
    return sorted(rows, key=lambda row: -row.ms)
