"""An exporter of encoded requests: one attempt each time, and an answer that says whether another one makes sense.

The standard exporters try again by themselves, for up to a minute, in which nothing else happens on the thread; they
draw their pauses from Python's global `random`, whose numbers are the program's; and they log each attempt.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from random import SystemRandom
from typing import Any, Final, NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_torch_modules._emission.clocks import monotonic
from otel_torch_modules._emission.otlp.language import Language
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.otlp.reply import ENDED, TAKEN, Reply
from otel_torch_modules._emission.otlp.signal import TRACES, Signal
from otel_torch_modules._emission.otlp.trouble import Trouble
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._texts import error_type

NO_ANSWER: Final = "nothing answers at"
"""How the reason begins of a receiver that is not there."""

MOST_BYTES: Final = 1 << 20
"""Of a request with more than one span: gRPC servers take 4 MiB by default."""

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0

# Draws from the operating system: a thousand ranks whose collector is back do not all come at once.
_RANDOM = SystemRandom()


class EncodedRequest(NamedTuple):
    """A request as the bytes that are sent."""

    data: bytes
    span_count: int  # or how many points of data it has


def pauses() -> Iterator[float]:
    """Yield how many seconds to wait after each attempt that failed."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * _RANDOM.uniform(0.8, 1.2)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class RequestExporter(SpanExporter, ABC):
    """Takes encoded requests as well as spans."""

    language: Language = Protobuf()

    waits: bool
    """Whether it is not known what became of the last request."""

    answers: bool
    """Whether a request is expected to be taken at once: where one has to wait, others go first."""

    def set_up(self, place: str, timeout_s: float, signal: Signal = TRACES) -> None:
        """Begin, in this process.

        Args:
            place: where it sends to, for people.
            timeout_s: how long it tries to send what a processor of the SDK hands it.
            signal: what is sent.
        """
        self.signal = signal
        self.place = place
        self.trouble = Trouble()
        self.waits = self.answers = False
        self.patience_s = timeout_s
        self._one_at_a_time = threading.Lock()  # what the specification promises an exporter
        self._ended = threading.Event()

    @property
    def silence(self) -> str:
        """What to say where it is not known whether a request was taken."""
        return f"{NO_ANSWER} {self.place}"

    @abstractmethod
    def attempt(self, request: EncodedRequest) -> Reply:
        """Send `request` once."""

    def taken(self, response: Any, request: EncodedRequest) -> Reply:
        """Return what the signal's `response` says of `request`, all of which it may not have taken."""
        said = response.partial_success
        rejected = getattr(said, self.signal.rejected)
        if not rejected:
            return TAKEN
        reason = (
            f"{self.place} rejects {rejected} of {request.span_count} {self.signal.items}: "
            f"{said.error_message}"
        )
        return Reply("partial_success", reason, in_part=rejected < request.span_count)

    def encode_request(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return the request that sends finished `spans`."""
        data: bytes = encode_spans(spans).SerializePartialToString()
        return data

    def export_request(self, request: EncodedRequest) -> Reply:
        """Send `request` once, and say in the log what has to be said."""
        if self._ended.is_set():
            return ENDED
        with self._one_at_a_time:
            self.waits = True
            self.trouble.begins()
            try:
                answer = self.attempt(request)
            except BaseException as error:
                if is_interruption(error):
                    raise
                answer = Reply(error_type(error), f"{self.place}: {error}")
        if self._ended.is_set() and answer.error:
            return ENDED
        self.waits = False
        self.answers = not answer.error
        self.trouble.heard(answer)
        return answer

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send what a processor of the SDK hands over, and try again for as long as the time-out says."""
        deadline = monotonic() + self.patience_s
        taken = [self.send(request, deadline) for request in self._requests(spans)]
        return SpanExportResult.SUCCESS if all(taken) else SpanExportResult.FAILURE

    def _requests(self, spans: Sequence[ReadableSpan]) -> Iterator[EncodedRequest]:
        data = self.encode_request(spans)
        if len(data) <= MOST_BYTES or len(spans) == 1:
            yield EncodedRequest(data, len(spans))
            return
        half = len(spans) // 2
        yield from self._requests(spans[:half])
        yield from self._requests(spans[half:])

    def send(self, request: EncodedRequest, deadline: float) -> bool:
        """Return whether `request` was taken, tried again until the `deadline`, which is one of the monotonic clock."""
        for pause_s in pauses():
            answer = self.export_request(request)
            if not answer.error:
                return True
            pause_s = max(pause_s, answer.after_s, answer.rest_s)
            if not answer.again or monotonic() + pause_s > deadline:
                break
            self._ended.wait(pause_s)
        return False

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Break off what is being tried, and close."""
        if not self._ended.is_set():
            self._ended.set()
            super().shutdown()
