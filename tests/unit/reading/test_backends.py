"""Query APIs as they are documented, asked of a server that answers what was written down.

Jaeger itself is asked in tests/backends. Tempo's program was not at hand: its answers are those of its documentation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.source_error import SourceError
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.main import main
from tests.support.served import served
from tests.unit.reading.test_formats import protobuf, whole

Write = Callable[..., Path]
Answer = tuple[int, bytes]


class Server:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {key.lower(): value for key, value in self.headers.items()}
                owner.asked.append((parts.path, parse_qs(parts.query), headers))
                code, content = owner.answers.get(parts.path, (404, b""))
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    with served(running.http):
        yield running


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_tempo(
    server: Server, write_traces: Write, step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_traces(step(0), step(1, 100))
    ids = ["1", "2"]  # leading zeros are left out in answers to a search
    found = [{"traceID": trace_id, "rootTraceName": "train.step"} for trace_id in ids]
    server.answers["/api/search"] = (200, json.dumps({"traces": found, "metrics": {}}).encode())
    for trace_id, line in zip(ids, lines_of(path), strict=True):
        server.answers[f"/api/traces/{trace_id:>032}"] = (200, protobuf(line))
    monkeypatch.setenv("TEMPO_BEARER_TOKEN", "secret")
    monkeypatch.setenv("TEMPO_ORG_ID", "team")
    read = Traces.read(f"tempo={server.url}", query=Query("train", run='r"1'))
    assert [*map(whole, read.roots)] == [*map(whole, Traces.read(path).roots)]
    search, *traces = server.asked
    assert search[1]["q"] == [
        '{ span.torch.phase = "step" && resource.service.name = "train" && '
        'resource.torch.distributed.run_id = "r\\"1" }'
    ]
    assert int(search[1]["end"][0]) - int(search[1]["start"][0]) == 3660
    assert search[1]["limit"] == ["2000"]
    assert [headers["accept"] for _, _, headers in traces] == ["application/protobuf"] * 2
    assert {headers["authorization"] for *_, headers in server.asked} == {"Bearer secret"}
    assert {headers["x-scope-orgid"] for *_, headers in server.asked} == {"team"}
    assert read.name == f"tempo={server.url}"


def test_jaeger(server: Server, write_traces: Write, step: Any) -> None:
    path = write_traces(step(0), step(1, 100), step(2, 200))
    documents = [json.dumps({"result": json.loads(line)}) for line in lines_of(path)]
    server.answers["/api/v3/services"] = (200, b'{"services": ["jaeger", "train"]}')
    server.answers["/api/v3/traces"] = (200, "\n".join(documents).encode())
    url = server.url.replace("http://", "http://me:pass%20word@")
    read = Traces.read(f"jaeger={url}/", query=Query(since_s=60, limit=3))
    assert [*map(whole, read.roots)] == [*map(whole, Traces.read(path).roots)]
    (_, asked, headers) = server.asked[1]
    assert (asked["query.service_name"], asked["query.num_traces"]) == (["train"], ["3"])
    assert headers["authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    assert list(read.losses()) == [
        f"jaeger={server.url}: the search ended at its limit of 3 traces; --limit asks for more"
    ]
    assert "pass" not in read.name


class Noted:
    """Notes how far the reading is."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int | None]] = []
        self.bytes = self.ends = 0

    def begin(self, name: str, size: int | None) -> None:
        self.said.append((name, size))

    def advance(self, count: int) -> None:
        self.bytes += count

    def end(self) -> None:
        self.ends += 1


@pytest.mark.parametrize("backend", ["jaeger", "tempo"])
def test_it_is_told_how_much_has_come(
    server: Server, write_traces: Write, step: Any, backend: str
) -> None:
    (line,) = lines_of(write_traces(step(0)))
    document = json.dumps({"result": json.loads(line)})
    of_search = "\n".join([document] * 300).encode()  # more than comes at once
    answers = {
        "/api/v3/services": b'{"services": ["train"]}',
        "/api/v3/traces": of_search,
        "/api/search": b'{"traces": [{"traceID": "1"}]}',
        f"/api/traces/{1:032}": protobuf(line),
    }
    server.answers = {path: (200, content) for path, content in answers.items()}
    noted = Noted()
    Traces.read(f"{backend}={server.url}", query=Query(progress=noted))
    assert noted.said == [(backend, None)]
    assert noted.bytes == sum(len(answers[path]) for path, *_ in server.asked)
    assert noted.ends == 1
    server.answers = {}
    with pytest.raises(SourceError):
        Traces.read(f"{backend}={server.url}", query=Query(progress=noted))
    assert noted.ends == 2


def test_stalls_are_asked_for_by_what_they_are(
    server: Server, write_traces: Write, sample: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {
        "torch.step": 7,
        "torch.stall.reason": "no_progress",
        "torch.stall.duration": 60,
        "torch.stall.place": "forward GPT.h.1",
        "torch.stall.frames": "train.py:9",
    }
    rank = sample("rank 0", "rank", 0, 60_000, (), {**about, "torch.distributed.rank": 0})
    path = write_traces(sample("train.stall", "stall", 0, 60_000, (rank,), about))
    (line,) = lines_of(path)
    server.answers["/api/v3/services"] = (200, b'{"services": ["train"]}')
    server.answers["/api/v3/traces"] = (200, json.dumps({"result": json.loads(line)}).encode())
    server.answers["/api/search"] = (200, b'{"traces": [{"traceID": "1"}]}')
    server.answers[f"/api/traces/{1:032}"] = (200, protobuf(line))
    assert main(["stalls", str(path)]) == 0
    expected = capsys.readouterr().out
    assert expected.endswith("Rank 0 is in forward GPT.h.1, train.py:9.\n\n")
    for name in ("jaeger", "tempo"):
        assert main(["stalls", f"{name}={server.url}", "--since", "12h"]) == 0
        assert capsys.readouterr().out == expected
    asked = {path: parameters for path, parameters, _ in server.asked}
    assert asked["/api/v3/traces"]["query.operation_name"] == ["train.stall"]
    assert asked["/api/search"]["q"] == ['{ span.torch.phase = "stall" }']


@pytest.mark.parametrize("name", ["jaeger", "tempo"])
def test_where_there_is_no_stall_that_is_said_and_not_that_there_is_no_trace(
    name: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[SERVICES] = (200, b'{"services": ["train"]}')
    server.answers["/api/search"] = (200, b'{"traces": []}')
    source = f"{name}={server.url}"
    assert main(["stalls", source]) == 2
    said = capsys.readouterr().err
    which = {"jaeger": "of train", "tempo": 'that { span.torch.phase = "stall" } finds'}[name]
    assert said == (
        f"otel-torch-modules: {source} has no stall {which} since then; --since 1d looks further back\n"
    )


SERVICES = "/api/v3/services"


@pytest.mark.parametrize(
    ("source", "answers", "told"),
    [
        (
            "jaeger={url}",
            {SERVICES: (200, b"{}")},
            "knows no service: nothing has been sent to it yet",
        ),
        (
            "jaeger={url}",
            {SERVICES: (200, b'{"services": ["b", "a\\u001b[2J"]}')},
            "knows 2 services; choose one by --service: a\\x1b[2J, b",
        ),
        (
            "jaeger={url}",
            {SERVICES: (200, b"<html>")},
            f"answers to {SERVICES} with what is no JSON",
        ),
        (
            "jaeger={url}",
            {SERVICES: (200, b"[" * 100_000)},
            f"answers to {SERVICES} with what is no JSON",
        ),
        (
            "jaeger={url}",
            {SERVICES: (200, b'{"services": ["a"]}'), "/api/v3/traces": (200, b"[" * 100_000)},
            "answers with what is no JSON",
        ),
        (
            "jaeger={url}",
            {SERVICES: (200, b'{"services": []}')},
            "knows no service: nothing has been sent to it yet",
        ),
        *(
            ("jaeger={url}", {SERVICES: (200, odd)}, f"answers to {SERVICES} as no Jaeger does")
            for odd in (b'{"services": 5}', b'{"status": "ok"}', b"[]", b"null")
        ),
        (
            "jaeger={url}",
            {},
            f"answers 404 to {SERVICES}: that is not the address of a query API",
        ),
        (
            "tempo={url}",
            {},
            "answers 404 to /api/search: that is not the address of a query API",
        ),
        (
            "jaeger={url}",
            {SERVICES: (401, b"who\nare you")},
            f"answers 401 to {SERVICES}: who\\nare you",
        ),
        (
            "jaeger={url}",
            {SERVICES: (200, b'{"services": ["a"]}')},
            "has no trace of a since then; --since 1d looks further back",
        ),
        (
            "tempo={url}",
            {"/api/search": (200, b'{"traces": []}')},
            'has no trace that { span.torch.phase = "step" } finds since then; --since 1d looks further back',
        ),
        (
            "tempo={url}",
            {"/api/search": (500, b"")},
            "answers 500 to /api/search: Internal Server Error",
        ),
    ],
)
def test_what_a_server_has_not_is_said(
    source: str, answers: dict[str, Answer], told: str, server: Server
) -> None:
    server.answers = answers
    with pytest.raises(SourceError) as caught:
        Traces.read(source.format(url=server.url))
    assert str(caught.value) == f"{source.format(url=server.url)} {told}"


NAMES = st.sampled_from(
    [
        *("services", "result", "resourceSpans", "resource", "attributes", "key", "value"),
        *("stringValue", "scopeSpans", "spans", "traceId", "spanId", "traces", "traceID"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["train", "jaeger", "torch.distributed.run_id", "r1", "1" * 32, 10**30])
)
ANSWERS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=20,
).map(lambda answer: json.dumps(answer).encode())
ODD = st.sampled_from(
    [b"", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"[1e999, NaN]", b'"\xff', b"{}{"]
)


@given(
    st.sampled_from(["jaeger", "tempo"]),
    st.dictionaries(
        st.sampled_from([SERVICES, "/api/v3/traces", "/api/search", f"/api/traces/{'1' * 32}"]),
        st.lists(ANSWERS, min_size=1, max_size=2).map(b" ".join) | ODD | st.binary(max_size=20),
    ),
    st.sampled_from([Query(), Query("train"), Query("train", run="r1")]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_a_server_answers_is_read_or_refused_by_name(
    server: Server, kind: str, answers: dict[str, bytes], query: Query
) -> None:
    server.answers = {path: (200, answer) for path, answer in answers.items()}
    with suppress(SourceError):
        Traces.read(f"{kind}={server.url}", query=query)


@pytest.mark.parametrize("kind", ["jaeger", "tempo"])
@pytest.mark.parametrize(
    "url",
    [
        *("", "host:1", "file:///etc/passwd", "http://", "http://h:abc", "http://h:99999"),
        *("http://h:0", "http://[::1", "http://a b", "http://h/a b", "http://h\x1b[2J"),
    ],
)
def test_what_is_no_address_is_named(kind: str, url: str) -> None:
    with pytest.raises(SourceError, match=r"that is no http:// or https:// address"):
        Traces.read(f"{kind}={url}")


@pytest.mark.parametrize("kind", ["jaeger", "tempo"])
def test_a_server_that_does_not_answer_is_said(kind: str) -> None:
    with pytest.raises(SourceError) as caught:
        Traces.read(f"{kind}=http://127.0.0.1:9")
    assert str(caught.value).startswith(f"{kind}=http://127.0.0.1:9 cannot be read: ")


@pytest.mark.parametrize("since", ["1", "h", "0h", "1w", "-1h", "\u0661h"])
def test_a_time_that_is_none_is_named(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["why", f"--since={since}", "x"])
    assert f"{since!r} is not a time as 30m, 1h or 2d" in capsys.readouterr().err


def test_a_service_is_not_missed_by_what_is_no_jaeger(server: Server) -> None:
    with pytest.raises(SourceError, match=r"answers 404 to /api/v3/services: that is not"):
        Traces.read(f"jaeger={server.url}", query=Query("train"))


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        b"\0",
    ],
)
@pytest.mark.parametrize("kind", ["jaeger", "tempo"])
def test_what_speaks_no_http_is_said(kind: str, answer: bytes) -> None:
    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)  # what is left unread would reset the connection
            self.wfile.write(answer)

    running = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    source = f"{kind}=http://127.0.0.1:{running.server_address[1]}"
    with served(running), pytest.raises(SourceError) as caught:
        Traces.read(source)
    assert str(caught.value).startswith(f"{source} cannot be read: ")


@pytest.mark.parametrize("token", ["two\nlines", "\x1b[2J", "\u20ac"])
def test_a_token_that_cannot_be_sent_is_named_and_not_shown(
    token: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPO_BEARER_TOKEN", f"secret{token}secret")
    with pytest.raises(SourceError) as caught:
        Traces.read(f"tempo={server.url}")
    assert str(caught.value) == "TEMPO_BEARER_TOKEN has a character that no header may have"
    assert server.asked == []


def test_the_line_feed_that_a_token_was_read_with_is_not_sent(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPO_BEARER_TOKEN", "secret\n")
    with pytest.raises(SourceError):
        Traces.read(f"tempo={server.url}")
    assert server.asked[0][2]["authorization"] == "Bearer secret"
