"""Whether gRPC gets what it needs is tried, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from otel_torch_modules._emission.otlp.grpc import GrpcRequestExporter
from otel_torch_modules._entry_points import ShortageError

VALUES = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@contextmanager
def few_descriptors() -> Iterator[None]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 4, most[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)


@contextmanager
def no_threads() -> Iterator[None]:
    size = threading.stack_size(1 << 47)  # for which there is no room
    try:
        yield
    finally:
        threading.stack_size(size)


@pytest.mark.parametrize(
    ("shortage", "number"), [(few_descriptors, errno.EMFILE), (no_threads, errno.EAGAIN)]
)
def test_without_it_nothing_is_set_up(
    shortage: Callable[[], AbstractContextManager[None]], number: int
) -> None:
    before = threading.active_count()
    with shortage(), pytest.raises(ShortageError, match="gRPC would end the process: ") as raised:
        GrpcRequestExporter(VALUES)
    assert raised.value.errno == number
    GrpcRequestExporter(VALUES).shutdown()
    assert threading.active_count() == before
