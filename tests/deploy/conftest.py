"""The same real Jaeger that the tests of the backends use."""

from tests.backends.conftest import jaeger

__all__ = ["jaeger"]
