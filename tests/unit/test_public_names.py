"""What is public, by name: a change here is a change that users see."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

import pytest

import otel_torch_modules

PUBLIC = ["Config", "Keep", "ModuleTracker", "Schedule", "TorchModuleInstrumentor", "step", "trace"]


def test_public_names() -> None:
    assert otel_torch_modules.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_where_it_was_made(name: str) -> None:
    found = getattr(otel_torch_modules, name)
    assert found is getattr(import_module(found.__module__), name)
    assert found.__doc__


def test_dir_lists_public_names_and_an_unknown_one_is_an_attribute_error() -> None:
    assert set(PUBLIC) <= set(dir(otel_torch_modules))
    with pytest.raises(AttributeError, match="'otel_torch_modules' has no attribute 'Tracer'"):
        _ = otel_torch_modules.Tracer


def test_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from otel_torch_modules import *", namespace)
    assert sorted(namespace.keys() - {"__builtins__"}) == PUBLIC


@pytest.mark.parametrize(
    ("group", "name", "home"),
    [
        ("torch.backends", "otel_torch_modules", "otel_torch_modules._autoload:autoload"),
        (
            "opentelemetry_instrumentor",
            "torch_modules",
            "otel_torch_modules.instrumentor:TorchModuleInstrumentor",
        ),
        (
            "opentelemetry_traces_exporter",
            "otlp_file",
            "otel_torch_modules._emission.otlp.file:OtlpFileSpanExporter",
        ),
        (
            "opentelemetry_resource_detector",
            "torch_distributed",
            "otel_torch_modules._job.resource_detector:TorchDistributedResourceDetector",
        ),
    ],
)
def test_entry_points(group: str, name: str, home: str) -> None:
    found = [point for point in entry_points(group=group) if point.name == name]
    assert [point.value for point in found] == [home]
    assert callable(found[0].load())
