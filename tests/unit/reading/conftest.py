"""The hand-made files of the command line's tests."""

from __future__ import annotations

from tests.unit.cli.conftest import sample, step, write_traces

__all__ = ["sample", "step", "write_traces"]
