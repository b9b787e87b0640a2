"""What a user types so that a shell hands it on as it is."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

_QUOTED = "\\'"


def typed(name: str) -> str:
    r"""Return what is typed for the name of a file, or of another source, so that a command takes it for no option.

    Example:
        >>> typed("a run.jsonl"), typed("-x.jsonl"), typed("x\n\udcff.jsonl")
        ("'a run.jsonl'", './-x.jsonl', "$'x\\x0a\\xff.jsonl'")
    """
    return quoted(f"./{name}" if name.startswith("-") and name != "-" else name)


def typed_all(names: Iterable[str]) -> str:
    """Return what is typed for several."""
    return " ".join(map(typed, names))


def quoted(text: str) -> str:
    """Return what a shell makes `text` of."""
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_escaped, text))}'"


def _escaped(character: str) -> str:
    if character.isprintable() and character not in _QUOTED:
        return character
    is_byte = "\udc80" <= character <= "\udcff"  # of a name that is no UTF-8
    content = character.encode(errors="surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in content)
