"""Runs a program on the simulated accelerator, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.simdev.build import missing

_ROOT = Path(__file__).parents[3]


def on_the_device(*arguments: str, **variables: str) -> Any:
    """Return what a program prints last, which is JSON.

    Args:
        arguments: of the interpreter: ``-c`` and a text, or ``-m`` and a module.
        variables: of its environment, beside ours.
    """
    reason = missing()
    if reason is not None:
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=_ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])
