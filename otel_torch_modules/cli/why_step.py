"""`otel-torch-modules why --step N`: what one step took more than those beside it."""

from __future__ import annotations

from typing import Any

from otel_torch_modules._diagnosis.one_step import StepOfRank, compare_step, sentence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import digits, extent
from otel_torch_modules._grammar import agree
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.cells import first_that_fits, padded, tail, wrapped
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say


def step_as_json(traces: Traces, run: Run, number: int) -> dict[str, Any]:
    """Return what `print_step` prints, for a machine."""
    said, ranks = _compared(traces, run, number)
    return {
        "step": number,
        "sentence": said,
        "ranks": [
            {
                "rank": of_rank.rank,
                "ms": round(of_rank.took, 4),
                "usual_ms": round(of_rank.usual, 4),
                "places": [
                    {
                        "phase": loss.place.phase,
                        "place": loss.place.name,
                        "ms": round(loss.took, 4),
                        "usual_ms": round(loss.usual, 4),
                    }
                    for loss in of_rank.losses[:20]
                ],
            }
            for of_rank in ranks
        ],
    }


def print_step(traces: Traces, run: Run, number: int, width: int) -> None:
    """Print what step `number` of `run` took more than its neighbours.

    Args:
        traces: of which `run` is.
        run: the whole steps.
        number: which of them; of several the last.
        width: cells of the terminal.

    Raises:
        CommandError: there is no such step.
    """
    said, ranks = _compared(traces, run, number)
    times = run.main.numbers.count(number)
    if times > 1:
        say(f"Step {number} is there {times} times; this is the last.")
    for line in wrapped(said, width):
        say(line)
    places = width - 26
    for of_rank in ranks[:4]:
        say()
        rank = "" if of_rank.rank is None else f"rank {of_rank.rank}: "
        title = padded(
            first_that_fits((f"{rank}own time by place", f"{rank}own time"), places), places
        )
        say(f"  {title}{'ms':>8}{'usual':>8}{'more':>8}")
        for loss in of_rank.losses[:5]:
            name = padded(tail(loss.place.said, places), places)
            more = f"{'−' if loss.more < 0 else '+'}{digits(abs(loss.more))}"
            say(f"  {name}{digits(loss.took):>8}{digits(loss.usual):>8}{more:>8}")


def _compared(traces: Traces, run: Run, number: int) -> tuple[str, list[StepOfRank]]:
    try:
        return sentence(run, number), compare_step(run, number)
    except KeyError:
        known = run.main.numbers
        raise CommandError(
            f"there is no whole step {number}{_why_not_whole(traces, number)}; there are {len(known)}, "
            f"{extent(known)}"
        ) from None


def _why_not_whole(traces: Traces, number: int) -> str:
    found = [step for step in traces.steps if step.step == number]
    cut = agree(len(found), "it is truncated", "they are truncated")
    lost = agree(len(found), "spans of it were lost", "spans of them were lost")
    return next((f" ({cut if step.truncated else lost})" for step in found), "")
