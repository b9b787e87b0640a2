"""Whether the sampler that the variables name lets steps through."""

from __future__ import annotations

from otel_torch_modules._standard_variables import RATIO_SAMPLERS
from otel_torch_modules.cli.examined import Examined

SAMPLER = "OTEL_TRACES_SAMPLER"
SAMPLER_ARGUMENT = "OTEL_TRACES_SAMPLER_ARG"


def examine_sampler(value: str) -> Examined:
    """Return what is to be said of `value` of ``OTEL_TRACES_SAMPLER``."""
    leaves_out = value.strip().lower().endswith("always_off")
    fault = f"{SAMPLER}={value} leaves out every step" if leaves_out else ""
    return Examined(SAMPLER, value, fault)


def examine_sampler_argument(value: str, sampler: str) -> Examined:
    """Return what is to be said of `value` of ``OTEL_TRACES_SAMPLER_ARG``, where `sampler` is asked."""
    is_ratio = sampler.strip().lower() in RATIO_SAMPLERS and bool(value.strip())
    leaves_out = is_ratio and float(value) == 0
    fault = f"{SAMPLER_ARGUMENT}={value} leaves out every step" if leaves_out else ""
    return Examined(SAMPLER_ARGUMENT, value, fault)
