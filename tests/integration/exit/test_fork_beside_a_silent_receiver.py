"""A fork while gRPC would connect to somebody who says nothing: the child ends as it would without."""

from __future__ import annotations

import subprocess
import sys

# Of what goes on while a process forks gRPC says so; some of the children were ended by SIGABRT.
FORKS = """
import os, socket, threading
from otel_torch_modules._emission.otlp.grpc import GrpcRequestExporter
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest

receiver = socket.create_server(("127.0.0.1", 0))
exporter = GrpcRequestExporter(
    {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.getsockname()[1]}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
    }
)
replies = []
attempt = threading.Thread(
    target=lambda: replies.append(exporter.export_request(EncodedRequest(b"", 0)))
)
attempt.start()
connection, _ = receiver.accept()
connection.recv(1)
for _ in range(5):
    child = os.fork()
    if not child:
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
exporter.shutdown()
attempt.join()
print(replies[0].error)
"""


def test_a_child_ends_as_it_would() -> None:
    ignored = "ignore:This process:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, "-W", ignored, "-c", FORKS], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("0\n" * 5 + "shutdown\n", "")
