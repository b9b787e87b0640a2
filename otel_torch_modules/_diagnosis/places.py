"""Where a span's own time belongs: a phase and a module, or what stands in the module's place.

Numbers of repeated blocks are starred: `GPT.h.3.mlp` is a place of its own, and one of the equals of `GPT.h.*.mlp`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._shape import Shape, Site

BETWEEN = semconv.PHASE_BETWEEN  # the phase of what lies in no span of any other
_AROUND = (semconv.PHASE_STEP, semconv.PHASE_RANK, semconv.PHASE_BETWEEN)


class TimedPlace(NamedTuple):
    """Where own time is counted."""

    phase: str
    name: str  # full name of the module, or name of the span
    pattern: str  # the same, numbers of repeated blocks starred
    module_class: str | None  # None where it is no module

    @property
    def said(self) -> str:
        """How it stands in a sentence."""
        return f"{self.phase} {self.name}" if self.module_class else self.name

    @property
    def whereabouts(self) -> str:
        """The same, behind what was lost there."""
        return self.said if self in (BETWEEN_SPANS, BEFORE_STEP) else f"in {self.said}"

    @property
    def starred(self) -> TimedPlace:
        """What it has in common with its equals."""
        return self._replace(name=self.pattern)


_ALL = 0.9  # of what equal places took more: one that has so much did it all


def guilty(more: Mapping[TimedPlace, float]) -> TimedPlace:
    """Return the one of some equal places that did it all, by what each took more, or what they have in common."""
    place = max(more, key=lambda place: more[place])
    return place if more[place] >= _ALL * sum(map(abs, more.values())) else place.starred


BETWEEN_SPANS = TimedPlace(BETWEEN, "between the spans", "between the spans", None)
"""The place of what lies in no span, be it of the program's own."""

BEFORE_STEP = TimedPlace(BETWEEN, "before the step", "before the step", None)
"""The place of what a rank lost that began a step later than the others. No step has own time there."""


class Places:
    """The places of a run. A number is a repeated block's if a module of the same class has another number there."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._numbers: dict[tuple[str, str | None], set[str]] = defaultdict(set)
        self._classes: dict[str, str | None] = {}
        self._patterns: dict[str, str] = {}
        for site in sites:
            if site.fqn is not None:
                self._classes[site.fqn] = site.module_class
        for fqn in list(self._classes):
            above, _, _ = fqn.rpartition(".")
            while above and above not in self._classes:
                self._classes[above] = None  # a block that is not recorded itself
                above, _, _ = above.rpartition(".")
        for fqn, module_class in self._classes.items():
            above, _, last = fqn.rpartition(".")
            if last.isdecimal():
                self._numbers[above, module_class].add(last)

    def pattern(self, fqn: str) -> str:
        """Return the full name of a module with the numbers of repeated blocks starred."""
        found = self._patterns.get(fqn)
        if found is None:
            name, parts = "", list[str]()
            for last in fqn.split("."):  # as many as there are of it, be some of them empty
                above, name = name, f"{name}.{last}" if parts else last
                equals = self._numbers.get((above, self._classes.get(name)), ())
                parts.append("*" if len(equals) > 1 and last.isdecimal() else last)
            found = self._patterns[fqn] = ".".join(parts)
        return found

    def of_shape(self, shape: Shape, first: int) -> Sequence[TimedPlace]:
        """Return the places of the spans from the one numbered `first` to the last below it."""
        places: list[TimedPlace] = []
        phases: list[str] = []
        for at in range(first, shape.after[first]):
            site = shape.sites[at]
            around = phases[shape.parents[at] - first] if at > first else BETWEEN
            # A span of the program's has the phase of what it lies in.
            phase = around if site.phase is None else site.phase
            if phase in _AROUND:
                phase = BETWEEN
            phases.append(phase)
            places.append(self._place(site, phase, is_step=site.phase in _AROUND))
        return places

    def _place(self, site: Site, phase: str, *, is_step: bool) -> TimedPlace:
        if site.fqn is not None:
            return TimedPlace(
                phase, site.fqn, self.pattern(site.fqn), site.module_class or "module"
            )
        name = _NAMES.get(site.name, site.name)
        return BETWEEN_SPANS if is_step else TimedPlace(phase, name, name, None)


_NAMES = {semconv.BACKWARD_PASS: "backward, outside modules"}
