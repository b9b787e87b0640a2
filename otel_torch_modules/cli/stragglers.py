"""`otel-torch-modules stragglers`: which rank each step waited for, where, and for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from otel_torch_modules._diagnosis.straggler import find_straggler
from otel_torch_modules._grammar import counted
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say


def print_stragglers(sources: Sequence[str]) -> None:
    """Print a line for each step, and which rank was last most often.

    Args:
        sources: files of traces, of one rank or of several each.

    Raises:
        SourceError: a source cannot be read.
        CommandError: no step in them is of several ranks.
    """
    file = Traces.read(*sources)
    steps = [ranks for ranks in file.ranks_of_whole_steps() if len(ranks) > 1]
    losses = "".join(f"; {loss}" for loss in file.losses())
    if not steps:
        raise CommandError(
            f"{file.name} {file.verb('holds', 'hold')} no step of several ranks{losses}"
        )
    for loss in file.losses():
        say(f"{loss}.")
    found = [(ranks[0].step, len(ranks), find_straggler(ranks)) for ranks in steps]
    say(f"{'step':>8}{'ranks':>7}{'last':>7}{'behind ms':>11}{'lost ms':>10}  where")
    for step, count, last in found:
        number = "" if step is None else step
        behind, lost = last.behind / 1e6, last.lost / 1e6
        say(f"{number:>8}{count:>7}{last.rank:>7}{behind:>11.2f}{lost:>10.2f}  {last.place}")
    (rank, times), *_ = Counter(last.rank for _, _, last in found).most_common(1)
    of_rank = [last for _, _, last in found if last.rank == rank]
    (place, _), *_ = Counter(last.whereabouts for last in of_rank).most_common(1)
    typical = median(last.behind for last in of_rank) / 1e6
    say()
    say(
        f"Rank {rank} was last in {times} of {counted(len(found), 'step')}, by {typical:.2f} ms at the median; "
        f"it lost time most often {place}."
    )
