"""What a terminal obeys, and what does not show, is an escape; all else is as it was."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from otel_torch_modules._printable import printable

# https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters, and what has no width or ends a line.
OBEYED = "".join(
    map(
        chr,
        (
            *range(0x20),
            *range(0x7F, 0xA0),
            0x61C,
            *range(0x200B, 0x2010),
            *range(0x2028, 0x202F),
            *range(0x2060, 0x2070),
            0xFEFF,
            0xD800,
            0xDFFF,
            0xE0041,
        ),
    )
)


def test_of_all_characters_those_that_show_are_left() -> None:
    every = list(map(chr, range(sys.maxunicode + 1)))
    hidden = [one for one in every if one != " " and unicodedata.category(one)[0] in "CZ"]
    shown = "".join(every).translate(dict.fromkeys(map(ord, hidden)))
    assert printable(shown) == shown
    assert printable("".join(hidden)) == ascii("".join(hidden))[1:-1]


@pytest.mark.parametrize("character", OBEYED, ids=ascii)
def test_what_is_obeyed_is_an_escape(character: str) -> None:
    assert printable(f"h.0{character}[2J") == f"h.0{ascii(character)[1:-1]}[2J"


@pytest.mark.parametrize("text", ["", "h.0", "層 0 → größe ✗", "[red]x[/red]", "👩 e\u0301"])
def test_what_people_write_is_as_it_was(text: str) -> None:
    assert printable(text) == text
