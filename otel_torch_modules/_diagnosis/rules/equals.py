"""The rule about a block that is unlike its equals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.places import TimedPlace
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import usual
from otel_torch_modules._diagnosis.words import digits, ms

UNLIKE = 1.5  # times the median of its equals
LEAST_EQUALS = 3  # with it
LEAST_SHARE = 0.02  # of the usual step


def unlike(run: Run) -> Iterator[Finding]:
    """One of several equal blocks takes longer. Threshold: `UNLIKE` times, and `LEAST_SHARE` of the usual step."""
    groups: defaultdict[TimedPlace, dict[TimedPlace, float]] = defaultdict(dict)
    for place, column in run.steady.usual_steps.own.items():
        if place.name != place.pattern:
            # The median, not the mean that the table has: a few steps in which one of them was slow are no sign.
            groups[place.starred][place] = usual(column)
    found: defaultdict[str, list[tuple[float, TimedPlace, dict[TimedPlace, float]]]] = defaultdict(
        list
    )
    for equals in groups.values():
        place = max(equals, key=lambda place: equals[place])
        typical = median(equals.values())
        more = equals[place] - typical
        if len(equals) >= LEAST_EQUALS and equals[place] > UNLIKE * typical and more > 0:
            found[place.name].append((more, place, equals))
    for name, losses in found.items():
        more = sum(lost for lost, _, _ in losses)
        if more >= LEAST_SHARE * run.usual_whole_ms:
            _, place, equals = max(losses, key=lambda entry: entry[0])
            others = [own for other, own in equals.items() if other != place]
            yield Finding(
                "module",
                f"{name} is unlike its equals: {place.phase} takes {ms(equals[place])}, the "
                f"{len(others)} others {digits(min(others))} to {digits(max(others))}.",
                more,
                run.share_of_each(more),
                place=name,
                phase=place.phase,
            )
