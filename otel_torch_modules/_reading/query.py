"""Which traces are asked for: which service's, since when, of which run; and how a backend is asked."""

from __future__ import annotations

import base64
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._printable import printable
from otel_torch_modules._reading.json_documents import loads
from otel_torch_modules._reading.progress import ReadingProgress, Unseen
from otel_torch_modules._reading.source_error import SourceError

_TIME_LIMIT_S = 60.0
_PIECE = 1 << 16  # bytes

UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
"""What `--since` is given in, the longest first."""


class Query(NamedTuple):
    """Which traces are wanted, whole, of files and backends: those with spans of all that is asked for.

    `progress` is told how far the reading is.
    """

    service: str | None = (
        None  # `service.name`; None: any of files, of Jaeger the only one that there is
    )
    since_s: float | None = None  # began how long before now at most; None: any of files
    run: str | None = None  # `torch.distributed.run_id`; None: any
    limit: int = 2000  # traces of a backend
    phase: str = (
        semconv.PHASE_STEP
    )  # of the span that they are looked for by: a step's, or a stall's
    progress: ReadingProgress = Unseen()

    @property
    def wanted(self) -> str:
        """What a backend is searched for, in a sentence."""
        return "stall" if self.phase == semconv.PHASE_STALL else "trace"

    @property
    def searched_s(self) -> float:
        """How long before now a backend's search begins: none goes without."""
        return 3600.0 if self.since_s is None else self.since_s


class Backend:
    """A server's query API at a URL. Tokens come from `{NAME}_BEARER_TOKEN` and `{NAME}_ORG_ID`, or the URL.

    Args:
        name: of the backend, as in ``jaeger=http://host:16686``.
        url: where its API is.
        progress: is told of what comes; nobody knows how much that will be.
    """

    def __init__(self, name: str, url: str, progress: ReadingProgress) -> None:
        self._progress = progress
        parts = _address(url)
        if parts is None:
            raise SourceError(f"{name}={printable(url)}: that is no http:// or https:// address")
        self._headers: dict[str, str] = {}
        place = parts.netloc.rpartition("@")[2]
        if parts.username:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        for variable, header, value in (
            ("BEARER_TOKEN", "Authorization", "Bearer {}"),
            ("ORG_ID", "X-Scope-OrgID", "{}"),
        ):
            found = os.environ.get(f"{name.upper()}_{variable}", "").strip()
            if not (found.isascii() and found.isprintable()):
                # Which one is not said: it is secret.
                raise SourceError(
                    f"{name.upper()}_{variable} has a character that no header may have"
                )
            if found:
                self._headers[header] = value.format(found)
        self._url = f"{parts.scheme}://{place}{parts.path.rstrip('/')}"
        self.said = printable(f"{name}={self._url}")

    def get(self, path: str, accept: str = "application/json", **parameters: str) -> bytes | None:
        """Return what the server answers; None where there is nothing.

        Raises:
            SourceError: it does not answer, or refuses.
        """
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        request = urllib.request.Request(
            self._url + path + query, headers={**self._headers, "Accept": accept}
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIME_LIMIT_S) as response:
                pieces = []
                while piece := response.read1(_PIECE):
                    pieces.append(piece)
                    self._progress.advance(len(piece))
                if response.length:  # of what was announced
                    raise http.client.IncompleteRead(b"", response.length)
                return b"".join(pieces)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            said = error.read(200).decode("utf-8", "replace").strip()
            raise SourceError(
                f"{self.said} answers {error.code} to {path}: {printable(said or error.reason)}"
            ) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise SourceError(f"{self.said} cannot be read: {printable(str(reason))}") from error
        except http.client.HTTPException as error:
            raise SourceError(
                f"{self.said} cannot be read: what it answers is no HTTP, or ends too early"
            ) from error

    def get_json(self, path: str, **parameters: str) -> Any:
        """Return the server's answer, read as JSON.

        Raises:
            SourceError: it does not answer, or refuses, or has nothing there: it is another server.
        """
        content = self.get(path, **parameters)
        if content is None:
            raise SourceError(
                f"{self.said} answers 404 to {path}: that is not the address of a query API"
            )
        try:
            return loads(content)
        except ValueError as error:
            raise SourceError(f"{self.said} answers to {path} with what is no JSON") from error


def _address(url: str) -> urllib.parse.SplitResult | None:
    """Return the parts of an address that can be asked; None of what is none."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    place = parts.netloc.rpartition("@")[2] + parts.path
    is_one = parts.scheme in ("http", "https") and parts.hostname and port != 0
    return parts if is_one and place.isprintable() and " " not in place else None
