"""What recording and emission ask of each other while a record is open."""

from __future__ import annotations

from typing import Any, Protocol

from otel_torch_modules._records import Record


class OpenSpan(Protocol):
    """What the program's own spans and attributes need to know of the call that is open now."""

    def span_id(self, record: Record) -> int:
        """Return the id of the innermost span of `record` that is open in this thread.

        Made at the first call and the same until the module call ends.
        """

    def note(self, record: Record, method: str, arguments: tuple[Any, ...]) -> None:
        """Keep a call of `opentelemetry.trace.Span.<method>` for the innermost open span."""

    def fail(self, where: str) -> bool:
        """Drop the open record for the exception that is being handled; return whether that is the program's own."""


class StepContext(Protocol):
    """Makes a record the current span of the program."""

    def open(self, record: Record) -> bool:
        """Return whether `record`, which opens, is recorded: the provider's sampler may leave it out."""

    def goes_on(self, record: Record) -> bool:
        """Return whether the program's own current span in this thread is the one that `record` was opened below."""

    def attach(self, record: Record) -> None:
        """Make `record` current in this thread unless it is."""

    def settle(self, record: Record) -> None:
        """Give `record` its ids unless it has them."""

    def detach(self, record: Record) -> None:
        """Undo `attach` where `record` is still current in this thread."""
