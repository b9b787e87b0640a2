"""The examples of docstrings are true: each runs as it stands, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_torch_modules
from otel_torch_modules import testing

PACKAGE = Path(otel_torch_modules.__file__).parent


def examples() -> Iterator[doctest.DocTest]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>>" in path.read_text():
            name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            module = importlib.import_module(name)
            found = doctest.DocTestFinder(exclude_empty=True).find(module, name)
            yield from (example for example in found if example.examples)


EXAMPLES = {example.name: example for example in examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_true(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    runner.run(EXAMPLES[name], out=said.append)
    assert "".join(said) == ""


def test_every_public_name_has_one() -> None:
    public = [getattr(otel_torch_modules, name) for name in otel_torch_modules.__all__]
    names = [f"{value.__module__}.{value.__qualname__}" for value in public]
    names.append(f"{testing.__name__}.{testing.capture_spans.__qualname__}")
    assert {name for name in names if not any(one.startswith(name) for one in EXAMPLES)} == set()
