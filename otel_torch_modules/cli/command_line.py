"""The command line: which commands there are, and what each is given."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from otel_torch_modules._control.request import MODULES
from otel_torch_modules._printable import printable
from otel_torch_modules.cli import commands, option_values


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
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = subparsers.add_parser("demo", help="train a small GPT, traced, and show its steps")
    demo.add_argument(
        "--steps", type=option_values.positive_integer, default=20, help="default: 20"
    )
    demo.add_argument(
        "--folder", type=Path, default=Path("traces"), help="for the traces; default: traces"
    )
    demo.set_defaults(run=commands.demo)

    why = subparsers.add_parser("why", help="say why a run is slow, and where")
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
    why.set_defaults(run=commands.why)

    compare = subparsers.add_parser(
        "compare", help="say what became slower from one run to another"
    )
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
    compare.set_defaults(run=commands.compare)

    view = subparsers.add_parser("view", help="show the steps")
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
    view.set_defaults(run=commands.view)

    convert = subparsers.add_parser(
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
    convert.set_defaults(run=commands.convert)

    report = subparsers.add_parser(
        "report", help="write one HTML file: the findings, and pictures of the steps"
    )
    _add_sources(report)
    _add_output(report)
    report.set_defaults(run=commands.report)

    stragglers = subparsers.add_parser(
        "stragglers", help="say which rank each step waited for, and where it lost its time"
    )
    _add_sources(stragglers)
    stragglers.set_defaults(run=commands.stragglers)

    stalls = subparsers.add_parser(
        "stalls", help="say where the ranks of a job stood that did not get on, and which is behind"
    )
    _add_sources(stalls, also=", or the folder of OTEL_TORCH_MODULES_BLACKBOX")
    stalls.set_defaults(run=commands.stalls)

    record = subparsers.add_parser(
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
    record.set_defaults(run=commands.record)

    top = subparsers.add_parser("top", help="show where each rank of a job that runs stands")
    top.add_argument("folder", metavar="DIR", type=Path, help="OTEL_TORCH_MODULES_CONTROL")
    top.add_argument("--once", action="store_true", help="print one table and end")
    top.set_defaults(run=commands.top)

    doctor = subparsers.add_parser(
        "doctor", help="say whether tracing would work here, or what is missing in files of traces"
    )
    doctor.add_argument("files", metavar="FILE", nargs="*")
    doctor.set_defaults(run=commands.doctor)
    return parser


def _add_sources(command: argparse.ArgumentParser, also: str = "") -> None:
    command.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a file, - for standard input, jaeger=http://host:16686, tempo=http://host:3200"
        + also,
    )
    asked = command.add_argument_group("which traces; of files too, all that fit")
    asked.add_argument(
        "--service", metavar="NAME", help="default: any; of Jaeger the only one that there is"
    )
    asked.add_argument(
        "--since",
        type=option_values.seconds,
        metavar="1h",
        help="began how long before now at most; default: any of files, 1h of Jaeger and Tempo",
    )
    asked.add_argument("--run", metavar="ID", dest="run_id", help="torch.distributed.run_id")
    asked.add_argument(
        "--limit",
        type=option_values.positive_integer,
        default=2000,
        help="traces of Jaeger or Tempo at most; default: 2000",
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
