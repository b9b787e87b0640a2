"""A warning of the program is shown as often as without us, whoever is asked for a tracer meanwhile."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer, TracerProvider

from otel_torch_modules._emission.tracers import tracer_of
from tests.support.training_program import ENABLED, run

if TYPE_CHECKING:
    from _typeshed import TraceFunction

Warns = Callable[[str], None]


@pytest.fixture
def warn() -> Iterator[Warns]:
    """A function of a program's module that warns."""
    module = ModuleType("warning_program")
    exec("import warnings\ndef warn(text): warnings.warn(text, FutureWarning)", vars(module))
    sys.modules[module.__name__] = module
    yield module.warn
    del sys.modules[module.__name__]


def shown_around(warn: Warns, between: Callable[[], object]) -> list[str]:
    """Return what is shown where a program warns of the same before and after `between`."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for _ in range(2):
            warn("old")
            between()
        warn("new")
    return [str(warning.message) for warning in shown]


PROVIDERS = [
    lambda: TracerProvider(shutdown_on_exit=False),
    trace.NoOpTracerProvider,
    trace.ProxyTracerProvider,
]


@pytest.mark.parametrize("make", PROVIDERS)
def test_it_is_shown_once(warn: Warns, make: Callable[[], trace.TracerProvider]) -> None:
    provider = make()
    assert shown_around(warn, lambda: tracer_of(provider, "scope")) == ["old", "new"]


def test_it_is_shown_once_where_another_thread_warns_at_any_line(warn: Warns) -> None:
    """Stood in for by the same thread, which warns between any two lines."""
    provider = TracerProvider(shutdown_on_exit=False)
    before = sys.gettrace()

    def strike(frame: FrameType, event: str, _: object) -> TraceFunction | None:
        if frame.f_code.co_name not in ("get_tracer", "tracer_of"):
            return None
        warn("old")
        return strike

    def ask() -> None:
        sys.settrace(strike)
        try:
            tracer_of(provider, "scope")
        finally:
            sys.settrace(before)

    assert shown_around(warn, ask) == ["old", "new"]


@pytest.mark.parametrize("action", ["default", "error"])
def test_the_sdks_own_warning_is_not_shown(action: str) -> None:
    with warnings.catch_warnings(record=True) as shown:
        for _ in range(2):
            warnings.simplefilter(action)  # type: ignore[arg-type]
            tracer_of(TracerProvider(shutdown_on_exit=False), "scope")
        assert len({*map(str, warnings.filters)}) == len(warnings.filters)
    assert shown == []


def test_the_tracer_is_the_providers() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    found, own = tracer_of(provider, "scope", "1"), provider.get_tracer("scope", "1")
    assert isinstance(found, Tracer)
    assert isinstance(own, Tracer)
    # Early versions make another one each time.
    assert found.instrumentation_info == own.instrumentation_info
    assert found.resource is own.resource


@pytest.mark.parametrize("action", ["default", "always", "error"])
def test_what_the_program_changes_itself_counts_as_without_us(warn: Warns, action: str) -> None:
    """Python forgets what was shown where the program changes filters, also right before or after."""
    provider = TracerProvider(shutdown_on_exit=False)

    def change() -> None:
        warnings.filterwarnings(action, message="another", category=UserWarning)  # type: ignore[arg-type]

    def both(*order: Callable[[], object]) -> Callable[[], None]:
        return lambda: [do() for do in order] and None

    def ask() -> object:
        return tracer_of(provider, "scope")

    without = shown_around(warn, change)
    assert without == ["old", "old", "new"]
    assert shown_around(warn, both(change, ask)) == without
    assert shown_around(warn, both(ask, change)) == without
    assert shown_around(warn, both(ask, change, ask)) == without


PROGRAM = """
import warnings
import torch
from torch import nn

def warn():
    warnings.warn("shown once", FutureWarning)

model = nn.Linear(2, 2)
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    warn()
    model(torch.ones(1, 2)).sum().backward()
    warn()
    sgd.step()
    warn()
"""


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["otlp", "console"])
def test_a_program_that_is_traced_shows_it_once(tmp_path: Path, exporter: str) -> None:
    traced = run(tmp_path, PROGRAM, **ENABLED, OTEL_TRACES_EXPORTER=exporter)
    assert traced.stderr.count("FutureWarning: shown once") == 1
