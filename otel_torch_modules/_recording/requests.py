"""Steps that a user asks for while the job runs.

The worker puts a request here, and the training thread finds it where a step opens: one attribute, set and read whole,
so there is no lock.
"""

from __future__ import annotations

from collections.abc import Callable

from otel_torch_modules._control.request import Request
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules.ranks import Ranks


class Requests:
    """Says of a step that opens whether it was asked for.

    Args:
        recorder: records shapes while steps are asked for with them.
        begin: called when the first step opens: from then on somebody looks for requests.
        rank: of this process; None in a job of one.
    """

    def __init__(
        self, recorder: Recorder, begin: Callable[[], None], rank: Callable[[], int | None]
    ) -> None:
        self._recorder = recorder
        self._begin = begin
        self._rank = rank
        self._begun = False
        self._with_shapes = False
        self.request: Request | None = None

    def forget(self) -> None:
        """Begin anew: in a forked child nobody looks yet."""
        self._begun = False
        self.end()

    def end(self) -> None:
        """Record again what is recorded by itself."""
        self.request = None
        self._turn_shapes(False)

    def asks_for(self, step: int) -> bool:
        """Return whether the step of this number was asked for."""
        request = self.request
        return request is not None and request.first <= step <= request.last

    def step_opens(self, step: int) -> Request | None:
        """Return the request for the step of this number, which opens; None where nobody asked for it."""
        if not self._begun:
            self._begun = True
            self._begin()
        request = self.request
        if request is not None and not request.first <= step <= request.last:
            request = None
        self._turn_shapes(request is not None and request.shapes)
        return request

    def records_modules(self, request: Request) -> bool:
        """Return whether the steps of `request` have modules in this process."""
        return request.modules == "all" and (self._rank() or 0) in Ranks(request.ranks)

    def _turn_shapes(self, on: bool) -> None:
        if on is not self._with_shapes:
            self._with_shapes = on
            self._recorder.record_shapes(on)
