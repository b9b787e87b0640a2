"""`otel-torch-modules report`: a run as one HTML file, to be looked at and sent to others."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from otel_torch_modules._grammar import counted
from otel_torch_modules._pictures.report import Around, report
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.output import Output
from otel_torch_modules.cli.why import heading, whole_run_of


def write_report(sources: Sequence[str], query: Query, output: Path) -> None:
    """Write what is found in `sources`, with pictures.

    Args:
        query: what is asked of sources that are no files.

    Raises:
        SourceError: a source cannot be read.
        CommandError: there is no whole step, or the output cannot be written or is one of the sources.
    """
    file = Output(output, sources)
    traces = Traces.read(*sources, query=query)
    losses = list(traces.cautions())
    run = whole_run_of(traces, losses)
    for loss in losses:
        file.tell(f"{loss}.")
    services = {str(about.get("service.name", "")) for about in traces.resources.values()}
    service = ", ".join(sorted(filter(None, services))) or "training"
    names = ", ".join(damage.source.rpartition("/")[2] for damage in traces.damages)
    around = Around(
        f"{service}: {counted(len(run.main), 'step')}",
        f"{service} · {heading(traces, run)}",
        losses,
        f"Written from {names} by otel-torch-modules {version('otel-torch-modules')}.",
    )
    with file.written() as out:
        out.write(report(run, around))
    file.tell_written(counted(len(run.main), "step"), "any browser")
