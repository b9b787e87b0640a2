"""What a provider of ours says about the process that it runs in."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
    OTELResourceDetector,
    Resource,
)

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._job.resource_detector import TorchDistributedResourceDetector
from otel_torch_modules._texts import encodable_attributes


def build_resource(service: str) -> Resource:
    """Return the resource of a provider of ours; what the user or a detector says wins over what we say.

    Args:
        service: its name where nobody else names it.
    """
    found = _detect()
    if str(found.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: service}))
    whole = TorchDistributedResourceDetector().detect().merge(found)
    return Resource(encodable_attributes(whole.attributes), whole.schema_url)


def _detect() -> Resource:
    try:
        return Resource.create()
    except RuntimeError as error:
        if is_interruption(error):
            raise
        # The detectors run in a thread pool, and no pool starts once the interpreter is about to end: the program's
        # first step was its last.
        sdk = {
            TELEMETRY_SDK_LANGUAGE: "python",
            TELEMETRY_SDK_NAME: "opentelemetry",
            TELEMETRY_SDK_VERSION: version("opentelemetry-sdk"),
        }
        return Resource(sdk).merge(OTELResourceDetector().detect())


def service_name() -> str:
    """Return the stem of the main script, or of the module or package that ``python -m`` runs.

    ``python`` where there is no script: an interactive interpreter, a notebook, ``python -c``.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        parts = spec.name.removesuffix(".__main__").split(".")
        return str(parts[-1])
    file = getattr(main, "__file__", None)
    if not file:
        return "python"
    path = Path(file).absolute()
    return path.parent.stem if path.stem == "__main__" else path.stem
