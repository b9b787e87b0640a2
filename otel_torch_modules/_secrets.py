"""What must not be printed of a variable: passwords in URLs, header values, keys.

A password may stand anywhere where a URL may, so every value is looked at, not only those of variables that are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

HIDDEN = "***"

_SECRET = re.compile(r"header|key|token|passw|secret|credential|auth|cookie", re.IGNORECASE)
_ENDPOINT = re.compile(r"_(ENDPOINT|PROXY|URL)$", re.IGNORECASE)  # may do without `scheme://`
_ATTRIBUTES = re.compile(r"_ATTRIBUTES$", re.IGNORECASE)
_USERINFO = re.compile(r"[^/?#]*@")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@/?#,\s\[\]]*)(:[0-9]+)?(?=[/?#]|$)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FURTHER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)")
_PARAMETERS = re.compile(r"[?#].*", re.DOTALL)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]+)")
_QUERY = re.compile(r"\?[^\s'\"=?]+=[^\s'\")]*")
_PAIR = re.compile(r"([^,=]+=)([^,]*)")


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` as it may be shown.

    Example:
        >>> without_secrets({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:pass@host:4317"})
        {'OTEL_EXPORTER_OTLP_ENDPOINT': 'https://***@host:4317'}
    """
    return {name: _without_secrets(name, value) for name, value in environ.items()}


def is_secret(name: str) -> bool:
    """Return whether nothing of what a variable of this name says may be shown."""
    return bool(_SECRET.search(name))


def text_without_secrets(text: str) -> str:
    """Return a sentence as it may be shown: without what is secret in the URLs and the parameters in it.

    Example:
        >>> text_without_secrets("cannot reach 'http://me:pass@host/v1?key=1'")
        "cannot reach 'http://***@host/v1?***'"
    """
    text = _URL.sub(lambda url: url[1] + _shown_url(url[2]), text)
    return _QUERY.sub(f"?{HIDDEN}", text)


def _without_secrets(name: str, value: str) -> str:
    if is_secret(name):
        return "(set)" if value.strip() else value
    scheme = _SCHEME.match(value)
    if scheme:
        value = scheme[0] + _shown_url(value[scheme.end() :])
    elif "://" in value or _ENDPOINT.search(name):
        value = _shown_url(value)
    if _ATTRIBUTES.search(name):
        return _PAIR.sub(lambda of: of[1] + HIDDEN if _SECRET.search(of[1]) else of[0], value)
    return value


def _shown_url(rest: str) -> str:
    """Return what follows the scheme without user, password and parameters."""
    userinfo = _USERINFO.match(rest)
    host_at = userinfo.end() if userinfo else 0
    if _HOST_AND_PORT.match(rest, host_at):
        this, *following = _FURTHER.split(rest[host_at:], maxsplit=1)
        parameters = _PARAMETERS.search(this)
        path = this[: parameters.start()] if parameters else this
        shown = path + (f"{parameters[0][0]}{HIDDEN}" if parameters else "")
        # A password that is not encoded may have an @, and what looks like a path or like parameters.
        if userinfo and parameters and "@" in parameters[0]:
            shown = HIDDEN
        elif userinfo:
            shown = f"{HIDDEN}@{shown.rpartition('@')[2]}"
        return shown + (following[0] + _shown_url(following[1]) if following else "")
    # Several URLs, or one whose password is not encoded as it must be: all up to the last user may be secret.
    before, at, after = rest.rpartition("@")
    return f"{HIDDEN}@{after}" if at else before + after
