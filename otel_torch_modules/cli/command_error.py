"""What stops a command; its text is for the user and names the thing at fault and what to do."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot be carried out. Exit code 2."""
