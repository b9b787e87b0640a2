"""`otel-torch-modules stragglers`: which rank each step waited for, where, and for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from otel_torch_modules._diagnosis.late_start import with_those_before
from otel_torch_modules._diagnosis.straggler import Straggler, find_straggler
from otel_torch_modules._grammar import counted
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.cells import wrapped
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say

_MOST_ROWS = 30
_SAME = 0.1  # what was lost is said where it differs by more from how far behind the rank was


class _Last(NamedTuple):
    step: int | None
    ranks: int
    straggler: Straggler


def print_stragglers(sources: Sequence[str], query: Query, width: int) -> None:
    """Print a line for each step, of many for those with the largest delays, and which rank was last most often.

    Args:
        sources: traces, of one rank or of several each.
        query: what is asked of sources that are no files.
        width: cells of the terminal.

    Raises:
        SourceError: a source cannot be read.
        CommandError: no step in them is of several ranks.
    """
    file = Traces.read(*sources, query=query)
    steps = [ranks for ranks in file.ranks_of_whole_steps() if len(ranks) > 1]
    losses = "".join(f"; {loss}" for loss in file.losses())
    if not steps:
        raise CommandError(
            f"{file.name} {file.verb('holds', 'hold')} no step of several ranks{losses}"
        )
    for loss in file.cautions():
        say(f"{loss}.")
    found = [
        _Last(ranks[0].step, len(ranks), find_straggler(ranks, before))
        for ranks, before in with_those_before(steps)
    ]
    shown = sorted(range(len(found)), key=lambda at: -found[at].straggler.behind)[:_MOST_ROWS]
    say(f"{'step':>8}{'ranks':>7}{'last':>7}{'behind ms':>11}  where")
    for at in sorted(shown):
        say(_row(found[at]))
    if len(shown) < len(found):
        say(f"The {len(shown)} largest delays of {len(found)} steps.")
    say()
    for line in wrapped(_summary([last.straggler for last in found]), width):
        say(line)
    apart = [last.straggler.apart for last in found if last.straggler.apart > last.straggler.behind]
    if apart:
        said = (
            f"In {counted(len(apart), 'step')} a rank is behind all the while, by {max(apart) / 1e6:.2f} ms at most: "
            "the hosts' clocks differ, or the ranks do not wait for each other. That is no delay, and not counted."
        )
        for line in wrapped(said, width):
            say(line)


def _row(last: _Last) -> str:
    number = "" if last.step is None else last.step
    straggler = last.straggler
    behind, lost = straggler.behind / 1e6, straggler.lost / 1e6
    row = f"{number:>8}{last.ranks:>7}{straggler.rank:>7}{behind:>11.2f}  {straggler.place}{_before(straggler)}"
    return row if abs(lost - behind) <= _SAME * behind else f"{row} ({lost:.2f} ms)"


def _before(straggler: Straggler) -> str:
    return ", the step before" if straggler.is_before else ""


def _summary(found: Sequence[Straggler]) -> str:
    times = Counter(last.rank for last in found).most_common()
    rank, most = times[0]
    tied = sorted(rank for rank, count in times if count == most)
    if len(tied) > 1:
        ranks = " and ".join(filter(None, (", ".join(map(str, tied[:-1])), str(tied[-1]))))
        return (
            f"No rank is last more often than all others: ranks {ranks} were, in {most} of "
            f"{counted(len(found), 'step')} each."
        )
    of_rank = [last for last in found if last.rank == rank]
    places = Counter(last.whereabouts for last in of_rank).most_common()
    often = "" if len(places) == 1 else " most often" if places[0][1] > places[1][1] else None
    where = "in several places alike" if often is None else f"{places[0][0]}"
    delay = f"{median(last.behind for last in of_rank) / 1e6:.2f} ms"
    if len(found) == 1:
        return f"Rank {rank} was last, by {delay}; it lost them {where}."
    return (
        f"Rank {rank} was last in {most} of {counted(len(found), 'step')}, by {delay} at the median; it lost time"
        f"{often or ''} {where}."
    )
