"""What is to be known before steps are asked for, and what has become of a request: pure, of what the ranks say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from otel_torch_modules._control.report import DONE, REFUSED, Report
from otel_torch_modules._control.request import Request, RunStart
from otel_torch_modules._grammar import agree, counted
from otel_torch_modules.cli.ranks_seen import SeenRanks
from otel_torch_modules.cli.stall import ranks as named
from otel_torch_modules.ranks import Ranks

# Until the first step of a request (s): what is said of where ranks are is a look old, the request is seen a look
# later, and what a look takes and a pace that changes has room beside.
_LEAD_S = 3.0
_LEAD_LOOKS = 2.0

_TOO_NEAR_S = 1.5  # to the first step: whoever has not answered by then may not do as the others


def first_step(reports: Mapping[int, Report]) -> int:
    """Return a step that is so far ahead that all ranks will have read a request before it begins.

    Args:
        reports: of all ranks; the pace of each is known.
    """
    fastest = min(_pace(report) for report in reports.values())
    lead = _LEAD_S + _LEAD_LOOKS * max(report.look for report in reports.values())
    newest = max(report.step for report in reports.values())
    return newest + 1 + math.ceil(lead / fastest)


def what_hinders(ranks: SeenRanks) -> str:
    """Return why these ranks cannot be asked, as far as that will not change by itself; empty where they can."""
    if ranks.run is None:
        return "no rank has written anything there"
    if ranks.silent:
        longest = max(ranks.silent.values())
        return f"{_have(list(ranks.silent))} given no sign for {longest:.0f} s"
    if ranks.missing:
        return (
            f"the job has {ranks.run.world_size} ranks, and {_have(ranks.missing)} no file there: do all hosts share "
            "the folder?" + (f" {_other_starts(ranks)}" if ranks.earlier else "")
        )
    return ""


def what_is_not_there(ranks: str, run: RunStart) -> str:
    """Return why modules cannot be asked of these ranks; empty where the run has some of each that is named."""
    for item in ranks.split(","):
        if Ranks(item).lowest(run.world_size) is None:
            has = agree(run.world_size, "rank 0 alone", f"ranks 0 to {run.world_size - 1}")
            return f"--ranks {item.strip()}: the job has no such rank; it has {has}"
    return ""


def awaited(ranks: SeenRanks) -> list[int]:
    """Return the ranks that have given no sign yet since they are looked at, or whose pace is not known."""
    return [
        rank
        for rank, report in ranks.reports.items()
        if rank not in ranks.fresh or report.seconds_per_step is None
    ]


class Outlook(NamedTuple):
    """What has become of a request.

    Args:
        refused: why, by rank.
        unanswered: the ranks that have said nothing to it.
        left: seconds to its first step, as far as can be told, of those that do not refuse it; 0 where it has begun.
        through: how many of its steps all ranks have made.
        done: all ranks have made all of them.
        complete: what was recorded of them has gone to the exporters.
    """

    refused: dict[int, str]
    unanswered: list[int]
    left: float
    through: int
    done: bool
    complete: bool

    @property
    def fault(self) -> str:
        """Why it should be withdrawn; empty where it need not."""
        if self.refused:
            reason = next(iter(self.refused.values()))
            return f"{named(sorted(self.refused))}: {reason}"
        if self.unanswered and self.left < _TOO_NEAR_S:
            return f"{_have(self.unanswered)} not answered"
        return ""


def outlook(request: Request, reports: Mapping[int, Report]) -> Outlook:
    """Return what has become of `request`.

    Args:
        request: which.
        reports: what each rank has said last.
    """
    steps = request.last - request.first + 1
    answers = {
        rank: report.answer
        for rank, report in reports.items()
        if report.answer is not None and report.answer.id == request.id
    }
    done = len(answers) == len(reports) and all(one.said == DONE for one in answers.values())
    refused = {rank: one.why for rank, one in answers.items() if one.said == REFUSED}
    lefts = [
        _left(request, report)
        for rank, report in reports.items()
        if rank not in refused and report.seconds_per_step is not None
    ]
    slowest = min(report.step for report in reports.values())
    return Outlook(
        refused=refused,
        unanswered=sorted(set(reports) - set(answers)),
        left=min(lefts, default=_TOO_NEAR_S),
        through=steps if done else min(max(slowest - request.first, 0), steps),
        done=done,
        complete=done
        and all(
            one.recorded >= steps or not reports[rank].records for rank, one in answers.items()
        ),
    )


def traces(reports: Mapping[int, Report]) -> dict[int, dict[int, str]]:
    """Return the ids of the traces that ranks say, by step and rank."""
    found: dict[int, dict[int, str]] = {}
    for rank, report in sorted(reports.items()):
        for step, trace_id in () if report.answer is None else report.answer.traces:
            found.setdefault(step, {})[rank] = trace_id
    return dict(sorted(found.items()))


def _other_starts(ranks: SeenRanks) -> str:
    return f"There {agree(ranks.earlier, 'is', 'are')} {counted(ranks.earlier, 'file')} of other starts or runs."


def _pace(report: Report) -> float:
    return max(report.seconds_per_step or 0.0, 1e-6)


def _left(request: Request, report: Report) -> float:
    ahead = request.first - report.step
    return 0.0 if ahead <= 0 else ahead * _pace(report) - min(report.since, _pace(report))


def _have(ranks: list[int]) -> str:
    return f"{named(sorted(ranks))} {agree(len(ranks), 'has', 'have')}"


def description(request: Request) -> str:
    """Return what is asked for, in a sentence."""
    count = request.last - request.first + 1
    depth = "phases only" if request.modules == "phases" else "modules"
    depth += " and shapes" if request.shapes else ""
    where = (
        "on all ranks"
        if request.ranks == "all"
        else f"on ranks {request.ranks}, phases on the others"
    )
    return f"{counted(count, 'step')}, {request.first} to {request.last}, with {depth} {where}"
