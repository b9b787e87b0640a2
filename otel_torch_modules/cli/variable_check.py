"""Every variable of this package with the value in force, and those of OpenTelemetry that are set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from otel_torch_modules import environment_variables
from otel_torch_modules._allowed import PREFIX
from otel_torch_modules._misspelt import OURS, misspelt
from otel_torch_modules.cli.examined import Examined
from otel_torch_modules.cli.exporter_check import DEFAULT_FILE
from otel_torch_modules.cli.place_check import fault_of_folder
from otel_torch_modules.cli.sampler_check import (
    SAMPLER,
    SAMPLER_ARGUMENT,
    examine_sampler,
    examine_sampler_argument,
)
from otel_torch_modules.config import Config, is_enabled
from otel_torch_modules.keep import Keep
from otel_torch_modules.schedule import Schedule

_BLACKBOX = environment_variables.OTEL_TORCH_MODULES_BLACKBOX
_AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
_FOLDERS = ("blackbox", "control")
_WHERE_EMPTY = {"run_id": "from the launcher"}
_WHERE_NONE = {"keep": "everything is sent in full"}


def examine_variables(environ: Mapping[str, str], odd: Mapping[str, str]) -> Iterator[Examined]:
    """Yield a finding for each variable of ours, for misspelt ones, and for OpenTelemetry's that are set.

    Args:
        environ: as it may be shown.
        odd: what is wrong with values of OpenTelemetry's variables, by their names.
    """
    defaults = {PREFIX + entry.name.upper(): entry.name for entry in fields(Config)}
    for name in OURS:
        if name == environment_variables.OTEL_TORCH_MODULES_ENABLED:
            yield _examine_enabled(environ)
        elif name in defaults:
            yield _examine_option(name, defaults[name], environ)
        else:
            yield Examined(name, environ.get(name) or f"{DEFAULT_FILE} (default)")
    mistakes = {mistake.name: mistake.sentence for mistake in misspelt(environ)}
    for name in sorted(environ):
        if name in mistakes:
            yield Examined(name, environ[name], mistakes[name])
        elif name in odd:
            yield Examined(name, environ[name], odd[name])
        elif name.startswith("OTEL_") and name not in OURS:
            yield _examine_standard(name, environ)


def _examine_enabled(environ: Mapping[str, str]) -> Examined:
    name = environment_variables.OTEL_TORCH_MODULES_ENABLED
    try:
        enabled = is_enabled(environ)
    except ValueError as error:
        return Examined(name, environ[name], str(error))
    if not enabled:
        return Examined(name, "false: only opentelemetry-instrument or the program starts tracing")
    if environ.get(_AUTOLOAD, "1") == "0":
        fault = f"{_AUTOLOAD}=0 keeps torch from loading entry points, so {name} has no effect"
        return Examined(name, "true", fault)
    return Examined(name, "true")


def _examine_option(name: str, option: str, environ: Mapping[str, str]) -> Examined:
    given = environ.get(name, "").strip()
    # Alone, so that each bad value is a fault of its own; but for the folder that must be another than this one.
    alone = {name: given}
    if option == "control":
        alone[_BLACKBOX] = environ.get(_BLACKBOX, "")
    try:
        value = getattr(Config.from_env(alone), option)
    except ValueError as error:
        return Examined(name, given, str(error))
    fault = fault_of_folder(name, value) if value and option in _FOLDERS else ""
    return Examined(name, _as_text(option, value) + ("" if given else " (default)"), fault)


def _as_text(option: str, value: object) -> str:
    if value is None:
        return _WHERE_NONE.get(option, "no limit")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (Schedule, Keep)):
        parts = {part.name: getattr(value, part.name) for part in fields(value)}
        return ",".join(f"{name}={part}" for name, part in parts.items() if part is not None)
    if isinstance(value, tuple):
        return ",".join(value) or ("all modules" if option == "include" else "none")
    return str(value) or _WHERE_EMPTY.get(option, "none")


def _examine_standard(name: str, environ: Mapping[str, str]) -> Examined:
    value = environ[name]
    if name == "OTEL_SDK_DISABLED" and value.strip().lower() == "true":
        return Examined(name, value, f"{name}={value} switches off all of OpenTelemetry")
    if name == SAMPLER:
        return examine_sampler(value)
    if name == SAMPLER_ARGUMENT:
        return examine_sampler_argument(value, environ.get(SAMPLER, ""))
    return Examined(name, value)
