"""The last line names no reason that is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_torch_modules._emission.last_words import say_last_words
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from otel_torch_modules._engine.deliveries import Deliveries


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        (True, "nothing says why"),
        (False, "the span processors of the program's tracer provider take none any more"),
    ],
)
def test_what_is_gone_without_a_word(
    ours: bool, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliveries = Deliveries()
    deliveries.recorded["step"] += 2
    exporters = [OtlpFileSpanExporter(str(tmp_path / "traces.jsonl"))] if ours else []
    say_last_words(deliveries, exporters)
    assert caplog.messages == [f"2 steps recorded, 0 sent: {reason}"]
