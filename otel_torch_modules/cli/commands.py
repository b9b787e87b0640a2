"""What each command runs, with what it was given on the command line.

What they need is imported when they run: `doctor` must work where what the others need is missing.
"""

from __future__ import annotations

import argparse
import os

from otel_torch_modules._printable import printable
from otel_torch_modules._reading.query import Query
from otel_torch_modules.cli.command_error import CommandError


def demo(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.demo import run_demo

    return run_demo(options.steps, options.folder, os.environ)


def why(options: argparse.Namespace) -> int:
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


def compare(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.compare import print_comparison
    from otel_torch_modules.cli.terminal import terminal

    return print_comparison(
        options.sources,
        terminal().width,
        _query(options),
        split=options.split,
        as_json=options.json,
        fail_above=options.fail_above,
    )


def view(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.step_tree import Cut
    from otel_torch_modules.cli.terminal import terminal
    from otel_torch_modules.cli.view import View

    cut = Cut(options.depth, options.min_ms)
    if options.list and cut != Cut():
        raise CommandError("--depth and --min-ms cut a tree: not with --list")
    steps = View(options.sources, _query(options), terminal(), cut)
    if options.list:
        steps.print_all_steps()
    elif options.slowest:
        steps.print_slowest_step()
    elif options.step is not None:
        steps.print_step(options.step)
    elif options.unfold or cut != Cut():
        steps.print_usual_step()
    else:
        steps.print_overview()
    return 0


def convert(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.convert import FORMATS, convert

    if options.to not in FORMATS:
        raise CommandError(
            f"--to {printable(options.to)}: there is no such format; there are {', '.join(FORMATS)}"
        )
    convert(options.sources, _query(options), options.to, options.output)
    return 0


def report(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.report import write_report

    write_report(options.sources, _query(options), options.output)
    return 0


def stragglers(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.stragglers import print_stragglers
    from otel_torch_modules.cli.terminal import terminal

    print_stragglers(options.sources, _query(options), terminal().width)
    return 0


def stalls(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.stalls import print_stalls

    print_stalls(options.sources, _query(options))
    return 0


def record(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.progress import progress
    from otel_torch_modules.cli.record import Wanted, record
    from otel_torch_modules.cli.terminal import terminal

    if options.shapes and options.modules == "phases":
        raise CommandError("--shapes are those of modules: not with --modules phases")
    wanted = Wanted(options.steps, options.modules, options.shapes, options.ranks)
    record(options.folder, wanted, progress(terminal()))
    return 0


def top(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.terminal import terminal
    from otel_torch_modules.cli.top import print_once, show

    console = terminal()
    (show if console.is_terminal and not options.once else print_once)(options.folder, console)
    return 0


def doctor(options: argparse.Namespace) -> int:
    from otel_torch_modules.cli.doctor import examine

    return examine(os.environ, options.files)


def _query(options: argparse.Namespace) -> Query:
    from otel_torch_modules.cli.reading_bar import ReadingBar

    asked = options.service, options.since, options.run_id, options.limit
    return Query(*asked, progress=ReadingBar())
