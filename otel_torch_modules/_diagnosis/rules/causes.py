"""Rules about what no module does: compilation, garbage, checkpoints, a starved host, an exhausted allocator."""

from __future__ import annotations

from collections.abc import Iterator

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.rules.slow_steps import SLOW, excesses, has_own_rule
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import MS, usual
from otel_torch_modules._diagnosis.words import ms, numbers, percent

SHARE = 0.01  # of the run's time
STARVED_SHARE = 0.02  # of the run's time, in slow steps whose thread was put aside
SWITCHES = 3.0  # times the usual number
HOST_LAG = 0.05  # of the usual step: the device is no further behind where backward ends

_CPU_TIME = "torch.step.cpu_time"
_SWITCHES = "torch.step.involuntary_switches"
_LAG = "torch.device.lag"
_ALLOC_RETRIES = "torch.device.memory.alloc_retries"


def compilation(run: Run) -> Iterator[Finding]:
    """Something is compiled while training runs. Threshold: `SHARE` of its time, warm-up left out."""
    yield from _phase(run, "compile", "{count} compiled: {ms} in all, {share} of the time{where}.")


def garbage(run: Run) -> Iterator[Finding]:
    """Python collects garbage. Threshold: `SHARE` of the run's time."""
    yield from _phase(
        run,
        "gc",
        "Python collected garbage in {count}: {ms} in all, {share} of the time{where}. gc.freeze() after the first "
        "steps, or gc.disable() with a collection on all ranks at once, helps.",
    )


def checkpoint(run: Run) -> Iterator[Finding]:
    """Checkpoints are written while training waits. Threshold: `SHARE` of the run's time."""
    yield from _phase(
        run,
        "checkpoint",
        "Checkpoints were written in {count}: {ms} in all, {share} of the time{where}.",
    )


def _phase(run: Run, phase: str, sentence: str) -> Iterator[Finding]:
    series = run.steady
    own = series.phase(phase)
    hit = [at for at, time in enumerate(own) if time > 0]
    outside = [span for span in run.outside if span.phase == phase]
    time = sum(own) + sum(span.duration for span in outside) / 1e6
    cost, share = run.cost(time)
    if share >= SHARE:
        steps = [series.numbers[at] for at in hit]
        places = [place.name for place in series.own if place.phase == phase]
        count = "1 step" if len(hit) == 1 else f"{len(hit)} steps"
        if outside:
            pauses = f"{len(outside)} pauses between steps"
            count = f"{count} and {pauses}" if hit else pauses
        said = sentence.format(
            count=count,
            ms=ms(time),
            share=percent(share),
            where=f" ({numbers(steps)})" if steps else "",
        )
        yield (
            Finding(
                phase,
                said,
                cost,
                share,
                tuple(steps),
                place=(places or [outside[0].name])[0],
                phase=phase,
            )
            if places or outside
            else Finding(phase, said, cost, share)
        )


def host(run: Run) -> Iterator[Finding]:
    """The host is the bottleneck: its thread was put aside, or the device waits for it.

    Thresholds: slow steps with `SWITCHES` times the usual involuntary switches cost `STARVED_SHARE`; the device is less
    than `HOST_LAG` of a step behind.
    """
    series = run.steady
    switches = [value or 0.0 for value in series.attribute(_SWITCHES)]
    often = max(SWITCHES * usual(switches), 1.0)
    cpu_times = [value or 0.0 for value in series.attribute(_CPU_TIME)]
    walls = [step.duration / MS for step in series.steps]  # of the program, whoever tells of steps
    waits = [wall - time * 1e3 for wall, time in zip(walls, cpu_times, strict=True)]
    waited = usual(waits)  # while the thread ran it was not put aside, whatever it did
    starved = [
        excess
        for excess in excesses(run, SLOW)
        if switches[excess.at] > often
        and waits[excess.at] - waited > excess.ms / 2
        and not has_own_rule(run, excess)
    ]
    cost, share = run.cost(sum(excess.ms for excess in starved))
    if share >= STARVED_SHARE:
        steps = tuple(series.numbers[excess.at] for excess in starved)
        yield Finding(
            "host",
            f"In {len(steps)} slow steps ({numbers(steps)}) the thread that trains was put aside by other work on "
            f"the host: {percent(share)} of the time.",
            cost,
            share,
            steps,
        )
    lags = [lag * 1e3 for lag in series.attribute(_LAG) if lag is not None]
    if lags and usual(lags) < HOST_LAG * run.usual_ms:
        yield Finding(
            "host",
            f"The device waits for the host: it is {ms(usual(lags))} behind where the usual step's backward ends.",
        )


def memory(run: Run) -> Iterator[Finding]:
    """The device's allocator was exhausted. Threshold: it tried once more in any step."""
    series = run.steady
    retries = [value or 0.0 for value in series.attribute(_ALLOC_RETRIES)]
    hit = [at for at, count in enumerate(retries) if count > 0]
    if hit:
        lost = sum(max(series.ms[at] - run.baseline[at], 0.0) for at in hit)
        cost, share = run.cost(lost)
        steps = tuple(series.numbers[at] for at in hit)
        yield Finding(
            "memory",
            f"The device's memory was exhausted in {len(hit)} steps ({numbers(steps)}): cached blocks were freed and "
            f"asked for once more, {ms(lost)} in all.",
            cost,
            share,
            steps,
        )
