"""A receiver that is there, and cannot be spoken to as it is set up, is not called one that does not answer."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_torch_modules._emission.named import trace_exporters
from otel_torch_modules._emission.otlp.reply import Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._emission.otlp.trial import try_to_send
from otel_torch_modules._standard_variables import read_standard
from otel_torch_modules.cli.doctor import examine
from tests.support.otlp_receivers import RECEIVERS
from tests.support.tls_receivers import TLS_RECEIVERS, Identity, identity

OTHER = {"grpc": "http/protobuf", "http/protobuf": "grpc"}
CERTIFICATE = "OTEL_EXPORTER_OTLP_CERTIFICATE"
CLIENT_KEY = "OTEL_EXPORTER_OTLP_CLIENT_KEY"
CLIENT_CERTIFICATE = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

CLOSES = "HOST closes the connection without an answer"
TLS = "TLS fails with HOST: "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def own(folder: Path) -> Identity:
    return identity(folder, "receiver")


@pytest.fixture(scope="module")
def another(folder: Path) -> Identity:
    return identity(folder, "another")


@pytest.fixture(params=TLS_RECEIVERS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(protocol: str, own: Identity) -> Iterator[str]:
    with TLS_RECEIVERS[protocol](own, None) as host:
        yield host


def attempt(protocol: str, endpoint: str, **variables: object) -> Reply:
    texts = {name: str(value) for name, value in variables.items()}
    return try_to_send("otlp", _to(protocol, endpoint, **texts))


def _to(protocol: str, endpoint: str, **variables: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        **variables,
    }


def made(variables: dict[str, str]) -> RequestExporter:
    (exporter,) = trace_exporters(read_standard(variables).values)
    assert isinstance(exporter, RequestExporter)
    return exporter


def by(
    protocol: str, host: str, folder: Path | str, own: Identity, ours: Identity
) -> dict[str, str]:
    """Return the variables that name certificates in `folder`."""
    files = {
        CERTIFICATE: own.certificate,
        CLIENT_KEY: ours.key,
        CLIENT_CERTIFICATE: ours.certificate,
    }
    names = {variable: str(Path(folder, file.name)) for variable, file in files.items()}
    return _to(protocol, f"https://{host}", **names)


def told(reply: Reply, reason: str, host: str) -> bool:
    """Return whether a reply gives that reason, and is of what may be put right while the job runs."""
    return reply.again and bool(re.match(reason.replace("HOST", re.escape(host)), reply.reason))


def test_with_certificates_that_are_right_it_takes_requests(
    protocol: str, own: Identity, another: Identity
) -> None:
    with TLS_RECEIVERS[protocol](own, another.certificate) as host:
        ours = {CLIENT_KEY: another.key, CLIENT_CERTIFICATE: another.certificate}
        certificate = {CERTIFICATE: own.certificate}
        assert attempt(protocol, f"https://{host}", **certificate, **ours) == Reply()
        without = attempt(protocol, f"https://{host}", **certificate)
    assert told(without, f"{TLS}|{CLOSES}", host), without


def test_a_receiver_that_nobody_vouches_for(protocol: str, host: str, another: Identity) -> None:
    for given in ({}, {CERTIFICATE: another.certificate}):
        reply = attempt(protocol, f"https://{host}", **given)
        assert told(reply, f"{TLS}.*CERTIFICATE_VERIFY_FAILED", host), reply


def test_files_that_do_not_hold_what_they_are_given_for(
    protocol: str, host: str, own: Identity, another: Identity
) -> None:
    for given in (
        {CERTIFICATE: own.key},
        {
            CERTIFICATE: own.certificate,
            CLIENT_KEY: own.key,
            CLIENT_CERTIFICATE: another.certificate,
        },
    ):
        reply = attempt(protocol, f"https://{host}", **given)
        assert told(reply, TLS, host), reply


def test_tls_where_there_is_none_and_none_where_it_is(protocol: str, host: str) -> None:
    assert told(attempt(protocol, f"http://{host}"), CLOSES, host)
    with RECEIVERS[protocol]() as receiver:
        plain = receiver.endpoint.removeprefix("http://")
        reply = attempt(protocol, f"https://{plain}")
    assert told(reply, f"{TLS}.*WRONG_VERSION_NUMBER", plain), reply


def test_a_receiver_of_the_other_protocol(protocol: str) -> None:
    with RECEIVERS[OTHER[protocol]]() as receiver:
        reply = attempt(protocol, receiver.endpoint)
    host = receiver.endpoint.removeprefix("http://")
    assert told(reply, f"HOST does not speak {protocol}: .*4317 is for grpc", host), reply


def test_a_name_that_stands_for_no_host_is_nothing_that_answers(protocol: str) -> None:
    reply = attempt(protocol, "http://no.such.host.invalid:4317")
    assert told(reply, "nothing answers at HOST$", "no.such.host.invalid:4317"), reply


def test_over_grpc_which_writes_of_each_that_fails_handshakes_become_rare(own: Identity) -> None:
    with TLS_RECEIVERS["grpc"](own, None) as host:
        exporter = made(_to("grpc", f"https://{host}"))
        rests = [exporter.export_request(EncodedRequest(b"", 0)).rest_s for _ in range(11)]
    assert rests == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert exporter.export_request(EncodedRequest(b"", 0)).rest_s == 0  # nothing is there
    exporter.shutdown()


def test_doctor_does_what_the_exporter_does(
    protocol: str, host: str, own: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = _to(protocol, f"https://{host}")
    assert examine(environ) == 1
    said = capsys.readouterr().out
    assert f"\n✗ TLS fails with {host}: " in said
    assert f"otlp, {protocol}, https://{host}: takes nothing\n" in said
    assert examine({**environ, CERTIFICATE: str(own.certificate)}) == 0
    assert f"otlp, {protocol}, https://{host}: answers\n" in capsys.readouterr().out


def test_relative_certificates_are_those_of_the_folder_in_which_the_exporter_is_made(
    protocol: str,
    own: Identity,
    another: Identity,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TLS_RECEIVERS[protocol](own, another.certificate) as host:
        monkeypatch.chdir(folder)
        variables = by(protocol, host, "", own, another)
        exporters = [made(variables)]
        if protocol == "http/protobuf":
            bundle = variables.pop(CERTIFICATE)
            exporters += [made({**variables, name: bundle}) for name in BUNDLES]
        monkeypatch.chdir(tmp_path)
        for exporter in exporters:
            assert exporter.export_request(EncodedRequest(b"", 0)) == Reply()
            exporter.shutdown()


def test_certificates_that_are_away_for_a_while_lose_nothing(
    protocol: str, own: Identity, another: Identity, folder: Path, tmp_path: Path
) -> None:
    with TLS_RECEIVERS[protocol](own, another.certificate) as host:
        variables = by(protocol, host, tmp_path, own, another)
        for variable in (CERTIFICATE, CLIENT_KEY, CLIENT_CERTIFICATE):
            for file in (*own, *another):
                shutil.copy(file, tmp_path)
            exporter = made(variables)
            file = Path(variables[variable])
            file.unlink()
            away = exporter.export_request(EncodedRequest(b"", 0))
            assert away == Reply() or (away.again and str(file) in away.reason), away
            shutil.copy(folder / file.name, file)
            assert exporter.export_request(EncodedRequest(b"", 0)) == Reply()
            exporter.shutdown()
