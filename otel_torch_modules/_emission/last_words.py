"""The one line that says at the end what did not arrive."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from otel_torch_modules._emission.otlp.reply import ENDED
from otel_torch_modules._emission.otlp.request_exporter import NO_ANSWER, RequestExporter
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._entry_points import under_way
from otel_torch_modules._log import warn

_LOGGER = logging.getLogger(__name__)

_NAMES = {"step": "step", "eval": "evaluation", "checkpoint": "checkpoint"}

_TOO_SLOW = "the span processors of the program's tracer provider take none any more"
_UNSAID = "nothing says why"
_WITHOUT_A_COLLECTOR = (
    "Without a collector: OTEL_TRACES_EXPORTER=otlp_file, then otel-torch-modules view"
)


def say_last_words(deliveries: Deliveries, exporters: Sequence[RequestExporter]) -> None:
    """Log what was recorded, what of it was sent, and why that is not all; nothing where it is all."""
    recorded = {kind: count for kind, count in deliveries.recorded.items() if count}
    sent = {kind: deliveries.sent(kind) for kind in recorded}
    left = sum(recorded.values()) - sum(sent.values())
    if left <= 0:
        return
    reasons = []
    for error, count in deliveries.outcomes().items():
        if error and count and error != ENDED.error:
            reasons.append(f"{count} lost by {error}")
            left -= count
    reasons += _reasons(exporters, hangs=left > 0)
    if left > 0 and not exporters:
        reasons += [f"{name} does not come back" for name in under_way()]
    to_all = f" to all of {', '.join(each.place for each in exporters)}" if exporters[1:] else ""
    if not (to_all or any(sent.values())) and reasons and reasons[-1].startswith(NO_ANSWER):
        reasons[-1] += f". {_WITHOUT_A_COLLECTOR}"
    warn(
        _LOGGER,
        "%s recorded, %s sent%s: %s",
        _names(recorded),
        _numbers(sent),
        to_all,
        "; ".join(reasons) or (_UNSAID if exporters else _TOO_SLOW),
    )


def _names(recorded: dict[str, int]) -> str:
    return " and ".join(
        f"{recorded[kind]} {name}" + "s" * (recorded[kind] != 1)
        for kind, name in _NAMES.items()
        if kind in recorded
    )


def _numbers(sent: dict[str, int]) -> str:
    return " and ".join(str(sent[kind]) for kind in _NAMES if kind in sent)


def _reasons(exporters: Sequence[RequestExporter], *, hangs: bool) -> list[str]:
    reasons = []
    for exporter in exporters:
        if exporter.trouble.last is not None:
            reasons.append(exporter.trouble.last.reason)
        elif hangs and exporter.waits:
            reasons.append(exporter.silence)
    return reasons
