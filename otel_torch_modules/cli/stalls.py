"""`otel-torch-modules stalls`: where the ranks of a job stood when nothing happened, and which of them is behind."""

from __future__ import annotations

from collections.abc import Sequence

from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say
from otel_torch_modules.cli.stall import Stalled, ranks, stalled


def print_stalls(sources: Sequence[str]) -> None:
    """Print each stall in the files: a line for all, then one for each group of ranks.

    Args:
        sources: files of traces, of one rank or of several each.

    Raises:
        SourceError: a source cannot be read.
        CommandError: there is no stall in them.
    """
    traces = Traces.read_stalls(*sources)
    for loss in traces.losses():
        say(f"{loss}.")
    by_trace: dict[str, list[Span]] = {}
    for span in traces.stalls:
        by_trace.setdefault(span.trace_id, []).append(span)
    if not by_trace:
        raise CommandError(
            f"{traces.name} {traces.verb('tells', 'tell')} of no stall: no job hung, or it was ended before it said so"
        )
    for spans in sorted(by_trace.values(), key=lambda spans: min(span.end for span in spans)):
        _print(stalled(spans))


def _print(stall: Stalled) -> None:
    about = f"no progress for {stall.seconds:.0f} s, trace {stall.trace_id}"
    say(about if stall.step is None else f"At step {stall.step}, {about}")
    for group in stall.groups:
        place = f"{group.place or 'outside any phase'}; {group.frames}"
        say(f"  {group.label}{place}")
        if group.collectives:
            say(f"      {'; '.join(map(str, group.collectives))}")
    if stall.silent:
        say(f"  no word from {ranks(stall.silent)}")
    say(f"{stall.sentence}.")
    say()
