"""Whether an exporter's receiver takes what the exporter sends: certificates, protocol and path are its own then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

_MODULE: Final = "otel_torch_modules._emission.otlp.trial"

# A receiver may be strict about a request without spans.
_OF_NO_SPANS: Final = ("400", "INVALID_ARGUMENT")


def refusal(exporter: str, environ: Mapping[str, str]) -> str:
    """Return why the receiver takes nothing; empty where it does, and where the exporter itself cannot be had.

    What is wrong then is said of the installation.

    Args:
        exporter: its name, one of OTLP's.
        environ: the variables that a program would be started with.
    """
    done = subprocess.run(
        [sys.executable, "-m", _MODULE, exporter],
        env={**environ, "PYTHONSAFEPATH": "1"},  # what lies in this folder is not meant
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        error, reason = json.loads(done.stdout)
    except ValueError:
        return ""
    return "" if error in _OF_NO_SPANS else str(reason)
