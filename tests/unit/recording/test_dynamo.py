"""What is taken of torch for `dynamo.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

from otel_torch_modules._recording import dynamo


def test_skip_frames_of() -> None:
    def function() -> int:
        return 1

    dynamo._skip(function.__code__)
    assert function() == 1
