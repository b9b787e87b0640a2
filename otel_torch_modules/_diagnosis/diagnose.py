"""All rules on one run, worst first, and the sentence above them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.device_times import ToldBy
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.places import BETWEEN
from otel_torch_modules._diagnosis.rules import (
    causes,
    collectives,
    constants,
    equals,
    failed,
    host,
    late_ranks,
    missing,
    over_time,
    pauses,
    periods,
    slow_steps,
    tracing,
)
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import percent

# By the name that a finding has of them; docs/why.md says what each means.
RULES: dict[str, tuple[Callable[[Run], Iterator[Finding]], ...]] = {
    "data": (constants.data,),
    "straggler": (late_ranks.straggler,),
    "slow-step": (slow_steps.slow_step,),
    "module": (constants.module, equals.unlike),
    "period": (periods.period,),
    "drift": (over_time.drift,),
    "warm-up": (over_time.warm_up,),
    "optimizer": (constants.optimizer,),
    "recompute": (constants.recompute,),
    "collective": (collectives.collective,),
    "loop": (constants.loop, pauses.program),
    "between": (pauses.between, pauses.pauses),
    "evaluation": (pauses.evaluation,),
    "compile": (causes.compilation,),
    "gc": (causes.garbage,),
    "checkpoint": (causes.checkpoint,),
    "host": (host.host,),
    "memory": (causes.memory,),
    "tracing": (tracing.tracing, tracing.export),
    "failed": (failed.failed,),
    "missing": (missing.missing,),
}
BALANCED = "balanced"
NAMES = (*RULES, BALANCED)
NOTABLE = 0.02  # of the run's time: what costs less is told, but changes no verdict
_LEAST_STEPS = 3
_OF_ANY = ("failed", "missing")  # of fewer steps too


class Diagnosis(NamedTuple):
    """What is to be said of a run."""

    verdict: str
    findings: list[Finding]


def diagnose(run: Run) -> Diagnosis:
    """Apply all rules. Of a run without a whole step nothing is said but what is missing."""
    if not run:
        return Diagnosis("No step is whole.", list(missing.missing(run)))
    enough = len(run.main) >= _LEAST_STEPS
    found = [
        finding
        for name, rules in RULES.items()
        if enough or name in _OF_ANY
        for rule in rules
        for finding in rule(run)
    ]
    late = {
        one.phase: one for one in found if one.rule == "straggler" and one.rank == run.main.rank
    }
    found = [one for one in found if not _is_told(one, late.get(one.rule))]
    found.sort(key=lambda finding: -finding.cost_share)
    if not any(finding.cost_share >= NOTABLE for finding in found):
        found.append(
            Finding(BALANCED, "Nothing stands out: no rule found what costs 2 % of the time.")
        )
    return Diagnosis(_verdict(run), found)


def _is_told(cause: Finding, late: Finding | None) -> bool:
    """Return whether a rank that is `late` by that cause is told of already, and by no less time."""
    return late is not None and cause.cost_share <= late.cost_share


def _verdict(run: Run) -> str:
    """Return where the usual step's time goes, in two sentences at most."""
    phases, whole = run.usual_phases, run.usual_whole_ms
    leading = max(phases, key=lambda phase: phases[phase])
    share = phases[leading] / whole
    what = _SAID.get(leading, f"{leading.capitalize()} takes")
    whose = ", by the time of the device" if run.main.told_by else ""
    first = f"{what} {percent(share)} of a step{whose}."
    parts = _block_parts(run) if run.main.told_by is not ToldBy.DEVICE else []
    if not parts:
        return first
    name, blocks, time = parts[0]
    said = f"{_of_blocks(name, blocks)} cost {percent(time / whole)}"
    others = [part for part in parts[1:3] if part[2] >= 0.15 * whole]
    said += "".join(f", {other.rpartition('.')[2]} {percent(t / whole)}" for other, _, t in others)
    data = phases.get(semconv.PHASE_DATA, 0.0) / whole
    waits = "; nothing waits for data" if data < 0.01 else ""
    return f"{first} {said}{waits}."


_SAID = {
    semconv.PHASE_DATA: "Waiting for data takes",
    semconv.PHASE_OPTIMIZER: "The optimizer takes",
    BETWEEN: "What lies between the phases takes",
}


def _of_blocks(name: str, blocks: int) -> str:
    part = name.rpartition(".")[2]
    return f"The {blocks} blocks' {part}" if part != "*" else f"The {blocks} blocks of {name}"


def _block_parts(run: Run) -> list[tuple[str, int, float]]:
    """Return the parts of the outermost repeated blocks: pattern, number of blocks, time with all below; most first."""
    times: defaultdict[str, float] = defaultdict(float)
    blocks: defaultdict[str, set[str]] = defaultdict(set)
    for place, own in run.usual_own.items():
        if place.name != place.pattern:
            names, stars = place.name.split("."), place.pattern.split(".")
            part = ".".join(stars[: stars.index("*") + 2])
            times[part] += own
            blocks[part].add(".".join(names[: stars.index("*") + 1]))
    parts = [(part, len(blocks[part]), time) for part, time in times.items()]
    return sorted(parts, key=lambda part: -part[2])
