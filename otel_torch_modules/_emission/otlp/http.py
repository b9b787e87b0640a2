"""OTLP over HTTP: sends what is encoded already, one attempt at a time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.http.version import __version__
from requests.adapters import HTTPAdapter
from urllib3 import Timeout
from urllib3.exceptions import HTTPError, ReadTimeoutError

from otel_torch_modules._emission.clocks import monotonic, seconds_since_epoch
from otel_torch_modules._emission.otlp.bounded_answers import BoundedAnswers
from otel_torch_modules._emission.otlp.connection import Connection, absolute, credentials
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._emission.otlp.signal import TRACES, Signal
from otel_torch_modules._emission.otlp.unanswered_http import over_http
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._otlp_values import HTTP
from otel_torch_modules._texts import error_type

_MOST_BYTES = 1 << 16  # of what a receiver says beside its status
_TAKES = range(200, 300)
_AGAIN = {429, 502, 503, 504}  # https://opentelemetry.io/docs/specs/otlp/#failures-1

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


# What `requests` raises where nothing, or not all, has been said.
_LOST = (requests.exceptions.ConnectionError, requests.exceptions.Timeout)


class HttpRequestExporter(RequestExporter):
    """Sends as the standard exporter does.

    Args:
        values: OpenTelemetry's variables, without what cannot be read.
        signal: what is sent.
    """

    def __init__(self, values: Mapping[str, str], signal: Signal = TRACES) -> None:
        self._connection = connection = Connection.over_http(values, signal)
        given = credentials(HTTP, requests.Session, values, signal)
        self._session = given or requests.Session()
        for scheme, adapter in list(self._session.adapters.items()):
            if type(adapter) is HTTPAdapter:  # another one is of who gave the session
                self._session.mount(scheme, BoundedAnswers(max_retries=adapter.max_retries))
        # Said with each request: the session's own, and True, give way to what variables of `requests` say.
        self._verify = connection.certificate or (None if given else _bundle(values))
        if connection.client_certificate:
            key = connection.client_key
            pair = (connection.client_certificate, key)
            self._session.cert = pair if key else connection.client_certificate
        self._headers = {
            "accept-encoding": "identity",  # what is packed has no length that is known
            "content-type": "application/x-protobuf",
            "user-agent": f"OTel-OTLP-Exporter-Python/{__version__}",
            **connection.headers,
        }
        if connection.compression:
            self._headers["content-encoding"] = connection.compression
        self.set_up(connection.place, connection.timeout_s, signal)

    def attempt(self, request: EncodedRequest) -> Reply:
        """Send `request` once, in the time that ``OTEL_EXPORTER_OTLP_TIMEOUT`` allows."""
        try:
            response, body = self._post(_COMPRESS[self._connection.compression](request.data))
        except requests.RequestException as error:
            if is_interruption(error):
                raise
            if isinstance(error, _LOST):
                reason = over_http(self.place, error) or self.silence
                return Reply(error_type(error), reason, again=True)
            return Reply(error_type(error), f"{self.place}: {error}")
        except OSError as error:
            if is_interruption(error):
                raise
            # A certificate cannot be read: it may be about to be renewed.
            return Reply(error_type(error), f"{self.place}: {error}", again=True)
        status = response.status_code
        if status not in _TAKES:
            reason = f"{self.place} answers {status} {response.reason or ''}".rstrip()
            return Reply(str(status), reason, status in _AGAIN, _wanted_pause(response))
        with suppressed(DecodeError):
            return self.taken(self.signal.response.FromString(body), request)
        if response.headers.get("content-type", "").lower().startswith("text/html"):
            return Reply("200", f"{self.place} answers with a web page: it is no receiver of OTLP")
        return TAKEN  # a proxy may answer in words of its own

    def _post(self, data: bytes) -> tuple[requests.Response, bytes]:
        deadline = monotonic() + self._connection.timeout_s
        try:
            return self._once(data, self._connection.timeout_s)
        except _LOST as error:
            if is_interruption(error):
                raise
            left_s = deadline - monotonic()
            if left_s <= 0:
                raise
            return self._once(data, left_s)  # the connection may have been an old one

    def _once(self, data: bytes, timeout_s: float) -> tuple[requests.Response, bytes]:
        response = self._session.post(
            self._connection.endpoint,
            data=data,
            headers=self._headers,
            verify=self._verify,
            timeout=Timeout(total=timeout_s),  # type: ignore[arg-type]  # not what the stubs know
            allow_redirects=False,
            stream=True,
            hooks={"response": _leads_nowhere},
        )
        try:
            return response, _body(response)
        finally:
            response.close()  # with its connection, unless all of it was read

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Break off what is being tried, and close the session."""
        super().shutdown(timeout_millis)
        self._session.close()


def _leads_nowhere(response: requests.Response, **_: Any) -> None:
    """`requests` reads, and unpacks, all that is said by one who sends elsewhere."""
    response.headers.pop("location", None)


def _body(response: requests.Response) -> bytes:
    """Return what is said beside the status: as it came, of one that has taken the request, up to a length."""
    if response.status_code not in _TAKES:
        return b""
    try:
        return response.raw.read(_MOST_BYTES, decode_content=False)  # type: ignore[no-any-return]
    except ReadTimeoutError as error:
        if is_interruption(error):
            raise
        raise requests.ReadTimeout(error) from error
    except HTTPError as error:
        if is_interruption(error):
            raise
        raise requests.ConnectionError(error) from error


def _bundle(values: Mapping[str, str]) -> str:
    """Return the certificates that receivers are checked by where OpenTelemetry's variables name none."""
    named = values.get("REQUESTS_CA_BUNDLE") or values.get("CURL_CA_BUNDLE")
    return absolute(named or requests.utils.DEFAULT_CA_BUNDLE_PATH)


def _wanted_pause(response: requests.Response) -> float:
    """Return the seconds that the header ``Retry-After`` asks for: a number of them, or a date, in GMT."""
    text = (response.headers.get("retry-after") or "").strip()
    if text.isdecimal():
        return float(text)
    with suppressed(TypeError, ValueError, OverflowError):
        return (
            parsedate_to_datetime(text).replace(tzinfo=timezone.utc).timestamp()
            - seconds_since_epoch()
        )
    return 0.0
