"""`otel-torch-modules convert`: the steps in the formats of programs that draw them, or as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from otel_torch_modules._grammar import counted
from otel_torch_modules._pictures.chrome import write_chrome
from otel_torch_modules._pictures.collapsed import write_collapsed
from otel_torch_modules._pictures.perfetto import write_perfetto
from otel_torch_modules._pictures.speedscope import write_speedscope
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.output import Output

_Write = Callable[[Sequence[Span], IO[bytes]], None]


class _Format(NamedTuple):
    """How steps are written, and who reads it."""

    write: _Write
    of_roots: bool  # whether what the program does around its steps is in it
    reader: str


def _write_parquet(roots: Sequence[Span], out: IO[bytes]) -> None:
    try:
        from otel_torch_modules._pictures.parquet import write_parquet
    except ImportError as error:
        raise CommandError(
            "--to parquet needs pyarrow: pip install 'otel-torch-modules[parquet]'"
        ) from error
    write_parquet(roots, out)


FORMATS = {
    "perfetto": _Format(write_perfetto, True, "https://ui.perfetto.dev"),
    "chrome": _Format(write_chrome, True, "https://ui.perfetto.dev or chrome://tracing"),
    "speedscope": _Format(write_speedscope, False, "https://www.speedscope.app"),
    "collapsed": _Format(write_collapsed, False, "flamegraph.pl, inferno or speedscope"),
    "parquet": _Format(_write_parquet, True, "DuckDB, Polars or Spark"),
}


def convert(sources: Sequence[str], query: Query, form: str, output: Path) -> None:
    """Write what `sources` hold, stalls left out, in one of `FORMATS`.

    Args:
        query: what is asked of sources that are no files.

    Raises:
        SourceError: a source cannot be read.
        CommandError: the output cannot be written, or is one of the sources.
    """
    file = Output(output, sources)
    traces = Traces.read(*sources, query=query)
    for loss in traces.cautions():
        file.tell(f"{loss}.")
    chosen = FORMATS[form]
    steps = sorted((*traces.steps, *traces.outside), key=lambda span: span.start)
    roots = steps
    if chosen.of_roots:
        roots = [root for root in (*traces.roots, *traces.lanes) if not root.is_stall]
        roots.sort(key=lambda span: span.start)
    with file.written() as out:
        chosen.write(roots, out)
    spans = sum(root.shape.after[root.at] - root.at for root in roots)
    what = f"{counted(len(traces.steps), 'step')}, {counted(spans, 'span')}"
    file.tell_written(what, chosen.reader)
