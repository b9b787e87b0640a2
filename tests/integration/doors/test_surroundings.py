"""What others than OpenTelemetry read of the environment where something is sent: proxies, certificates, gRPC's own.

A run trains as it would untraced, and what keeps spans from arriving is said with the variable that it comes from.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from otel_torch_modules._emission.otlp.grpc import GrpcRequestExporter
from otel_torch_modules._emission.otlp.http import HttpRequestExporter
from otel_torch_modules._emission.otlp.reply import Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._standard_variables import read_standard
from tests.support.backend_programs import free_ports
from tests.support.otlp_receivers import RECEIVERS
from tests.support.served import served
from tests.support.tls_receivers import TLS_RECEIVERS, identity
from tests.support.training_program import BIN, ENABLED, TRAIN, environment, run

EXPORTERS: dict[str, Callable[..., RequestExporter]] = {
    "grpc": GrpcRequestExporter,
    "http/protobuf": HttpRequestExporter,
}
PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy", "no_grpc_proxy")


class Refusing(BaseHTTPRequestHandler):
    """A proxy that wants to know who asks."""

    def do_POST(self) -> None:
        self.send_response(407)
        self.send_header("content-length", "0")
        self.end_headers()

    do_CONNECT = do_POST  # noqa: N815 - as `http.server` has it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    with served(server):
        yield f"127.0.0.1:{server.server_address[1]}"


def attempt(
    monkeypatch: pytest.MonkeyPatch, protocol: str, endpoint: str, **variables: str
) -> Reply:
    """Return what becomes of a request where these variables are set."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "10",
        **variables,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    exporter = EXPORTERS[protocol](read_standard(variables).values)
    try:
        return exporter.export_request(EncodedRequest(b"", 0))
    finally:
        exporter.shutdown()


@pytest.mark.parametrize(
    ("protocol", "variable"),
    [
        ("grpc", "grpc_proxy"),
        ("grpc", "https_proxy"),
        ("grpc", "http_proxy"),
        ("http/protobuf", "http_proxy"),
        ("http/protobuf", "HTTP_PROXY"),
        ("http/protobuf", "all_proxy"),
        ("http/protobuf", "ALL_PROXY"),
    ],
)
def test_a_proxy_that_is_not_there_or_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, refusing: str, protocol: str, variable: str
) -> None:
    (port,) = free_ports(1)
    with RECEIVERS[protocol]() as receiver:
        host = receiver.endpoint.partition("://")[2]
        for proxy in (f"127.0.0.1:{port}", refusing):
            named = {variable: f"http://me:s3cret@{proxy}"}
            reply = attempt(monkeypatch, protocol, receiver.endpoint, **named)
            assert f"{host} by the proxy http://***@{proxy} ({variable})" in reply.reason
            excepted = {**named, "no_proxy": "example.com, 127.0.0.1"}
            assert attempt(monkeypatch, protocol, receiver.endpoint, **excepted) == Reply()
        assert len(receiver.received) == 2


@pytest.mark.parametrize(
    ("protocol", "variables"),
    [
        ("grpc", {"http_proxy": "::::"}),
        ("grpc", {"http_proxy": "socks5://127.0.0.1:1"}),
        ("grpc", {"all_proxy": "http://127.0.0.1:1"}),
        ("grpc", {"HTTP_PROXY": "http://127.0.0.1:1"}),
        ("grpc", {"https_proxy": "", "http_proxy": "http://127.0.0.1:1"}),
        ("grpc", {"http_proxy": "http://127.0.0.1:1", "no_grpc_proxy": "127.0.0.1"}),
        ("http/protobuf", {"https_proxy": "http://127.0.0.1:1"}),
        ("http/protobuf", {"grpc_proxy": "http://127.0.0.1:1"}),
        ("http/protobuf", {"http_proxy": ""}),
        ("http/protobuf", {"http_proxy": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.0/8"}),
    ],
)
def test_what_is_no_proxy_for_it_is_not_named(
    monkeypatch: pytest.MonkeyPatch, protocol: str, variables: dict[str, str]
) -> None:
    with RECEIVERS[protocol]() as receiver:
        assert attempt(monkeypatch, protocol, receiver.endpoint, **variables) == Reply()
    (port,) = free_ports(1)
    gone = attempt(monkeypatch, protocol, f"http://127.0.0.1:{port}", **variables)
    assert gone.reason == f"nothing answers at 127.0.0.1:{port}"


@pytest.mark.parametrize("value", ["::::", "http://[bad", "socks5://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    reply = attempt(monkeypatch, "http/protobuf", "http://127.0.0.1:1", http_proxy=value)
    assert reply.reason.startswith(f"127.0.0.1:1 by the proxy {value} (http_proxy): ")


@pytest.fixture
def over_tls(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A receiver's URL, and the file with its certificate."""
    own = identity(tmp_path, "tls")
    with TLS_RECEIVERS["http/protobuf"](own, None) as address:
        yield f"https://{address}", str(own.certificate)


def test_certificates_are_those_that_opentelemetrys_variables_name_else_those_of_requests(
    monkeypatch: pytest.MonkeyPatch, over_tls: tuple[str, str], tmp_path: Path
) -> None:
    url, certificate = over_tls
    other = tmp_path / "other.pem"
    other.write_text("-----BEGIN CERTIFICATE-----\n")
    own = {"OTEL_EXPORTER_OTLP_CERTIFICATE": certificate}
    for bundle in ("/nowhere", str(other), str(tmp_path / "empty")):
        with monkeypatch.context() as patched:
            assert (
                attempt(patched, "http/protobuf", url, REQUESTS_CA_BUNDLE=bundle, **own) == Reply()
            )
    with monkeypatch.context() as patched:
        assert attempt(patched, "http/protobuf", url, REQUESTS_CA_BUNDLE=certificate) == Reply()
    with monkeypatch.context() as patched:
        assert attempt(patched, "http/protobuf", url, CURL_CA_BUNDLE=certificate) == Reply()


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_requests_that_are_not_there_count_as_not_set_and_are_named(
    name: str,
) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://host",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        name: "/nowhere",
    }
    read = read_standard(variables)
    assert [odd.sentence for odd in read.odd] == [
        f"{name}: '/nowhere' is not allowed; it must be a PEM file that can be read"
    ]
    assert name not in read.values
    # Nobody reads it.
    assert read_standard({**variables, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}).odd == ()
    assert read_standard({name: "/nowhere"}).odd == ()


@pytest.mark.parametrize("value", ["nowhere", "epollex", "none"])
def test_a_value_at_which_grpc_ends_the_process_costs_grpc_alone(
    tmp_path: Path, value: str
) -> None:
    source = TRAIN + "train(3)\nprint('trained')"
    odd = {"GRPC_POLL_STRATEGY": value}
    with RECEIVERS["http/protobuf"]() as receiver:
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp_proto_grpc,otlp_proto_http",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.endpoint}/v1/traces",
        }
        done = run(tmp_path, source, **ENABLED, **variables, **odd)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert len(receiver.traces()) == 3
    (line,) = done.stderr.splitlines()
    wrong = f"GRPC_POLL_STRATEGY: '{value}' is not allowed; it must be all, epoll1 or poll"
    assert wrong in line
    assert wrong in doctor(tmp_path, **odd)


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_a_run_behind_a_proxy_that_is_not_there_says_so_at_its_end(
    tmp_path: Path, protocol: str
) -> None:
    (port,) = free_ports(1)
    with RECEIVERS[protocol]() as receiver:
        done = run(
            tmp_path,
            TRAIN + "train(3)\nprint('trained')",
            **ENABLED,
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            http_proxy=f"http://127.0.0.1:{port}",
            no_proxy="",
        )
    assert (done.returncode, done.stdout) == (0, "trained\n")
    (line,) = done.stderr.splitlines()
    host = receiver.endpoint.partition("://")[2]
    proxy = f"the proxy http://127.0.0.1:{port} (http_proxy)"
    assert line.startswith(f"3 steps recorded, 0 sent: nothing answers at {host} by {proxy}. ")


def test_the_doctor_says_that_a_proxy_does_not_answer(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    proxy = f"http://me:s3cret@127.0.0.1:{port}"
    shown = f"the proxy http://***@127.0.0.1:{port} (http_proxy)"
    said = doctor(tmp_path, http_proxy=proxy)
    assert f"✗ {shown} does not answer (connection refused); name localhost in no_proxy" in said
    assert "s3cret" not in said


def doctor(folder: Path, **variables: str) -> str:
    named = {"OTEL_TRACES_EXPORTER": "otlp", **variables}
    done = subprocess.run(
        [BIN / "otel-torch-modules", "doctor"],
        env=environment(folder, **named),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout
