"""The rule about what was lost: nothing is concluded from it."""

from __future__ import annotations

from collections.abc import Iterator

from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run


def missing(run: Run) -> Iterator[Finding]:
    """Steps were dropped, truncated, or lost spans. Threshold: any."""
    said = [
        f"{count} {word}"
        for count, word in (
            (run.dropped, "dropped"),
            (run.truncated, "truncated"),
            (run.incomplete, "incomplete"),
        )
        if count
    ]
    if said:
        yield Finding(
            "missing", f"Steps are missing: {', '.join(said)}. Nothing is concluded from them."
        )
