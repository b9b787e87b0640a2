"""The commands and their options: what each is given on the command line, and what it runs."""

from __future__ import annotations

import argparse
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from otel_torch_modules._control.request import MODULES
from otel_torch_modules._printable import printable
from otel_torch_modules._reading.query import Query
from otel_torch_modules.cli import option_values
from otel_torch_modules.cli.command_error import CommandError


class _Parser(argparse.ArgumentParser):
    """Repeats nothing of the command line that is not fit for a terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line; the command is in `run` of what it returns."""
    parser = _Parser(
        prog="otel-torch-modules", description="One OpenTelemetry trace per PyTorch training step."
    )
    parser.add_argument("--version", action="version", version=version("otel-torch-modules"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="train a small GPT, traced, and show its steps")
    demo.add_argument(
        "--steps", type=option_values.positive_integer, default=20, help="default: 20"
    )
    demo.add_argument(
        "--folder", type=Path, default=Path("traces"), help="for the traces; default: traces"
    )
    demo.set_defaults(run=_demo)

    why = commands.add_parser("why", help="say why a run is slow, and where")
    _add_sources(why)
    why.add_argument(
        "--step", type=int, metavar="N", help="why this step took longer than its neighbours"
    )
    why.add_argument("--json", action="store_true", help="the findings, for programs")
    why.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="RULE",
        help="exit code 1 where this rule finds something; may be given several times",
    )
    why.set_defaults(run=_why)

    compare = commands.add_parser("compare", help="say what became slower from one run to another")
    _add_sources(compare)
    compare.add_argument(
        "--split",
        type=int,
        metavar="STEP",
        help="compare the steps from this one on with those before",
    )
    compare.add_argument("--json", action="store_true", help="the comparison, for programs")
    compare.add_argument(
        "--fail-above",
        type=option_values.share,
        metavar="5%",
        help="exit code 1 where the second is surely slower by more",
    )
    compare.set_defaults(run=_compare)

    view = commands.add_parser("view", help="show the steps")
    _add_sources(view)
    shown = view.add_mutually_exclusive_group()
    shown.add_argument("--step", type=int, metavar="N", help="only the tree of this step")
    shown.add_argument("--slowest", action="store_true", help="only the tree of the slowest step")
    shown.add_argument(
        "--unfold", action="store_true", help="only the tree of the usual step, a row for each span"
    )
    shown.add_argument("--list", action="store_true", help="only the table, with all steps")
    view.add_argument(
        "--depth",
        type=option_values.positive_integer,
        metavar="D",
        help="levels of the tree below the step",
    )
    view.add_argument(
        "--min-ms",
        type=option_values.milliseconds,
        metavar="X",
        help="leave out spans shorter than this",
    )
    view.set_defaults(run=_view)

    convert = commands.add_parser(
        "convert", help="write the steps for Perfetto, speedscope, flame graphs or tables"
    )
    _add_sources(convert)
    convert.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="perfetto, chrome, speedscope, collapsed or parquet",
    )
    _add_output(convert)
    convert.set_defaults(run=_convert)

    report = commands.add_parser(
        "report", help="write one HTML file: the findings, and pictures of the steps"
    )
    _add_sources(report)
    _add_output(report)
    report.set_defaults(run=_report)

    stragglers = commands.add_parser(
        "stragglers", help="say which rank each step waited for, and where it lost its time"
    )
    _add_sources(stragglers)
    stragglers.set_defaults(run=_stragglers)

    stalls = commands.add_parser(
        "stalls", help="say where the ranks of a job stood that did not get on, and which is behind"
    )
    _add_sources(stalls, also=", or the folder of OTEL_TORCH_MODULES_BLACKBOX")
    stalls.set_defaults(run=_stalls)

    record = commands.add_parser(
        "record", help="record the next steps of a job that runs, and say where they are"
    )
    record.add_argument("folder", metavar="DIR", type=Path, help="OTEL_TORCH_MODULES_CONTROL")
    record.add_argument(
        "--steps", type=option_values.steps, default=5, metavar="N", help="default: 5"
    )
    record.add_argument("--modules", choices=MODULES, default="all", help="how deep; default: all")
    record.add_argument(
        "--shapes", action="store_true", help="with the shapes that modules take and return"
    )
    record.add_argument(
        "--ranks",
        type=option_values.ranks,
        default="all",
        metavar="0,5",
        help="with modules on these ranks, with phases on the others; default: all",
    )
    record.set_defaults(run=_record)

    top = commands.add_parser("top", help="show where each rank of a job that runs stands")
    top.add_argument("folder", metavar="DIR", type=Path, help="OTEL_TORCH_MODULES_CONTROL")
    top.add_argument("--once", action="store_true", help="print one table and end")
    top.set_defaults(run=_top)

    doctor = commands.add_parser(
        "doctor", help="say whether tracing would work here, or what is missing in files of traces"
    )
    doctor.add_argument("files", metavar="FILE", nargs="*")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_sources(command: argparse.ArgumentParser, also: str = "") -> None:
    command.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a file, - for standard input, jaeger=http://host:16686, tempo=http://host:3200"
        + also,
    )
    asked = command.add_argument_group("what is asked of Jaeger or Tempo")
    asked.add_argument("--service", metavar="NAME", help="default: the only one that there is")
    asked.add_argument(
        "--since",
        type=option_values.seconds,
        default=3600.0,
        metavar="1h",
        help="how long before now; default: 1h",
    )
    asked.add_argument("--run", metavar="ID", dest="run_id", help="torch.distributed.run_id")
    asked.add_argument(
        "--limit",
        type=option_values.positive_integer,
        default=2000,
        help="traces at most; default: 2000",
    )


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="what to write; - for standard output",
    )


def _query(options: argparse.Namespace) -> Query:
    from otel_torch_modules.cli.reading_bar import ReadingBar

    asked = options.service, options.since, options.run_id, options.limit
    return Query(*asked, progress=ReadingBar())


# Commands are imported when they run: `doctor` must work where what the others need is missing.


def _demo(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.demo import run_demo

    return run_demo(options.steps, options.folder, os.environ)


def _why(options: argparse.Namespace) -> int:
    from otel_torch_modules._diagnosis.diagnose import NAMES
    from otel_torch_modules.cli.terminal import terminal
    from otel_torch_modules.cli.why import print_why

    for name in options.fail_on:
        if name not in NAMES:
            raise CommandError(
                f"--fail-on {printable(name)}: there is no such rule; there are {', '.join(NAMES)}"
            )
    return print_why(
        options.sources,
        terminal().width,
        _query(options),
        step=options.step,
        as_json=options.json,
        fail_on=options.fail_on,
    )


def _compare(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.compare import print_comparison

    return print_comparison(
        options.sources,
        _query(options),
        split=options.split,
        as_json=options.json,
        fail_above=options.fail_above,
    )


def _view(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.step_tree import Cut
    from otel_torch_modules.cli.terminal import terminal
    from otel_torch_modules.cli.view import View

    view = View(options.sources, _query(options), terminal(), Cut(options.depth, options.min_ms))
    if options.list:
        view.print_all_steps()
    elif options.unfold:
        view.print_usual_step()
    elif options.slowest:
        view.print_slowest_step()
    elif options.step is not None:
        view.print_step(options.step)
    else:
        view.print_overview()
    return 0


def _convert(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.convert import FORMATS, convert

    if options.to not in FORMATS:
        raise CommandError(
            f"--to {printable(options.to)}: there is no such format; there are {', '.join(FORMATS)}"
        )
    convert(options.sources, _query(options), options.to, options.output)
    return 0


def _report(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.report import write_report

    write_report(options.sources, _query(options), options.output)
    return 0


def _stragglers(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.stragglers import print_stragglers

    print_stragglers(options.sources, _query(options), shutil.get_terminal_size().columns)
    return 0


def _stalls(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.stalls import print_stalls

    print_stalls(options.sources, _query(options))
    return 0


def _record(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.progress import progress
    from otel_torch_modules.cli.record import Wanted, record
    from otel_torch_modules.cli.terminal import terminal

    if options.shapes and options.modules == "phases":
        raise CommandError("--shapes are those of modules: not with --modules phases")
    wanted = Wanted(options.steps, options.modules, options.shapes, options.ranks)
    record(options.folder, wanted, progress(terminal()))
    return 0


def _top(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.terminal import terminal
    from otel_torch_modules.cli.top import print_once, show

    console = terminal()
    (show if console.is_terminal and not options.once else print_once)(options.folder, console)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.doctor import examine

    return examine(os.environ, options.files)
