"""`otel-torch-modules`: runs the command that the command line says.

Exit codes: 0, all is well; 1, `doctor` found something wrong, `why` what it was to fail on, `compare` more than it was
to, the demo's training failed, or nobody reads the output; 2, the command could not be carried out; 130, it was
interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from otel_torch_modules._reading.source_error import SourceError
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.command_line import parser
from otel_torch_modules.cli.say import say_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed before the program began
            # Bars and tree lines are not in every encoding; a question mark is better than no output.
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except (CommandError, SourceError) as error:
        say_error(f"otel-torch-modules: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` for one, has enough
        _write_nowhere()
        return 1
    except OSError as error:  # what is read has faults of its own
        _write_nowhere()
        say_error(f"otel-torch-modules: the output cannot be written: {error.strerror}")
        return 2


def _write_nowhere() -> None:
    """Let what Python flushes once more at exit go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
