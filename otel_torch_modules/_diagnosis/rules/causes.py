"""Rules about what no module does: compilation, garbage, checkpoints, an exhausted allocator."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import ms, percent
from otel_torch_modules._grammar import counted, first_of

SHARE = 0.01  # of the run's time


def compilation(run: Run) -> Iterator[Finding]:
    """Something is compiled while training runs. Threshold: `SHARE` of its time, warm-up left out."""
    yield from _phase(
        run,
        "compile",
        "Something was compiled in {count}: {ms} in all, {share} of the time{where}.",
    )


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
    outside = run.outside_in(phase)
    time = sum(own) + run.ms_outside(outside)
    cost, share = run.cost(time)
    if share >= SHARE:
        steps = [series.numbers[at] for at in hit]
        places = [place.name for place in series.own if place.phase == phase]
        count = counted(len(hit), "step")
        if outside:
            after = {bisect_right(run.main.starts, span.start) for span in outside}
            pauses = counted(len(after), "pause between steps", "pauses between steps")
            count = f"{count} and {pauses}" if hit else pauses
        said = sentence.format(
            count=count,
            ms=ms(time),
            share=percent(share),
            where=f" ({first_of(steps)}{_most(run, own, time)})" if steps else "",
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


def _most(run: Run, own: Sequence[float], time: float) -> str:
    """Return which step had most of the time, as it stands behind their numbers; nothing where none had half of it."""
    most = max(own)
    if most <= time / 2 or most == sum(own):
        return ""
    return f"; {ms(most)} of it in step {run.called(own.index(most))}"


def memory(run: Run) -> Iterator[Finding]:
    """The device's allocator was exhausted. Threshold: it tried once more in any step."""
    series = run.steady
    hit = [at for at, count in enumerate(alloc_retries(run)) if count > 0]
    if hit:
        lost = sum(max(series.ms[at] - run.baseline[at], 0.0) for at in hit)
        cost, share = run.cost(lost)
        steps = tuple(series.numbers[at] for at in hit)
        yield Finding(
            "memory",
            f"The device's memory was exhausted in {len(hit)} steps ({first_of(steps)}): cached blocks were freed and "
            f"asked for once more, {ms(lost)} in all.",
            cost,
            share,
            steps,
        )


@lru_cache(maxsize=8)
def alloc_retries(run: Run) -> Sequence[float]:
    """Return how often the device's allocator tried once more in each steady step."""
    return [value or 0.0 for value in run.steady.attribute(semconv.MEMORY_ALLOC_RETRIES)]
