"""A fork while gRPC connects: the child ends as it would without, and what was to be sent is tried again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest

from otel_torch_modules._engine import fork

# Of calls that go on while a process forks gRPC says so; some of the children were ended by SIGABRT.
SILENT_RECEIVER = """
import os, socket, threading
from otel_torch_modules._emission.otlp.grpc import GrpcRequestExporter
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest

receiver = socket.create_server(("127.0.0.1", 0))
endpoint = f"http://127.0.0.1:{receiver.getsockname()[1]}"
exporter = GrpcRequestExporter(
    {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "100"}
)
for _ in range(5):
    replies = []
    call = threading.Thread(
        target=lambda: replies.append(exporter.export_request(EncodedRequest(b"", 0)))
    )
    call.start()
    connection = receiver.accept()  # gRPC connects
    child = os.fork()
    if not child:
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    call.join()
    (reply,) = replies
    print(code, reply.error, reply.again, reply.reason == f"nothing answers at {endpoint[7:]}")
exporter.shutdown()
"""


def test_a_child_that_is_forked_while_grpc_connects_ends_as_it_would() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", SILENT_RECEIVER],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("0 CANCELLED True True\n" * 5, "")


@pytest.mark.parametrize("forks", [1, 3])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_each_fork_breaks_off_the_call_that_goes_on_and_no_later_one(forks: int) -> None:
    broken_off: list[Future[None]] = []

    def call_until_forked(begun: threading.Event) -> None:
        call: Future[None] = Future()

        def begin() -> Future[None]:
            begun.set()
            return call

        def break_off() -> None:
            broken_off.append(call)
            call.set_result(None)

        assert fork.broken_off(begin, break_off) is call

    def call_at_once() -> None:
        call: Future[None] = Future()
        call.set_result(None)
        assert fork.broken_off(lambda: call, lambda: broken_off.append(call)) is call

    for _ in range(forks):
        begun = threading.Event()
        caller = threading.Thread(target=call_until_forked, args=(begun,))
        caller.start()
        begun.wait()
        child = os.fork()
        if not child:
            try:
                call_at_once()
            finally:
                os._exit(len(broken_off))
        caller.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(broken_off)
        call_at_once()
    assert len(broken_off) == forks
