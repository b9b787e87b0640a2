"""The rule about blocks that are unlike their equals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median_low
from typing import NamedTuple

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.places import TimedPlace
from otel_torch_modules._diagnosis.rules.constants import LEAST_STEPS
from otel_torch_modules._diagnosis.rules.over_time import drift
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import usual
from otel_torch_modules._diagnosis.words import digits, ms

UNLIKE = 1.5  # times what is typical of its equals
LEAST_EQUALS = 3  # with it
LEAST_SHARE = 0.02  # of the usual step
_NAMED = 3


class _Unlike(NamedTuple):
    """Equal places in one phase, some of which take longer: at most half of them. Times are ms."""

    longer: Mapping[TimedPlace, float]
    others: Sequence[float]
    typical: float

    @property
    def names(self) -> set[str]:
        return {place.name for place in self.longer}

    @property
    def more(self) -> float:
        return sum(self.longer.values()) - self.typical * len(self.longer)

    def more_of(self, name: str) -> float:
        return sum(own - self.typical for place, own in self.longer.items() if place.name == name)


def unlike(run: Run) -> Iterator[Finding]:
    """Some of several equal blocks take longer. Threshold: `UNLIKE` times, and one of them `LEAST_SHARE` of a step."""
    if len(run.steady.usual_steps) < LEAST_STEPS:
        return
    for phases in _of_same_blocks(run):
        names = sorted(set[str]().union(*(found.names for found in phases)), key=_in_order)
        most = max(sum(found.more_of(name) for found in phases) for name in names)
        if most >= LEAST_SHARE * run.usual_whole_ms:
            worst = max(phases, key=lambda found: found.more)
            more = sum(found.more for found in phases)
            place, *several = sorted(worst.longer, key=lambda place: _in_order(place.name))
            yield Finding(
                "module",
                _sentence(worst),
                more,
                run.share_of_each(more),
                place=place.pattern if several else place.name,
                phase=place.phase,
            )


def _of_same_blocks(run: Run) -> Iterator[Sequence[_Unlike]]:
    """Yield the phases in which the same blocks, or some of them, take longer."""
    groups: defaultdict[TimedPlace, dict[TimedPlace, float]] = defaultdict(dict)
    drifted = {found.place for found in drift(run)}
    third = len(run.steady.usual_steps) // 3
    for place, column in run.steady.usual_steps.own.items():
        if place.name != place.pattern:
            # What is above the first third is told of as drift.
            times = column[:third] if drifted & {place.name, place.pattern} else column
            # The median, not the mean that the table has: a few steps in which one of them was slow are no sign.
            groups[place.starred][place] = usual(times)
    of_pattern: defaultdict[str, list[list[_Unlike]]] = defaultdict(list)
    for starred, equals in groups.items():
        typical = median_low(equals.values())
        longer = {place: own for place, own in equals.items() if own > UNLIKE * typical}
        if len(equals) < LEAST_EQUALS or not longer:
            continue
        found = _Unlike(
            longer, [own for place, own in equals.items() if place not in longer], typical
        )
        known = of_pattern[starred.name]
        same = [phases for phases in known if any(found.names & one.names for one in phases)]
        of_pattern[starred.name] = [phases for phases in known if phases not in same]
        of_pattern[starred.name].append([*(one for phases in same for one in phases), found])
    for known in of_pattern.values():
        yield from known


def _sentence(found: _Unlike) -> str:
    names = sorted(found.names, key=_in_order)
    phase = next(iter(found.longer)).phase
    others = (
        f"the {len(found.others)} others {digits(min(found.others))} to {digits(max(found.others))}"
    )
    if len(names) == 1:
        (own,) = found.longer.values()
        return f"{names[0]} is unlike its equals: {phase} takes {ms(own)}, {others}."
    which = ", ".join(names[:-1]) + f" and {names[-1]}"
    if len(names) > _NAMED:
        which = f"{', '.join(names[:_NAMED])} … ({len(names)} of {len(names) + len(found.others)})"
    times = f"{digits(min(found.longer.values()))} to {ms(max(found.longer.values()))}"
    return f"{which} are unlike their equals: {phase} takes {times}, {others}."


def _in_order(name: str) -> list[tuple[int, str]]:
    """Return by what the names of equal blocks are in the order of their numbers."""
    return [(len(part), part) for part in name.split(".")]
