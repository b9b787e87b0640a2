"""What must not be printed of a variable: passwords in URLs, header values, keys.

A password may stand anywhere where a URL may, so every value is looked at, not only those of variables that are known.

Texts are of others, and a pattern is looked for with the interpreter lock held, while nothing else in the process goes
on: what no pattern begins with has a bound, so that the time grows as the text does and not as its square.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote

HIDDEN = "***"

_SHORTEST = 6  # characters of a header's value that stand for nothing else
_WORDS = "header|key|token|pass|pwd|secret|credential|auth|cookie|dsn"
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_ENDPOINT = re.compile(r"_(ENDPOINT|PROXY|URL)$", re.IGNORECASE)  # may do without `scheme://`
_ATTRIBUTES = re.compile(r"_ATTRIBUTES$", re.IGNORECASE)
_USERINFO = re.compile(r"[^/?#]*@")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@/?#,\s\[\]]*)(:[0-9]+)?(?=[/?#]|$)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,63}://")
_FURTHER = re.compile(rf"({_SCHEME.pattern})")
_PARAMETERS = re.compile(r"[?#].*", re.DOTALL)
_URL = re.compile(rf"({_SCHEME.pattern})([^\s'\"<>]+)")
_QUERY = re.compile(r"\?[^\s'\"=?]+=[^\s'\")]*")
# In a value too: "a,b=key=…".
_ATTRIBUTE = re.compile(rf"(?:{_WORDS})[^,=]{{0,255}}=", re.IGNORECASE)
_NAME = r"(?:token|passw|secret|api[._-]?key|authorization|cookie)[\w.-]{0,63}"  # from the word on
_ASSIGNED = re.compile(rf"({_NAME}=)[^\s'\"]+", re.IGNORECASE)
_HEADER = re.compile(rf"({_NAME}: )[^'\"]+", re.IGNORECASE)  # it may have blanks
# Of a dictionary, or a tuple.
_PAIR = re.compile(rf"({_NAME}['\"][:,] ?b?['\"])[^'\"]+", re.IGNORECASE)
_BEARER = re.compile(r"\b((?:Bearer|Basic) )[\w+/=.~-]{8,}", re.IGNORECASE)


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
    """Return a sentence as it may be shown: without what is secret in URLs, parameters, pairs and headers in it.

    Example:
        >>> text_without_secrets("cannot reach 'http://me:pass@host/v1?key=1'")
        "cannot reach 'http://***@host/v1?***'"
    """
    for value in _header_values(os.environ):
        text = text.replace(value, HIDDEN)
    text = _URL.sub(lambda url: url[1] + _shown_url(url[2]), text)
    text = _QUERY.sub(f"?{HIDDEN}", text)
    for follows in (_ASSIGNED, _BEARER, _HEADER, _PAIR):
        text = follows.sub(rf"\1{HIDDEN}", text)
    return text


def _header_values(environ: Mapping[str, str]) -> list[str]:
    """Return what variables say that headers have, the longest first, as it stands there and decoded."""
    pairs = [
        pair
        for name, value in environ.items()
        if name.upper().endswith("_HEADERS")
        for pair in value.split(",")
    ]
    values = {pair.partition("=")[2].strip() for pair in pairs}
    values |= set(map(unquote, values))
    return sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)


def _without_secrets(name: str, value: str) -> str:
    if is_secret(name):
        return "(set)" if value.strip() else value
    if _ATTRIBUTES.search(name):
        return _shown_attributes(value)
    scheme = _SCHEME.match(value)
    if scheme:
        value = scheme[0] + _shown_url(value[scheme.end() :])
    elif "://" in value or _ENDPOINT.search(name):
        value = _shown_url(value)
    return value


def _shown_attributes(value: str) -> str:
    """Return pairs with commas up to the first that is secret: where that ends nobody knows, as it may have commas."""
    secret = _ATTRIBUTE.search(value)
    shown = value[: secret.end()] if secret else value
    scheme = _SCHEME.search(shown)
    if scheme:
        shown = shown[: scheme.end()] + _shown_url(shown[scheme.end() :])
    return shown + HIDDEN if secret else shown


def _shown_url(rest: str) -> str:
    """Return what follows the scheme, further URLs in it too, without user, password and parameters."""
    shown = ""
    while True:
        userinfo = _USERINFO.match(rest)
        host_at = userinfo.end() if userinfo else 0
        if not _HOST_AND_PORT.match(rest, host_at):
            # Several URLs, or one whose password is not encoded as it must be: all up to the last user may be secret.
            before, at, after = rest.rpartition("@")
            return shown + (f"{HIDDEN}@{after}" if at else before + after)
        this, *following = _FURTHER.split(rest[host_at:], maxsplit=1)
        shown += _shown_one(this, has_user=userinfo is not None)
        if not following:
            return shown
        scheme, rest = following
        shown += scheme


def _shown_one(rest: str, *, has_user: bool) -> str:
    parameters = _PARAMETERS.search(rest)
    path = rest[: parameters.start()] if parameters else rest
    # A password that is not encoded may have an @, and what looks like a path or like parameters.
    if has_user and parameters and "@" in parameters[0]:
        return HIDDEN
    shown = path + (f"{parameters[0][0]}{HIDDEN}" if parameters else "")
    return f"{HIDDEN}@{shown.rpartition('@')[2]}" if has_user else shown
