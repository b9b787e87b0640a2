"""What stops reading; its text is for the user and names the source at fault and what is wrong with it."""

from __future__ import annotations


class SourceError(Exception):
    """The source cannot be read, or holds nothing that was asked for."""
