"""What a rank says of itself once a second: where it stands, and what has become of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from otel_torch_modules._control.fields import Fields
from otel_torch_modules._control.request import RunStart

MODULES, PHASES, NOTHING = "modules", "phases", "nothing"

ACCEPTED, DONE, REFUSED = "accepted", "done", "refused"

MOST_TRACES = 16
MOST_CHARACTERS = 200  # of what is said in the program's words


class Answer(NamedTuple):
    """What a rank says to a request.

    Args:
        id: of the request.
        said: accepted, done or refused.
        why: of what is refused.
        recorded: how many of the steps have gone to the exporter.
        traces: of the first of them, the number and the trace's id.
        file: that this rank writes to; empty where it sends them elsewhere.
    """

    id: str
    said: str
    why: str = ""
    recorded: int = 0
    traces: tuple[tuple[int, str], ...] = ()
    file: str = ""

    @classmethod
    def of(cls, content: Any) -> Answer | None:
        """Return what a file says; None where nobody has asked.

        Raises:
            ValueError: it is none of ours.
        """
        if content is None:
            return None
        if not isinstance(content, dict):
            raise ValueError("request: it must be an object")
        fields = Fields(content)
        traces = content.get("traces")
        if not isinstance(traces, list) or len(traces) > MOST_TRACES:
            raise ValueError(f"traces: it must be a list of at most {MOST_TRACES}")
        return cls(
            fields.text("id"),
            fields.word("said", (ACCEPTED, DONE, REFUSED)),
            fields.text("why"),
            fields.integer("recorded", 0),
            tuple([_trace(entry) for entry in traces]),
            fields.text("file"),
        )


class Report(NamedTuple):
    """What a rank's file says.

    Args:
        run: which.
        rank: of the process; 0 in a job of one.
        records: whether it records anything: a choice of ranks may leave it out.
        host: where it runs.
        pid: its number there.
        step: that is open, or else the next.
        seconds_per_step: as usual; None where that is not known yet.
        place: the phase or the innermost module that is open; empty where that is not known.
        since: for how many seconds it has been in this step, or in this wait.
        recorded: how deep the last step is.
        look: after how many seconds the next is to be expected.
        answer: to the last request.
        time: of the rank's clock, in ns.
    """

    run: RunStart
    rank: int
    records: bool
    host: str
    pid: int
    step: int
    seconds_per_step: float | None
    place: str
    since: float
    recorded: str
    look: float
    answer: Answer | None
    time: int

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Report:
        """Return what a file says.

        Raises:
            ValueError: it is none of ours.
        """
        fields = Fields(content)
        known = content.get("seconds_per_step") is not None
        return cls(
            run=RunStart.of(fields),
            rank=fields.integer("rank", 0),
            records=fields.boolean("records"),
            host=fields.text("host"),
            pid=fields.integer("pid", 1),
            step=fields.integer("step", 0),
            seconds_per_step=fields.seconds("seconds_per_step") if known else None,
            place=fields.text("place"),
            since=fields.seconds("since"),
            recorded=fields.word("recorded", (MODULES, PHASES, NOTHING)),
            look=fields.seconds("look"),
            answer=Answer.of(content.get("answer")),
            time=int(fields.seconds("time")),
        )

    def said(self) -> dict[str, Any]:
        """Return what its file says."""
        answer = None if self.answer is None else self.answer._asdict()
        return {**self._asdict(), **self.run.said(), "answer": answer}


def file_name(rank: int) -> str:
    """Return the name of a rank's file."""
    return f"rank-{rank}.json"


def _trace(entry: Any) -> tuple[int, str]:
    if not isinstance(entry, list) or len(entry) != 2:
        raise ValueError("traces: each must be a number and an id")
    fields = Fields({"step": entry[0], "id": entry[1]})
    return fields.integer("step", 0), fields.text("id")
