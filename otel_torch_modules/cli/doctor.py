"""`otel-torch-modules doctor`: whether tracing would work here, and if not, why; and whether files are complete.

Needs nothing but the standard library, and imports neither torch nor the SDK: it must have an answer
where they are broken. What an exporter needs is tried in a process of its own.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import NamedTuple

from otel_torch_modules._grammar import counted
from otel_torch_modules._secrets import without_secrets
from otel_torch_modules._standard_variables import read_standard
from otel_torch_modules.cli.examined import Examined
from otel_torch_modules.cli.exporter_check import examine_exporters
from otel_torch_modules.cli.limits_check import examine_limits
from otel_torch_modules.cli.provider_check import examine_provider
from otel_torch_modules.cli.say import say
from otel_torch_modules.cli.variable_check import examine_variables


class _Requirement(NamedTuple):
    distribution: str
    least: tuple[int, ...]


_REQUIREMENTS = (
    _Requirement("torch", (2, 6)),
    _Requirement("opentelemetry-sdk", (1, 30)),
    _Requirement("opentelemetry-exporter-otlp", (1, 30)),
    _Requirement("opentelemetry-instrumentation", (0, 51)),
)
_OF_READING = ("msgspec", "rich")  # tracing works without them
_ENTRY_POINTS = {
    "torch.backends": "otel_torch_modules",
    "opentelemetry_instrumentor": "torch_modules",
    "opentelemetry_traces_exporter": "otlp_file",
}


def examine(environ: Mapping[str, str], files: Sequence[str] = ()) -> int:
    """Print every finding, then one line per fault; return 1 if there is a fault, else 0.

    Args:
        environ: the variables that a program would be started with.
        files: traces that were written: where there are any, only they are examined.
    """
    findings = list(_examine_traces(files) if files else _examine_installation(environ))
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        say(f"{finding.subject:<{width}}  {finding.state}".rstrip())
    faults = [finding.fault for finding in findings if finding.fault]
    say()
    if not faults:
        say("Nothing is wrong.")
        return 0
    say(f"{counted(len(faults), 'thing is', 'things are')} wrong:")
    for fault in faults:
        say(f"✗ {fault}")
    return 1


def _examine_traces(files: Sequence[str]) -> Iterator[Examined]:
    from otel_torch_modules.cli.trace_check import examine_traces  # needs a library that reads JSON

    return examine_traces(files)


def _examine_installation(environ: Mapping[str, str]) -> Iterator[Examined]:
    yield from _examine_versions()
    yield from _examine_entry_points()
    readable = read_standard(environ)
    # What nobody knows here, nobody prints.
    shown, obeyed = without_secrets(environ), without_secrets(readable.values)
    odd = {odd.name: odd.sentence for odd in readable.odd}
    yield from examine_variables(shown, odd)
    yield from examine_provider(obeyed)
    yield from examine_limits(obeyed)
    yield from examine_exporters(obeyed, odd, environ)


def _examine_versions() -> Iterator[Examined]:
    yield Examined("python", platform.python_version())
    for distribution, least in _REQUIREMENTS:
        wanted = ".".join(map(str, least))
        try:
            found = version(distribution)
        except PackageNotFoundError:
            fault = f"{distribution} is not installed; version {wanted} or later is needed"
            yield Examined(distribution, "missing", fault)
            continue
        numbers = tuple([int(number) for number in re.findall(r"\d+", found)[: len(least)]])
        fault = f"{distribution} {found} is too old; {wanted} or later is needed"
        yield Examined(distribution, found, "" if numbers >= least else fault)
    for distribution in _OF_READING:
        try:
            yield Examined(distribution, version(distribution))
        except PackageNotFoundError:
            yield Examined(distribution, "missing: the commands that read traces need it")


def _examine_entry_points() -> Iterator[Examined]:
    for group, name in _ENTRY_POINTS.items():
        subject = f"entry point {group}"
        if entry_points(group=group, name=name):
            yield Examined(subject, f"{name} is registered")
        else:
            yield Examined(
                subject,
                f"{name} is missing",
                f"entry point {name} of group {group} is not registered; install otel-torch-modules again",
            )
