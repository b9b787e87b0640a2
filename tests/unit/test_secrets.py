"""No secret is shown, wherever it stands."""

from __future__ import annotations

import logging
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from otel_torch_modules._log import report, warn
from otel_torch_modules._misspelt import OURS, STANDARD
from otel_torch_modules._secrets import text_without_secrets, without_secrets
from otel_torch_modules.cli.doctor import examine
from tests.support.examples import examples

SECRET = "s3cr3t"
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
secrets = st.builds("{}{}{}".format, texts, st.just(SECRET), texts)
words = st.text("abcxyz0189.-_", min_size=1, max_size=8)
encoded = secrets.map(lambda text: quote(text, safe=""))
after_host = st.sampled_from(("", "/", "/v1/traces", "/tenant@x/v1", ":4317", ":4317/v1"))


@st.composite
def urls(draw: st.DrawFn) -> str:
    """A URL in which there is a secret: user, password, encoded or not, a parameter, a fragment."""
    scheme = draw(st.sampled_from(("http", "https", "grpc", "HTTP", "redis+tls")))
    host = draw(words | st.sampled_from(("localhost", "[::1]", "10.0.0.1")))
    rest = draw(after_host)
    where = draw(st.sampled_from(("password", "user", "bare", "parameter", "fragment", "list")))
    if where == "password":
        return f"{scheme}://{draw(words)}:{draw(encoded)}@{host}{rest}"
    if where == "user":
        return f"{scheme}://{draw(encoded)}@{host}{rest}"
    if where == "bare":  # as people write it
        return f"{scheme}://{draw(words)}:x{draw(secrets)}@{host}{rest}"
    if where == "parameter":
        return f"{scheme}://{host}{rest}?{draw(words)}={draw(encoded)}"
    if where == "fragment":
        return f"{scheme}://{host}{rest}#{draw(encoded)}"
    return f"{scheme}://{host}{rest},{scheme}://{draw(words)}:{draw(encoded)}@{host}"


secret_values = st.one_of(
    st.tuples(st.sampled_from((*OURS, *STANDARD, "OTEL_OF_OTHERS")), urls()),
    st.tuples(st.sampled_from([name for name in STANDARD if "HEADERS" in name]), secrets),
    st.tuples(st.sampled_from(("OTEL_API_TOKEN", "OTEL_PASSWORD", "OTEL_x_secret")), secrets),
    st.tuples(
        st.sampled_from([name for name in STANDARD if name.endswith("ENDPOINT")]),
        st.builds("{}:x{}@{}:1".format, words, secrets, words),
    ),
    st.tuples(
        st.sampled_from(("OTEL_RESOURCE_ATTRIBUTES", "OTEL_OF_OTHERS_ATTRIBUTES")),
        st.builds(
            "{}{}={}{}".format,
            st.sampled_from(("", "team=a,", "url=http://host/v1,", "mail=me@host,", ",", "a,b=")),
            st.sampled_from(("api.key", "auth-token", "db.password", "DB_PWD", "smtp.pass", "dsn")),
            # Commas are not encoded either as people write it, and what follows looks like another pair.
            encoded | secrets | st.builds("{},{}".format, words, secrets),
            st.sampled_from(("", ",x=y", ",url=http://host")),
        ),
    ),
    st.tuples(
        st.just("OTEL_RESOURCE_ATTRIBUTES"), st.builds("team=a,db.url={},x=y".format, urls())
    ),
)


@given(variable=secret_values)
@settings(max_examples=examples(400), deadline=None)
def test_no_secret_is_left_of_a_value(variable: tuple[str, str]) -> None:
    assert SECRET not in repr(without_secrets(dict([variable])))


@given(url=urls(), before=words, after=st.sampled_from(("", " (refused)", "'", "\n")))
@settings(max_examples=examples(300), deadline=None)
def test_no_secret_is_left_in_a_sentence(url: str, before: str, after: str) -> None:
    url = "".join(url.split()).replace("'", "").replace('"', "").replace("<", "").replace(">", "")
    assert SECRET not in text_without_secrets(f"{before} {url}{after}")


@given(
    name=st.sampled_from(("authorization", "x-api-key", "api_token", "password", "Set-Cookie")),
    value=st.builds("{}{}0123".format, words, st.just(SECRET)),
    form=st.sampled_from(
        (
            "refused {}={}",
            "bad header '{}={}' (400)",
            "{}=Bearer%20{}",
            "{}: Bearer {} is refused",
            "{}: a {}",
            "metadata was invalid: [('{}', 'a {}')]",
            "{{'{}': b'a {}'}}",
        )
    ),
)
@settings(max_examples=examples(100), deadline=None)
def test_no_header_is_left_in_a_sentence(name: str, value: str, form: str) -> None:
    assert SECRET not in text_without_secrets(form.format(name, value))


@pytest.mark.parametrize(
    "sentence",
    [
        "KeyError: 'x'; it is ignored",
        "OTEL_EXPORTER_OTLP_HEADERS: what it is set to (not shown) is not allowed",
        "OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER=acme is not installed; there are: none",
        "no token, no bearer and Basic things",
    ],
)
def test_what_is_no_secret_is_left_in_a_sentence(sentence: str) -> None:
    assert text_without_secrets(sentence) == sentence


# What patterns begin with, or go on with.
PARTS = (
    *("x", "token", "passw-", "key=", "Bearer ", "authorization: "),
    *("http://", "http://a@", "://u", "a://b?", "?a=", "-", ".", "'", ":", ","),
)


@given(unit=st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map("".join))
@settings(max_examples=examples(40), deadline=None)
def test_a_long_text_takes_no_time_that_grows_as_its_square(unit: str) -> None:
    # With the interpreter lock held: as its square, this would take a minute each.
    text = unit * (20_000 // len(unit))
    assert len(text_without_secrets(text)) <= 2 * len(text)
    for name in ("OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        assert len(without_secrets({name: text})[name]) <= 2 * len(text)


def test_what_others_say_is_logged_up_to_a_length(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("otel_torch_modules")
    warn(logger, "%s", "x" * 100_000)
    report(logger, "Spans were lost", error=ValueError("\n".join(map(str, range(100_000)))))
    line, trace = (caplog.handler.format(record) for record in caplog.records)
    assert line.endswith("x" * 2_000 + "…")
    first, *lines, last = trace.splitlines()
    assert first.endswith("Spans were lost")
    assert (lines[0], last) == ("ValueError: 0", "99999")
    assert "… 99600 more lines …" in lines
    assert len(lines) == 400


def test_what_others_say_is_logged_on_one_line_without_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = (
        "Max retries exceeded with url: /v1/traces?api-key=abc (Caused by \x1b[2J)\n'http://u:p@h/'"
    )
    warn(logging.getLogger("otel_torch_modules"), "%d spans: %s", 3, error)
    assert caplog.messages == [
        "3 spans: Max retries exceeded with url: /v1/traces?*** (Caused by \\x1b[2J)\\n'http://***@h/'"
    ]


def test_an_error_is_logged_with_its_traceback_without_secrets(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=team%20s3cr3t, tenant=4")
    try:
        try:
            raise ValueError("bad header value: 'team s3cr3t'")
        except ValueError as error:
            raise OSError("cannot reach http://u:s3cr3t@h/v1\x1b[2J of tenant 4") from error
    except OSError as error:
        report(logging.getLogger("otel_torch_modules"), "Spans were lost", error=error)
    (record,) = caplog.records
    assert record.exc_info is None  # some print the variables of its frames
    first, *lines, last = caplog.handler.format(record).splitlines()
    assert first.endswith("Spans were lost")
    assert lines[0] == "Traceback (most recent call last):"
    assert "ValueError: bad header value: '***'" in lines
    assert last == "OSError: cannot reach http://***@h/v1\\x1b[2J of tenant 4"
    assert SECRET not in "".join(line for line in lines if "raise " not in line)


@given(variable=secret_values)
@example(variable=("OTEL_RESOURCE_ATTRIBUTES", "team=a,db.url=http://u:x,s3cr3t@host,x=y"))
@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_doctor_prints_none(
    variable: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.create_connection", _refuse)  # the hosts are made up
    examine(dict([variable]))
    out, err = capsys.readouterr()
    assert variable[0] in out
    assert SECRET not in out + err


def _refuse(*_: object, **__: object) -> None:
    raise ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:pass@host:4317/v1", "https://***@host:4317/v1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "me:pass@host:4317", "***@host:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:p@[::1]:4317", "http://***@[::1]:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:p/q@host", "http://***@host"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:p@/q@host", "http://***@host"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:p@q/r@host", "http://***@host"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h/v1?k=v", "http://h/v1?***"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=x", "(set)"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "", ""),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,db.password=x", "a=b,db.password=***"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,db.password=x,y,c=d", "a=b,db.password=***"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a,b=api.key=x", "a,b=api.key=***"),
        *(
            (name, harmless, harmless)
            for name, harmless in (
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://host/@tenant/v1"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///run/otel.sock"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "host:4317"),
                ("OTEL_TORCH_MODULES_FILE", "/data/key=5/me@home/{pid}.jsonl"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.version=1,team=a"),
            )
        ),
    ],
)
def test_what_is_shown(name: str, value: str, shown: str) -> None:
    assert without_secrets({name: value}) == {name: shown}
