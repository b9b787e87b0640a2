"""`otel-torch-modules stalls`: where the ranks of a job stood when nothing happened, and which of them is behind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from otel_torch_modules import semconv
from otel_torch_modules._grammar import agree
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say
from otel_torch_modules.cli.stall import Said, Stalled, in_steps, ranks, stalled
from otel_torch_modules.cli.standing_together import together


def print_stalls(sources: Sequence[str], query: Query) -> None:
    """Print each stall in the sources: a line for all, then one for each group of ranks.

    Args:
        sources: of traces, of one rank or of several each, and folders of what killed ranks left behind.
        query: what is asked of sources that are neither files nor folders.

    Raises:
        SourceError: a source cannot be read.
        CommandError: there is no stall in them.
    """
    folders = [source for source in sources if Path(source).is_dir()]
    said = [left for folder in folders for left in _left_behind(Path(folder))]
    of_traces = [source for source in sources if source not in folders]
    if of_traces:
        traces = Traces.read_stalls(*of_traces, query=query)
        for loss in traces.losses():
            say(f"{loss}.")
        said += map(Said.of_span, traces.stalls)
    if not said:
        raise CommandError("there is no stall here: no job hung, or it was ended before it said so")
    for of_stall in together(said):
        _print(stalled(of_stall))


def _left_behind(folder: Path) -> Iterator[Said]:
    """Yield what the ranks of a job that was killed have left: see OTEL_TORCH_MODULES_BLACKBOX."""
    for path in sorted(folder.glob("rank-*.json")):
        try:
            yield Said.of_file(json.loads(path.read_bytes()))
        except (OSError, KeyError, TypeError, ValueError, RecursionError):
            say(f"{path} is not what a rank leaves behind.")


def _print(stall: Stalled) -> None:
    killed = stall.reason == semconv.STALL_KILLED
    about = "killed" if killed else f"no progress for {stall.seconds:.0f} s"
    if stall.trace_ids:
        about += f", {agree(len(stall.trace_ids), 'trace', 'traces')} {', '.join(stall.trace_ids)}"
    say(f"At {in_steps(stall.steps)}, {about}" if stall.steps else about)
    for group in stall.groups:
        place = "; ".join(filter(None, (group.place or "outside any phase", group.frames)))
        say(f"  {group.label}{place}")
        if group.collectives:
            say(f"      {'; '.join(map(str, group.collectives))}")
    if stall.silent:
        say(f"  no word from {ranks(stall.silent)}")
    say(f"{stall.sentence}.")
    say()
