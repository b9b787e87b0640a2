"""Programs run as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count a test that runs a program among the slow ones: they are many, and each starts an interpreter."""
    for item in items:
        if "run_program" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def run_program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a Python program with only the given ``OTEL_*`` variables set."""

    def run(
        source: str,
        variables: Mapping[str, str] | None = None,
        *,
        script: str = "train.py",
        arguments: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        path = tmp_path / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
        path_before = os.environ.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{path_before}"  # for `tests.support`
        return subprocess.run(
            [sys.executable, *(arguments or (str(path),))],
            env={**environment, **(variables or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
