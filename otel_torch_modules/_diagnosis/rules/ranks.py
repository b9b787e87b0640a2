"""The rule about a rank that the others wait for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from statistics import median

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.straggler import Straggler, find_straggler
from otel_torch_modules._diagnosis.words import ms, percent
from otel_torch_modules._trace import Span

BEHIND = 0.05  # of the usual step: less is nobody's fault
ALWAYS = 0.6  # of the steps
COST = 0.02  # of the run's time
_LOOKED_AT = 60  # steps, evenly spaced: each needs its ranks' trees


def straggler(run: Run) -> Iterator[Finding]:
    """One rank is last, always or now and then. Threshold: by `BEHIND` of a step, at a `COST` of the time."""
    late: defaultdict[int, list[tuple[int, Straggler]]] = defaultdict(list)
    looked_at = stragglers(run)
    times = dict(zip(run.steady.numbers, run.steady.ms, strict=True))
    mean_ms = sum(times[number] for number, _ in looked_at) / max(len(looked_at), 1)
    for number, last in looked_at:
        if last.behind / 1e6 >= BEHIND * run.usual_ms:
            late[last.rank].append((number, last))
    for rank, found in late.items():
        cost = sum(last.behind for _, last in found) / 1e6 / len(looked_at)
        share = cost / mean_ms
        if share < COST or len(found) < 2:
            continue
        lost: Counter[str] = Counter()  # by place
        for _, last in found:
            lost[last.place] += last.lost
        place, _ = lost.most_common(1)[0]
        of_place = next(last for _, last in found if last.place == place)
        often = (
            "is last in nearly every step"
            if len(found) >= ALWAYS * len(looked_at)
            else f"is last now and then, in {len(found)} of {len(looked_at)} steps"
        )
        behind = median(last.behind for _, last in found) / 1e6
        yield Finding(
            "straggler",
            f"Rank {rank} {often}, by {ms(behind)}; it loses them {of_place.whereabouts}. All ranks wait "
            f"for it: {percent(share)} of the time.",
            cost,
            share,
            tuple(number for number, _ in found),
            rank,
            place,
            of_place.phase,
        )


@lru_cache(maxsize=8)
def stragglers(run: Run) -> Sequence[tuple[int, Straggler]]:
    """Return the last rank of some of the steps, evenly spaced, warm-up left out, with the steps' numbers."""
    steady = set(run.steady.numbers)
    shared = [(number, spans) for (_, number), spans in _shared(run).items() if number in steady]
    stride = max(-(-len(shared) // _LOOKED_AT), 1)
    return [(number, find_straggler(spans)) for number, spans in shared[::stride]]


def last_of(run: Run, step: Span, number: int) -> Straggler | None:
    """Return the last rank of the step with this number that the span of a rank is of; None where no other has it."""
    spans = _shared(run).get((step.trace_id, number))
    return None if spans is None else find_straggler(spans)


@lru_cache(maxsize=8)
def _shared(run: Run) -> Mapping[tuple[str, int], Sequence[Span]]:
    """Return the spans of the ranks of each step that several have, by trace and number."""
    of_step: dict[tuple[str, int], list[Span]] = {}
    if len(run.ranks) > 1:
        for series in run.ranks:
            for number, span in zip(series.numbers, series.steps, strict=True):
                of_step.setdefault((span.trace_id, number), []).append(span)
    return {key: spans for key, spans in of_step.items() if len(spans) > 1}
