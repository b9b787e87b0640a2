"""What a user asks of a job while it runs: these steps, so deep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from otel_torch_modules._control.fields import Fields
from otel_torch_modules.ranks import Ranks

FILE = "request.json"
MODULES = ("all", "phases")
MOST_STEPS = 1_000


class RunStart(NamedTuple):
    """One start of one run."""

    name: str  # empty where nothing names it
    restarts: str
    world_size: int

    def __str__(self) -> str:
        name = f"run {self.name}" if self.name else "a run without a name"
        restarts = self.restarts.removesuffix(".0")
        started = "" if set(restarts) <= {"0", "."} else f", restart {restarts}"
        return f"{name}{started}, world size {self.world_size}"

    @classmethod
    def of(cls, fields: Fields) -> RunStart:
        """Return what these fields say.

        Raises:
            ValueError: one of them is not what it must be.
        """
        return cls(fields.text("run"), fields.text("restarts"), fields.integer("world_size", 1))

    def said(self) -> dict[str, Any]:
        """Return the fields that say it."""
        return {"run": self.name, "restarts": self.restarts, "world_size": self.world_size}


class Request(NamedTuple):
    """Steps of a run that are to be recorded, whatever else is.

    Args:
        id: no other request has it.
        run: whose steps.
        first: number of the first step.
        last: number of the last one.
        modules: `all`, those that the job's variables choose, or `phases`.
        shapes: of what modules take and return, too.
        ranks: which record modules; the others record phases.
        asked_by: who asks, for other users.
    """

    id: str
    run: RunStart
    first: int
    last: int
    modules: str
    shapes: bool
    ranks: str
    asked_by: str

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Request:
        """Return what a file asks for.

        Raises:
            ValueError: that is nothing that can be.
        """
        fields = Fields(content)
        fields.only((*cls._fields, *RunStart._fields[1:]))
        request = cls(
            id=fields.text("id"),
            run=RunStart.of(fields),
            first=fields.integer("first", 0),
            last=fields.integer("last", 0),
            modules=fields.word("modules", MODULES),
            shapes=fields.boolean("shapes"),
            ranks=fields.text("ranks"),
            asked_by=fields.text("asked_by"),
        )
        if not request.first <= request.last < request.first + MOST_STEPS:
            raise ValueError(
                f"last: {request.last} is not allowed; it must be from first, {request.first}, to "
                f"{MOST_STEPS - 1} steps after it"
            )
        Ranks(request.ranks)
        return request

    def said(self) -> dict[str, Any]:
        """Return what its file says."""
        return {**self._asdict(), **self.run.said()}

    @property
    def steps(self) -> str:
        """In a sentence."""
        if self.first == self.last:
            return f"step {self.first}"
        return f"steps {self.first} to {self.last}"
