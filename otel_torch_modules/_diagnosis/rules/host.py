"""The rule about the host: other work has its processors, or the device waits for it."""

from __future__ import annotations

from collections.abc import Iterator

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.rules.excess import SLOW, excesses
from otel_torch_modules._diagnosis.rules.explained import cause
from otel_torch_modules._diagnosis.rules.periods import is_periodic
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import usual
from otel_torch_modules._diagnosis.words import ms, percent
from otel_torch_modules._grammar import first_of

STARVED_SHARE = 0.02  # of the run's time, in slow steps whose thread was put aside
HOST_LAG = 0.05  # of the usual step: the device is no further behind where backward ends


def host(run: Run) -> Iterator[Finding]:
    """The host is the bottleneck: its thread was put aside, or the device waits for it.

    Thresholds: slow steps with `SWITCHES` times the usual involuntary switches cost `STARVED_SHARE`; the device is less
    than `HOST_LAG` of a step behind.
    """
    yield from put_aside(run)
    lags = [lag * 1e3 for lag in run.steady.attribute(semconv.DEVICE_LAG) if lag is not None]
    if lags and usual(lags) < HOST_LAG * run.usual_ms:
        yield Finding(
            "host",
            f"The device waits for the host: it is {ms(usual(lags))} behind where the usual step's backward ends.",
        )


def put_aside(run: Run) -> Iterator[Finding]:
    """Slow steps whose thread was put aside."""
    starved = [
        excess
        for excess in excesses(run, SLOW)
        if cause(run, excess) == "host" and not is_periodic(run, excess)
    ]
    cost, share = run.cost(sum(excess.ms for excess in starved))
    if share >= STARVED_SHARE:
        steps = tuple(run.steady.numbers[excess.at] for excess in starved)
        which = (
            f"{len(steps)} slow steps ({first_of(steps)})" if len(steps) > 1 else f"step {steps[0]}"
        )
        yield Finding(
            "host",
            f"In {which} the thread that trains was put aside by other work on "
            f"the host: {percent(share)} of the time.",
            cost,
            share,
            steps,
        )
