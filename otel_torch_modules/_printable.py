"""What a program, a file or a variable says, made fit for a terminal and for a line of log.

A name may hold what a terminal obeys: escape sequences that clear the screen, write its title or answer in its name,
controls that turn the direction of writing, characters without width, line feeds that forge lines
(https://cwe.mitre.org/data/definitions/150.html). Whoever prints a text that is not ours prints it through this.
"""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return `text` on one line, with an escape in the place of each character that does not show as itself.

    These are the characters of Unicode's categories Other (controls, formats, surrogates, unassigned) and Separator,
    but for the blank.

    Example:
        >>> printable("h.0\x1b[2J")
        'h.0\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
