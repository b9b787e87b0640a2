"""What a provider of ours says about the process that it runs in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
    Resource,
)

from otel_torch_modules._entry_points import Use, entry_point, names
from otel_torch_modules._job.resource_detector import distributed_resource
from otel_torch_modules._texts import encodable_attributes

_DETECTORS: Final = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"
_FIRST: Final = "service_instance"  # of later versions of the SDK
_LAST: Final = "otel"

_SDK: Final = Resource(
    {
        TELEMETRY_SDK_LANGUAGE: "python",
        TELEMETRY_SDK_NAME: "opentelemetry",
        TELEMETRY_SDK_VERSION: version("opentelemetry-sdk"),
    }
)


def build_resource(service: str, values: Mapping[str, str]) -> Resource:
    """Return the resource of a provider of ours; what the user or a detector says wins over what we say.

    Args:
        service: its name where nobody else names it.
        values: OpenTelemetry's variables, without what cannot be read.
    """
    found = _detect(values)
    # The SDK's detector asks the environment, which may not say it any more.
    name = values.get(OTEL_SERVICE_NAME)
    known = str(found.attributes.get(SERVICE_NAME, "unknown_service"))
    if name or known.startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: name or service}))
    whole = distributed_resource(values).merge(found)
    return Resource(encodable_attributes(whole.attributes), whole.schema_url)


def _detect(values: Mapping[str, str]) -> Resource:
    found = _SDK
    for use in [
        Use(_DETECTORS, name, partial(_detected, name)) for name in _detector_names(values)
    ]:
        found = found.merge(use.result() or Resource.get_empty())
    return found


def _detected(name: str) -> Resource:
    found = entry_point(_DETECTORS, name).load()().detect()
    if isinstance(found, Resource):
        return found
    raise TypeError(f"{type(found).__name__} is no Resource")


def _detector_names(values: Mapping[str, str]) -> list[str]:
    """Return whose word counts, the last one most; as the SDK has it."""
    installed = names(_DETECTORS)
    given = values.get(_DETECTORS, "").split(",")
    wanted = [*([] if _FIRST in given else [_FIRST]), *given, _LAST]
    others = sorted(installed - {*wanted})
    each = [name for part in wanted for name in (others if part == "*" else [part])]
    return [name for name in dict.fromkeys(each) if name in installed]


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
