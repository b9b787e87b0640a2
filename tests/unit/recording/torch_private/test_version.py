"""What is taken of torch for `version.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import pytest
import torch

from otel_torch_modules._recording.torch_private import version
from otel_torch_modules.testing import capture_spans


def test_is_unchecked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "otel_torch_modules"):
        with capture_spans():
            pass
        assert caplog.messages == []
        monkeypatch.setattr(version, "_NEWEST_CHECKED", (2, 0))
        with capture_spans():
            pass
    assert caplog.messages == [f"Tracing has not been tried with torch {torch.__version__} yet"]
