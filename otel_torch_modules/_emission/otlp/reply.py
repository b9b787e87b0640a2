"""What becomes of one attempt to send a request."""

from __future__ import annotations

from typing import Final, NamedTuple


class Reply(NamedTuple):
    """What a receiver said, or why nothing was heard."""

    error: str = ""
    """Its type, one of few; empty where the request was taken."""

    reason: str = ""
    """For people: who did not take it, and why."""

    again: bool = False
    """Whether the same request may be sent once more."""

    after_s: float = 0.0
    """How long the receiver wants to be left alone."""

    rest_s: float = 0.0
    """How long it is better not to try, unless somebody waits for it."""

    in_part: bool = False
    """Whether some of the request was taken all the same; nobody says what."""

    @property
    def arrives(self) -> bool:
        """Whether any of the request was taken."""
        return self.in_part or not self.error


TAKEN: Final = Reply()
ENDED: Final = Reply("shutdown", "the exporter was shut down")
