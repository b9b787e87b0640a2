"""Looks from the worker's thread how the training gets on: whether it stands still, what it would leave behind if it
were killed now, and what a user asks of it while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import time_ns
from typing import Any

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._assembly.left_behind import Phase, phases_of, record_of, tree_of
from otel_torch_modules._emission.emission import Emission
from otel_torch_modules._engine.black_box import BlackBox
from otel_torch_modules._engine.control import Control, Rank, Stand
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.stalls import Stalls
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._recording.collectives import last_collectives
from otel_torch_modules._recording.loop.standing import Standing
from otel_torch_modules._recording.requests import Requests
from otel_torch_modules._records import Record, Stall
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import Span
from otel_torch_modules.config import Config


class Lookout:
    """All methods but `forget` are called on the worker's thread.

    Args:
        config: says what is looked for.
        standing: what each thread of the program is at.
        requests: for steps, which users ask for while the job runs; None where nobody can.
        identity: which process of the job this is.
        deliveries: told of each record that is sent here.
        assembler: makes a tree of what a stall has so far.
        emission: sends what is to be said.
    """

    def __init__(
        self,
        config: Config,
        standing: Standing,
        requests: Requests | None,
        *,
        identity: JobIdentity,
        deliveries: Deliveries,
        assembler: Assembler,
        emission: Emission,
    ) -> None:
        self._standing = standing
        self._identity = identity
        self._deliveries = deliveries
        self._assembler = assembler
        self._emission = emission
        self._phases: list[Phase] = []  # of the last step
        self._stalls: Stalls | None = None
        if config.stall_timeout:
            self._stalls = Stalls(
                config.stall_timeout, standing, self._send_stall, self._rank, last_collectives
            )
        self._black_box: BlackBox | None = None
        if config.blackbox:
            self._black_box = BlackBox(Path(config.blackbox).absolute(), self._rank, self._describe)
        self._control: Control | None = None
        if requests is not None:
            self._control = Control(
                Path(config.control).absolute(),
                self._in_job,
                self._stand,
                lambda: standing.next_step,
                requests,
                emission.prepare,
            )

    def forget(self) -> None:
        """Begin anew, in a forked child."""
        for looks in (self._stalls, self._black_box, self._control):
            if looks is not None:
                looks.forget()

    def tell(self, record: Record) -> None:
        """Take note of a record that is going to be sent."""
        if self._stalls is not None:
            self._stalls.tell(record)
        if self._control is not None and record.requested:
            self._control.asked.tell(record, self._emission.file)

    def tell_phases(self, record: Record, tree: Span | SpanColumns) -> None:
        """Take note of the phases in the tree of `record`: they would be left behind."""
        if self._black_box is not None and record.kind == "step":
            self._phases = phases_of(tree, record.clock_offset)

    def look(self) -> None:
        """See where the program stands, when what it has finished was handled: a few times a second."""
        if self._stalls is not None:
            self._stalls.look()
        if self._black_box is not None and self._identity.is_rank:
            self._send_left_behind(self._black_box.left_behind())
            self._black_box.look()
        if self._control is not None:
            self._control.look()

    def close(self) -> None:
        """Leave no file behind: the process comes to its end by itself."""
        for files in (self._black_box, self._control):
            if files is not None:
                files.close()

    def _rank(self) -> int | None:
        return self._identity.rank

    def _in_job(self) -> Rank | None:
        """Return which rank of the job this process is; None where it is none."""
        if not self._identity.is_rank:
            return None
        return Rank(self._identity.run, self._rank() or 0, self._identity.part().records)

    def _stand(self) -> Stand | None:
        """Return where it is in its training: on the worker's thread."""
        begun, standing = self._standing.begun, self._standing.describe()
        if begun is None or standing is None:
            return None
        since = max(time_ns() - standing["began"], 0) / 1e9
        return Stand(standing["step"], *begun, standing["place"], since, self._standing.recorded)

    def _describe(self) -> Mapping[str, Any] | None:
        """Return what the black box says: on the worker's thread."""
        standing = self._standing.describe()
        if standing is None:
            return None
        killed = self._identity.killed_step(standing["step"])
        shared = None
        if killed is not None:
            trace_id, (span_id, rank, sent_here) = killed
            shared = [f"{trace_id:032x}", f"{span_id:016x}", rank, sent_here]
        return {**standing, "shared": shared, "phases": self._phases}

    def _send_left_behind(self, left: Mapping[str, Any] | None) -> None:
        """Send where the process before this one stood when it was killed: on the worker's thread."""
        if left is None:
            return
        try:
            record = record_of(left)
        except (KeyError, TypeError, ValueError) as error:
            if is_interruption(error):
                raise
            return  # none of ours
        with self._deliveries.assembling(record):
            self._emission.context.settle(record)
            root = tree_of(record, left)
            self._emission.emit(root)
            root.release()
        self._emission.export()

    def _send_stall(self, record: Record, stall: Stall, say: Callable[[str, float], None]) -> None:
        """Say where `record` stands, and send it at once: on the worker's thread."""
        if not self._emission.context.open_stall(record, stall):
            return
        with self._deliveries.assembling(record):
            snapshot = self._assembler.read_snapshot(record)
            say(snapshot.place, snapshot.seconds)
            self._emission.emit(snapshot.root)
            snapshot.root.release()
        self._emission.export()
