"""What is said of torch in `profiler.py` is so."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROFILE = """
import sys
import torch
from torch.profiler import profile

{before}
ran = []
sys.addaudithook(lambda event, arguments: ran.append(arguments[0]) if event == "exec" else None)
with profile(with_stack=True):
    torch.ones(1)
print(sum("torch/profiler/" in code.co_filename for code in ran))
"""
IMPORT = """
from otel_torch_modules._recording.torch_private.profiler import import_for_profiler

import_for_profiler()
"""


@pytest.mark.parametrize(("before", "some"), [("", True), (IMPORT, False)])
def test_import_for_profiler(before: str, some: bool) -> None:
    source = PROFILE.format(before=before)
    said = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert (int(said.stdout) > 0) is some
