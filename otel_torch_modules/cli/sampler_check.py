"""Whether the sampler that the variables name exists, and lets steps through."""

from __future__ import annotations

from importlib.metadata import entry_points

from otel_torch_modules.cli.examined import Examined

SAMPLER = "OTEL_TRACES_SAMPLER"
SAMPLER_ARGUMENT = "OTEL_TRACES_SAMPLER_ARG"

_RATIOS = ("traceidratio", "parentbased_traceidratio")
_BUILT_IN = (
    "always_on",
    "always_off",
    "parentbased_always_on",
    "parentbased_always_off",
    *_RATIOS,
)
_GROUP = "opentelemetry_traces_sampler"


def examine_sampler(value: str) -> Examined:
    """Return what is to be said of `value` of ``OTEL_TRACES_SAMPLER``."""
    name = value.strip()
    if name.endswith("always_off"):
        return Examined(SAMPLER, value, f"{SAMPLER}={value} leaves out every step")
    if not name or name.lower() in _BUILT_IN or entry_points(group=_GROUP, name=name):
        return Examined(SAMPLER, value)
    known = ", ".join(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=_GROUP))}))
    return Examined(SAMPLER, value, f"{SAMPLER}={value} is not installed; there are: {known}")


def examine_sampler_argument(value: str, sampler: str) -> Examined:
    """Return what is to be said of `value` of ``OTEL_TRACES_SAMPLER_ARG``, where `sampler` is asked."""
    if sampler.strip().lower() not in _RATIOS or not value.strip():
        return Examined(SAMPLER_ARGUMENT, value)
    try:
        ratio = float(value)
    except ValueError:
        ratio = -1.0
    fault = ""
    if not 0 <= ratio <= 1:
        fault = f"{SAMPLER_ARGUMENT}: {value!r} is not allowed; it must be a number from 0 to 1"
    elif ratio == 0:
        fault = f"{SAMPLER_ARGUMENT}={value} leaves out every step"
    return Examined(SAMPLER_ARGUMENT, value, fault)
