"""`otel-torch-modules top`: the ranks of a job that runs, a row for each, or the worst of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from otel_torch_modules._control import files
from otel_torch_modules._control.report import NOTHING
from otel_torch_modules._control.request import FILE, Request
from otel_torch_modules._grammar import counted
from otel_torch_modules._printable import printable
from otel_torch_modules.cli.asking import outlook
from otel_torch_modules.cli.cells import padded, tail
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.ranks_seen import RanksFolder, SeenRanks
from otel_torch_modules.cli.stall import ranks as named
from otel_torch_modules.cli.standings import RankRow, rest, rows

_LOOK_S = 1.0
_FIRST_SIGN_S = 2.5  # so long a rank is waited for that seems to have given none
_AROUND = 6  # lines that are no rank's, and one to spare
_LEAST_ROWS = 3
_WIDTHS = {"rank": 5, "step": 9, "ms/step": 9, "phase": 10, "behind": 20, "recorded": 8}
_LEAST_MODULE = 10


def print_once(folder: Path, console: Console) -> None:
    """Print one table.

    Raises:
        CommandError: there are no ranks to be seen.
    """
    ranks_folder = RanksFolder(folder)
    ranks = _look(ranks_folder)
    since = time.monotonic()
    while ranks.silent and time.monotonic() - since < _FIRST_SIGN_S:
        time.sleep(_LOOK_S / 4)
        ranks = _look(ranks_folder)
    console.print(_picture(ranks, folder, console), soft_wrap=True)


def show(folder: Path, console: Console) -> None:
    """Show the table as it changes, until it is interrupted.

    Raises:
        CommandError: there are no ranks to be seen, or none any more.
    """
    ranks_folder = RanksFolder(folder)
    picture = _picture(_look(ranks_folder), folder, console)
    with Live(picture, console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_LOOK_S)
                live.update(_picture(_look(ranks_folder), folder, console), refresh=True)
        except KeyboardInterrupt:
            return


def _look(folder: RanksFolder) -> SeenRanks:
    try:
        ranks = folder.look()
    except OSError as error:
        raise CommandError(f"{folder.path}: {error.strerror or error}") from error
    if ranks.run is None:
        raise CommandError(
            f"{folder.path}: no rank says anything there: it is what OTEL_TORCH_MODULES_CONTROL names, from the job's "
            "first step to its end"
        )
    return ranks


def _picture(ranks: SeenRanks, folder: Path, console: Console) -> Group:
    found = rows(ranks)
    most = len(found)
    if console.is_terminal:
        most = max(console.height - _AROUND - len(ranks.unreadable[:1]), _LEAST_ROWS)
    shown = found if len(found) <= most else sorted(found, key=lambda row: row.badness)[:most]
    others = [row for row in found if row not in shown]
    width = console.width
    lines = [*_about(ranks, folder), Text(), _header(width), *(_line(row, width) for row in shown)]
    if others:
        lines.append(Text(rest(others), style="dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)


def _about(ranks: SeenRanks, folder: Path) -> Iterator[Text]:
    reports = ranks.reports.values()
    newest = max(report.step for report in reports)
    paces = [report.seconds_per_step for report in reports if report.seconds_per_step is not None]
    said = [str(ranks.run), f"step {newest}"]
    if paces:
        said.append(f"{1e3 * max(paces):.1f} ms a step")
    yield Text(printable(" · ".join(said)), style="bold")
    asked = _request(ranks, folder)
    if asked:
        yield Text(printable(asked))
    if len(ranks.silent) == len(ranks.reports):
        yield Text(
            "No rank gives a sign: the job has been killed, or stands still as a whole", style="red"
        )
    if ranks.missing:
        yield Text(f"No file of {named(ranks.missing)}", style="red")
    if ranks.earlier or ranks.unreadable:
        left_out = ranks.earlier + len(ranks.unreadable)
        yield Text(f"{counted(left_out, 'file')} of other starts or runs, or of none: left out")


def _request(ranks: SeenRanks, folder: Path) -> str:
    try:
        request = Request.of(files.read(folder / FILE))
    except (OSError, ValueError):
        return ""
    if request.run != ranks.run:
        return ""
    seen = outlook(request, ranks.reports)
    if seen.done:
        return ""
    read = len(ranks.reports) - len(seen.unanswered)
    coming = f"in about {seen.left:.0f} s" if seen.left else f"{seen.through} through"
    return (
        f"Asked for: {request.steps}, {coming}; {read} of {len(ranks.reports)} ranks have read it"
    )


def _header(width: int) -> Text:
    cells = _cells("rank", "step", "ms/step", "phase", "module", "behind", "recorded", width)
    return Text(cells, style="dim")


def _line(row: RankRow, width: int) -> Text:
    style = "red" if row.silent else "yellow" if row.behind else ""
    ms = "" if row.ms is None else f"{row.ms:.1f}"
    recorded = "" if row.recorded == NOTHING else row.recorded
    cells = _cells(
        str(row.rank), str(row.step), ms, row.phase, row.module, row.behind, recorded, width
    )
    return Text(cells, style=style)


def _cells(
    rank: str, step: str, ms: str, phase: str, module: str, behind: str, recorded: str, width: int
) -> str:
    room = max(width - sum(_WIDTHS.values()) - 2, _LEAST_MODULE)
    return "".join(
        (
            rank.rjust(_WIDTHS["rank"]),
            step.rjust(_WIDTHS["step"]),
            ms.rjust(_WIDTHS["ms/step"]),
            "  ",
            printable(phase)[: _WIDTHS["phase"] - 1].ljust(_WIDTHS["phase"]),
            padded(tail(printable(module), room - 1), room),
            behind.ljust(_WIDTHS["behind"]),
            recorded,
        )
    ).rstrip()
