"""Why a step was slow, where the trace itself says it: however few such steps there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.rules import causes, constants, tracing
from otel_torch_modules._diagnosis.rules.excess import Excess, names_its_cause
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import MS, usual
from otel_torch_modules._diagnosis.words import ms

SWITCHES = 3.0  # times the usual number of involuntary ones: the thread was put aside
LONGEST = 200.0  # ms that other work has a processor for at once: who waits for longer is not put aside, but waits
EVEN = 2.0  # times its usual share of a step: so much of what a step lost lies in a place that is none of its own

_RULES: Mapping[str, Callable[[Run], Iterator[Finding]]] = {
    "compile": causes.compilation,
    "gc": causes.garbage,
    "checkpoint": causes.checkpoint,
    "data": constants.data,
    "memory": causes.memory,
    "tracing": tracing.export,
}
_WORDS = {
    "memory": "while the device's memory was exhausted",
    "tracing": "while earlier steps were assembled and exported",
    "host": "while the thread that trains was put aside by other work on the host",
}


@lru_cache(maxsize=4_096)
def cause(run: Run, excess: Excess) -> str | None:
    """Return the name of the rule about what made that step slow; None if the trace does not say it."""
    if excess.place is not None and names_its_cause(excess):
        return excess.place.phase
    if excess.rank is not None:  # what this rank's step says is not why another one's was slow
        return None
    if causes.alloc_retries(run)[excess.at] > 0:
        return "memory"
    if tracing.is_by_export(run, excess.at, excess.ms):
        return "tracing"
    return "host" if _put_aside(run, excess) else None


def because(run: Run, excess: Excess) -> str:
    """Return the cause in words that end a sentence, with the comma before them; nothing if the place names it."""
    words = _WORDS.get(cause(run, excess) or "")
    return f", {words}" if words else ""


def in_short(run: Run, excess: Excess) -> str:
    """Return what a step lost where most of it was lost, and why, as it stands beside the step."""
    if excess.place is None:
        return f"+{ms(excess.ms)} in many places{because(run, excess)}"
    on_rank = "" if excess.rank is None else f" on rank {excess.rank}"
    return f"+{ms(excess.ms_there)} {excess.place.said}{on_rank}{because(run, excess)}"


def has_own_rule(run: Run, excess: Excess) -> bool:
    """Return whether another rule tells of what made that step slow. Of what costs too little for it, none does."""
    why = cause(run, excess)
    if why == "data" and not constants.waits_as_usual(run, excess.at):
        return False
    return why in _RULES and _finds(run, why)


@lru_cache(maxsize=64)
def _finds(run: Run, rule: str) -> bool:
    return any(_RULES[rule](run))


def _put_aside(run: Run, excess: Excess) -> bool:
    switches, waits = _measures(run)
    waited = waits[excess.at] - usual(waits)
    return (
        switches[excess.at] > max(SWITCHES * usual(switches), 1.0)
        # While the thread ran it was not put aside, whatever it did.
        and excess.ms / 2 < waited <= LONGEST * switches[excess.at]
        and _is_slower_all_over(run, excess)
    )


def _is_slower_all_over(run: Run, excess: Excess) -> bool:
    """Other work does not choose its place: where most was lost, most of the time is spent anyway.

    In a collective a thread waits for other ranks.
    """
    place = excess.place
    if place is None:
        return True
    is_usual = excess.share < EVEN * excess.usual / max(run.usual_ms, 1e-9)
    return is_usual and place.phase != semconv.PHASE_COLLECTIVE


@lru_cache(maxsize=8)
def _measures(run: Run) -> tuple[Sequence[float], Sequence[float]]:
    """Return how often the thread of each steady step was put aside, and for how many ms it did not run."""
    series = run.steady
    switches = [value or 0.0 for value in series.attribute(semconv.STEP_SWITCHES)]
    cpu_times = [value or 0.0 for value in series.attribute(semconv.STEP_CPU_TIME)]
    walls = [step.duration / MS for step in series.steps]  # of the program, whoever tells of steps
    return switches, [wall - time * 1e3 for wall, time in zip(walls, cpu_times, strict=True)]
