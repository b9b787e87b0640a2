"""`python -m otel_torch_modules._emission.otlp.trial otlp`: has the exporter of that name send a request without spans.

For `doctor`, in a process of its own: it has an answer too where what an exporter needs is broken, or writes to stderr.
What is printed is JSON: what kept the receiver from taking the request and why, both empty where nothing did.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER

from otel_torch_modules._emission.named import trace_exporters
from otel_torch_modules._emission.otlp.reply import Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._log import shown
from otel_torch_modules._otlp_values import value_of
from otel_torch_modules._standard_variables import read_standard

_LONGEST_S = 10.0  # somebody waits
_TIMEOUT = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"


def try_to_send(name: str, environ: Mapping[str, str]) -> Reply:
    """Return what becomes of a request that the exporter `name` sends.

    Raises:
        LookupError: it cannot be made.
    """
    values = dict(read_standard(environ).values)
    values[_TIMEOUT] = str(min(float(value_of("TIMEOUT", values) or _LONGEST_S), _LONGEST_S))
    made = trace_exporters({**values, OTEL_TRACES_EXPORTER: name})
    for exporter in made:
        if isinstance(exporter, RequestExporter):
            exporter.trouble.muted = True
            try:
                return exporter.export_request(EncodedRequest(b"", 0))
            finally:
                exporter.shutdown()
    raise LookupError(name)


if __name__ == "__main__":
    reply = try_to_send(sys.argv[1], os.environ)
    json.dump([reply.error, shown(reply.reason)], sys.stdout)
