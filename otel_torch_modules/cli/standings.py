"""Where the ranks of a job stand beside each other: pure, of what each says of itself once a second.

What two ranks say is of two moments, up to a look of each apart. So a difference is told only where it is larger than
that, or where both have stood still for as long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._control.report import Report
from otel_torch_modules._grammar import agree, counted
from otel_torch_modules.cli.ranks_seen import SeenRanks

# In the order in which a step has them.
_PHASES = (
    semconv.PHASE_DATA,
    semconv.PHASE_FORWARD,
    semconv.PHASE_RECOMPUTE,
    semconv.PHASE_BACKWARD,
    semconv.PHASE_OPTIMIZER,
)
_OF_WORDS = {
    semconv.DATA_WAIT: semconv.PHASE_DATA,
    semconv.OPTIMIZER_PREFIX.strip(): semconv.PHASE_OPTIMIZER,
}


class RankRow(NamedTuple):
    """One rank.

    Args:
        rank: its number.
        step: that is open, or else the next.
        ms: of a step; None where that is not known.
        phase: that is open; empty where none is, as far as is known.
        module: the innermost that is open, or the optimizer's class; empty where it is not known.
        behind: whom it is behind, and by how much; empty where it is not.
        lag: steps that it is behind, for the order.
        recorded: how deep its last step is.
        silent: for how many seconds it has given no sign; 0 where it does.
    """

    rank: int
    step: int
    ms: float | None
    phase: str
    module: str
    behind: str
    lag: int
    recorded: str
    silent: float

    @property
    def badness(self) -> tuple[float, ...]:
        """What sorts the worst first."""
        return (-self.silent, -self.lag, -bool(self.behind), -(self.ms or 0.0), self.rank)


def rows(ranks: SeenRanks) -> list[RankRow]:
    """Return a row for each rank, by its number."""
    living = [report for rank, report in ranks.reports.items() if rank not in ranks.silent]
    front = max(living or ranks.reports.values(), key=_progress)
    found = []
    for rank, report in sorted(ranks.reports.items()):
        silent = ranks.silent.get(rank, 0.0)
        phase, module = _place(report)
        lag, behind = _behind(report, front)
        found.append(
            RankRow(
                rank,
                report.step,
                None if report.seconds_per_step is None else 1e3 * report.seconds_per_step,
                phase,
                module,
                f"no sign for {silent:.0f} s" if silent else behind,
                lag,
                report.recorded,
                silent,
            )
        )
    return found


def rest(others: Sequence[RankRow]) -> str:
    """Return what is to be said of rows that have no line of their own."""
    steps = [row.step for row in others]
    times = [row.ms for row in others if row.ms is not None]
    said = [counted(len(others), "more rank"), _range("step", "steps", min(steps), max(steps))]
    if times:
        said.append(f"{min(times):.1f} to {max(times):.1f} ms")
    phases = Counter(row.phase or "–" for row in others).most_common()
    said.append(", ".join(f"{phase} {count}" for phase, count in phases))
    return "; ".join(said)


def _range(one: str, many: str, least: int, most: int) -> str:
    return f"{one} {least}" if least == most else f"{many} {least} to {most}"


def _place(report: Report) -> tuple[str, str]:
    first, _, module = report.place.partition(" ")
    return _OF_WORDS.get(first, first), module


def _progress(report: Report) -> tuple[int, int]:
    phase, _ = _place(report)
    return report.step, _PHASES.index(phase) if phase in _PHASES else -1


def _behind(report: Report, front: Report) -> tuple[int, str]:
    """Return by how many steps a rank is behind the first, and that in words."""
    gap = front.step - report.step
    apart = report.look + front.look
    stand_still = min(report.since, front.since) > apart
    pace = min(report.seconds_per_step or 0.0, front.seconds_per_step or 0.0)
    if gap > 0 and (stand_still or (pace > 0 and gap > 1 + apart / pace)):
        return gap, f"rank {front.rank}, {gap} {agree(gap, 'step', 'steps')}"
    place, first = _progress(report)[1], _progress(front)[1]
    if gap == 0 and stand_still and 0 <= place < first:
        return 0, f"rank {front.rank}, {_place(front)[0]}"
    return 0, ""
