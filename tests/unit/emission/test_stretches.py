"""How long the worker goes on without a pause, in calls of functions: what the training thread may have to wait for.

The worker holds the interpreter lock between two pauses; a thread that wants it back then waits for the next one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission import named
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._emission.provider import OwnTracerProvider
from otel_torch_modules._events import EXIT
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules.config import Config
from tests.support.otlp_languages import LANGUAGES

_CALLS = 5_000
_ROOT = Site("Root", "Root")


class Taking(RequestExporter):
    """Takes whatever comes in a language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.set_up("here", 1.0)
        self.spans = 0

    def attempt(self, request: EncodedRequest) -> Reply:
        self.spans += request.span_count
        return TAKEN


@contextmanager
def stretches() -> Iterator[list[int]]:
    """Yield how many functions were called before each pause, and after the last."""
    counts = [0]

    def see(_: Any, event: str, what: Any) -> None:
        if event == "c_call" and what is time.sleep:
            counts.append(0)
        elif event in ("call", "c_call"):
            counts[-1] += 1

    sys.setprofile(see)
    try:
        yield counts
    finally:
        sys.setprofile(None)


def record(at: int, sites: list[Site]) -> Record:
    """A step, at a time, whose root calls each of `sites` once."""
    start, number = at * 10**9, at * 10 * len(sites)
    log: list[Any] = [_ROOT, 0, number, start, True]
    for place, site in enumerate(sites, 1):
        log += site, 0, number + place, start + 20 * place, True
        log += EXIT, 0, number + place + 1, start + 20 * place + 10, None
    end = start + 20 * len(sites) + 20
    log += EXIT, 0, number + len(sites) + 1, end, None
    made = Record("step", at, start=start, clock_offset=0, end=end + 10)
    made.log.extend(log)
    made.trace_flags, made.trace_id, made.span_id = 1, at + 1, at + 1
    return made


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_a_step_of_many_calls_is_sent_in_short_stretches(
    monkeypatch: pytest.MonkeyPatch, language: Language
) -> None:
    exporter = Taking(language)
    monkeypatch.setattr(named, "trace_exporters", lambda _: [exporter])
    provider = OwnTracerProvider("test")
    provider.open()
    emitter = Emitter(lambda: provider, JobContext({}))
    assembler = Assembler(Config())
    sites = [Site(f"Root.{number}", "Child") for number in range(_CALLS)]
    # The first tracer is got by a look at all modules that are imported, here also those of all other tests.
    emitter.emit(assembler.assemble(record(0, sites[:1])))
    emitter.flush()
    longest = []
    for at in range(1, 5):
        with stretches() as of_assembly:
            tree = assembler.assemble(record(at, sites))
        with stretches() as of_emission:
            emitter.emit(tree)
            emitter.flush()
        longest.append(max(of_emission))
    assert isinstance(tree, SpanColumns)
    assert exporter.spans == 3 + 4 * (_CALLS + 2)
    provider.shutdown()
    assert longest[0] < 8 * _CALLS  # where each template is made
    assert longest[3] < 2_500  # and where all are known
    assert len(of_assembly) == 10  # columns: each is a few calls, and a tenth of the work
