"""How long a step only waited for its collectives: known where that is known of each of them.

Who launches one and waits for it at once waits for as long as it lasts. DDP waits for its buckets when a backward has
gone through all modules. When others are waited for, nobody says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from otel_torch_modules._events import ASYNC, COMPLETED
from otel_torch_modules._records import STEP_EXPOSED, Record
from otel_torch_modules._spans.span import SECOND, Span


class Launched(NamedTuple):
    """A collective's span, and when the last module of the backward that it is below ended; None below none."""

    span: Span
    modules_end: int | None


def say_exposed(record: Record, launched: Iterable[Launched]) -> None:
    """Say of the step `record` for how long (s) it waited for what it launched, if that is known."""
    waits = []
    for span, modules_end in launched:
        said = span.said
        at_once = said.get(ASYNC) is False
        if not said.get(COMPLETED) or not (at_once or modules_end is not None):
            return
        since = span.start if at_once or modules_end is None else max(span.start, modules_end)
        waits.append((min(since, span.end), span.end))
    waited, until = 0, 0
    for start, end in sorted(waits):
        waited += max(end - max(start, until), 0)
        until = max(until, end)
    if waits and record.kind == "step":
        record.measured = {**record.measured, STEP_EXPOSED: waited / SECOND}
