"""The rule about what a rank waits for in collectives."""

from __future__ import annotations

from collections.abc import Iterator

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.rules.late_ranks import straggler
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import usual
from otel_torch_modules._diagnosis.words import ms, percent

COLLECTIVE_SHARE = 0.1  # of the usual step, beyond what late ranks cost


def collective(run: Run) -> Iterator[Finding]:
    """Collectives take long. Threshold: `COLLECTIVE_SHARE` of the usual step, the wait for late ranks left out."""
    places = run.usual_own_in(semconv.PHASE_COLLECTIVE)
    waited = [
        seconds * 1e3
        for seconds in run.steady.usual_steps.attribute(semconv.STEP_EXPOSED)
        if seconds is not None
    ]
    whole = usual(waited) if waited else sum(places.values())
    late = sum(finding.cost_ms for finding in straggler(run))
    time = whole - late
    if not places or time < COLLECTIVE_SHARE * run.usual_whole_ms:
        return
    most = max(places, key=lambda place: places[place])
    beyond = " beyond the wait for the rank that is late" if late else ""
    yield Finding(
        "collective",
        f"Collectives take {percent(time / run.usual_whole_ms)} of a step, {ms(time)}{beyond}, most of it in "
        f"{most.name}: the exchange, or a wait for other ranks.",
        time,
        run.share_of_each(time),
        place=most.name,
        phase=semconv.PHASE_COLLECTIVE,
    )
