"""Text in the cells that a terminal gives it: two for a letter of some scripts, none for an accent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len


def wrapped(text: str, width: int, first: str = "", others: str | None = None) -> Iterator[str]:
    """Yield the lines of a paragraph of at most `width` cells; none where there is no word.

    Args:
        text: its words. One that is wider than a line is broken.
        width: of a line, at least 1.
        first: what the first line begins with.
        others: what all others do; blanks as wide as `first`, if not given.

    Example:
        >>> list(wrapped("one two three", 9, "* "))
        ['* one two', '  three']
    """
    rest = " " * cell_len(first) if others is None else others
    line, empty = first, True
    for word in text.split():
        for piece in _pieces(word, max(width - max(cell_len(first), cell_len(rest)), 1)):
            blank = "" if empty else " "
            if not empty and cell_len(line) + len(blank) + cell_len(piece) > width:
                yield line
                line, blank = rest, ""
            line += blank + piece
            empty = False
    if not empty:
        yield line


def padded(text: str, cells: int) -> str:
    """Return `text` with blanks up to so many cells."""
    return text + " " * (cells - cell_len(text))


def head(text: str, cells: int) -> str:
    """Return `text`, or its beginning where it is wider.

    Example:
        >>> head("own time by place", 9)
        'own time…'
    """
    if cell_len(text) <= cells:
        return text
    return _beginning(text, cells - 1) + "…"


def first_that_fits(texts: Sequence[str], cells: int) -> str:
    """Return the first of `texts` that is not wider, or the beginning of the last.

    Example:
        >>> first_that_fits(("own time by place", "own time", "time"), 9)
        'own time'
    """
    return next((text for text in texts if cell_len(text) <= cells), head(texts[-1], cells))


def tail(text: str, cells: int) -> str:
    """Return `text`, or its end where it is wider: the names of modules differ there.

    Example:
        >>> tail("GPT.h.0.mlp.c_fc", 9)
        '…mlp.c_fc'
    """
    if cell_len(text) <= cells:
        return text
    return "…" + _beginning(text[::-1], cells - 1)[::-1]


def _pieces(word: str, cells: int) -> Iterator[str]:
    while cell_len(word) > cells:
        piece = _beginning(word, cells) or word[0]
        yield piece
        word = word[len(piece) :]
    if word:
        yield word


def _beginning(text: str, cells: int) -> str:
    taken = 0
    for at, character in enumerate(text):
        taken += cell_len(character)
        if taken > cells:
            return text[:at]
    return text
