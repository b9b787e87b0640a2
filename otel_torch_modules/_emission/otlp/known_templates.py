"""Templates by what they are of: another place whose spans are told alike, as a copy of a model has them, makes none.

To make one takes a hundred times as long as to write a span from it, and a program that copies or wraps its model in
each step has new places in each. What comes again under the same names is found here, whatever became of the model.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from typing import Any, Final

from otel_torch_modules._emission.otlp.block import Alike, Template
from otel_torch_modules._interruption import is_interruption

_MOST_KNOWN: Final = 2_048  # of three copies, side by side, of a model of some two hundred modules
_MOST_BYTES: Final = 4 << 20
_BY_CONTENT: Final = 2  # the last version that does not ask which objects are the same one


class KnownTemplates:
    """The templates that one encoder made last."""

    def __init__(self) -> None:
        self._known: dict[bytes, Template] = {}  # the one used last comes last
        self._bytes = 0

    def get(self, content: bytes | None) -> Template | None:
        """Return the template of `content`, if it is known."""
        if content is None:
            return None
        template = self._known.pop(content, None)
        if template is not None:
            self._known[content] = template
        return template

    def put(self, content: bytes | None, template: Template) -> None:
        """Keep `template` for `content`, and let go of those that were used least lately."""
        if content is None:
            return
        self._known[content] = template
        self._bytes += _size(content, template)
        while len(self._known) > _MOST_KNOWN or self._bytes > _MOST_BYTES:
            oldest = next(iter(self._known))
            self._bytes -= _size(oldest, self._known.pop(oldest))


def content_of(attributes: Mapping[str, Any], alike: Alike) -> bytes | None:
    """Return what the bytes of a span depend on in one language; None where that is not to be told.

    So written, ``True`` is another thing than ``1`` and ``1.0``, which are equal, and a text of a class of the
    program's, which may say of itself what it likes, is refused.
    """
    _, name, kind, flags, linked, remote, keys = alike
    varying = [(key.name, key.type.__name__) for key in keys]
    content = (name, kind, flags, linked, remote, varying, [*attributes.items()])
    try:
        return marshal.dumps(content, _BY_CONTENT)
    except ValueError as error:
        if is_interruption(error):
            raise
        return None


def _size(content: bytes, template: Template) -> int:
    return len(content) + len(template.name) + len(template.attributes)
