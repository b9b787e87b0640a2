"""Which trace a step belongs to, in a job of many ranks: computed by each rank alone, never exchanged.

With a run id, the ids of a step's trace and of its span are a hash of the run, its start and the step. So all ranks
write into one trace, and a rank that is late, skips a step or dies takes nothing from the others. The span of a rank
in that trace has an id of its own, drawn like any other: should two runs have the same name by mistake, their spans
stand side by side and none replaces another.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from otel_torch_modules._control.request import RunStart
from otel_torch_modules._engine import fork
from otel_torch_modules._job import launchers
from otel_torch_modules._job.launchers import JobPlace
from otel_torch_modules._log import warn
from otel_torch_modules._records import Record, SharedStep
from otel_torch_modules._texts import encodable
from otel_torch_modules.config import Config
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_RUN_ID
from otel_torch_modules.ranks import Ranks

_LOGGER = logging.getLogger("otel_torch_modules")

_MOST_CHARACTERS = 200  # of a run's name, for the files of others


class StepIds(NamedTuple):
    """The ids that all ranks compute alike."""

    trace_id: int
    span_id: int


class Part(NamedTuple):
    """What a process does in its job."""

    place: JobPlace
    records: bool  # anything
    records_modules: bool  # else phases only


def step_ids(run: str, step: int) -> StepIds:
    """Return the ids of a step, uniform in all their bits and never zero.

    Uniform low bits are what samplers by ratio look at: all ranks decide alike.

    Args:
        run: names one start of one run.
        step: its number.
    """
    return _ids(f"{run}\0{step}")


def evaluation_ids(run: str, step: int, earlier: int) -> StepIds:
    """Return the ids of an evaluation, like those of a step.

    Ranks that evaluate in the same order agree. One that pauses in the middle, where others do not, has a part of its
    evaluation in a trace of its own.

    Args:
        run: names one start of one run.
        step: the number of the last step.
        earlier: how many evaluations there were since that step.
    """
    return _ids(f"{run}\0evaluate\0{step}" + (f"\0{earlier}" if earlier else ""))


def stall_ids(run: str, step: int, number: int | str) -> StepIds:
    """Return the ids of what all ranks say of a stall, like those of a step.

    Args:
        run: names one start of one run.
        step: the number of the step that is open, or else of the next.
        number: how often it was said before, or that the run was killed.
    """
    return _ids(f"{run}\0stall\0{step}" + (f"\0{number}" if number else ""))


def _ids(text: str) -> StepIds:
    digest = hashlib.sha256(text.encode()).digest()
    return StepIds(
        int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:24], "big") or 1
    )


class JobIdentity:
    """What this process is in its job. All methods but those about stalls run on the training thread.

    Args:
        config: the run's name and which ranks record what.
        environ: the process's environment, read when the first record opens: some launchers set it late.
        process_group: rank and world size of ``torch.distributed``, None while it is not initialised.
        process_groups: those that there are; where that is none it is not initialised.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        process_group: Callable[[], tuple[int, int] | None],
        process_groups: Collection[object] = (None,),
    ) -> None:
        self._config = config
        self._environ = environ
        self._process_group = process_group
        self._process_groups = process_groups
        self._ranks = Ranks(config.ranks)
        self._detail_ranks = Ranks(config.detail_ranks)
        self._part: Part | None = None
        self._place: JobPlace | None = None
        self._launched_place = JobPlace(0, 1)
        self._environ_length = (
            -1
        )  # when that was found; a launcher that says it late adds variables
        self._run: str | None = None  # one start of one run; None until the first step
        self._last_step = -1
        self._round = 0  # counts how often the numbers of steps began anew
        self._evaluated = (0, -1)  # after which step of which round the last evaluation was
        self._evaluations = 0  # how many were after that before it
        # A child of a rank has the rank's environment, and, if forked, its process group, but is not the rank.
        self._child = multiprocessing.parent_process() is not None
        self._inherited_group = False
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Be no rank of the job, unless a process group is made for this process."""
        self._child = True
        self._inherited_group = self._process_group() is not None

    def part(self) -> Part:
        """Return what this rank records: the same object as long as it is the same rank."""
        part = self._part
        place = self._place or self._find_place()
        if part is None or part.place is not place:
            rank = place.rank
            part = self._part = Part(place, rank in self._ranks, rank in self._detail_ranks)
        return part

    def shared_ids(self, record: Record) -> StepIds | None:
        """Return the ids of the step or evaluation of `record` that all ranks share, and say so in it.

        None where there are none.
        """
        place = self._find_place()
        index = record.index
        if index is None or place.world_size == 1 or not self.is_rank:
            return None
        if self._run is None:
            self._run = self._name_run(place)
        if not self._run:
            return None
        if record.kind == "step":
            # A program that numbers its steps itself may begin again with each epoch: that is another step.
            self._round += index <= self._last_step
            self._last_step = index
            ids = step_ids(f"{self._run}\0{self._round}", index)
        else:
            # There may be several after one step: they are told apart by how many came before.
            after = self._round, index
            self._evaluations = self._evaluations + 1 if after == self._evaluated else 0
            self._evaluated = after
            ids = evaluation_ids(f"{self._run}\0{self._round}", index, self._evaluations)
        record.shared = self._shared(ids)
        return ids

    def stall_ids(self, record: Record, number: int) -> StepIds | None:
        """Return the ids of the stall that all ranks share, and say so in `record`; None where there are none.

        Called on the worker thread, after a record has opened: what a rank is called is known then.
        """
        index = record.index
        if not self._run or index is None or not self.is_rank:
            return None
        ids = stall_ids(f"{self._run}\0{self._round}", index, number)
        record.shared = self._shared(ids)
        return ids

    def killed_step(self, step: int) -> tuple[int, SharedStep] | None:
        """Return the trace of all ranks, and this one's place in it, should this process be killed; None without."""
        if not self._run or not self.is_rank:
            return None
        ids = stall_ids(f"{self._run}\0{self._round}", step, "killed")
        return ids.trace_id, self._shared(ids)

    def awaited_ids(self, step: int) -> StepIds | None:
        """Return the ids that a step which has not opened will have; None where it will have none, or others."""
        if not self._run or not self._config.schedule.records(step):
            return None
        return step_ids(f"{self._run}\0{self._round}", step)

    @property
    def run(self) -> RunStart:
        """Which start of which run this is. Called on the worker thread, after the first step has opened."""
        place = self._find_place()
        name = self._config.run_id or launchers.run_id(self._environ)
        return RunStart(
            encodable(name)[:_MOST_CHARACTERS],
            launchers.restart_count(self._environ),
            place.world_size,
        )

    def _shared(self, ids: StepIds) -> SharedStep:
        place = self._find_place()
        sender = self._ranks.lowest(place.world_size)
        return SharedStep(ids.span_id, place.rank, sent_here=place.rank == sender)

    @property
    def rank(self) -> int | None:
        """Which rank this is; None in a job of one process."""
        place = self._find_place()
        return None if place.world_size == 1 else place.rank

    @property
    def is_rank(self) -> bool:
        """Whether this process is a rank of the job, or the job, and no child of one."""
        return not self._child or (not self._inherited_group and self._process_group() is not None)

    def _find_place(self) -> JobPlace:
        """Return rank and world size, kept from when they are known for certain.

        The process group comes first: a launcher that starts one process for each node knows nothing of the
        processes that these start.
        """
        if self._place is None:
            group = self._process_group() if self._process_groups else None
            if group is None:
                # Looking through the environment takes longer than all else that a step's opening does.
                if len(self._environ) != self._environ_length:
                    self._environ_length = len(self._environ)
                    self._launched_place = launchers.place(self._environ) or self._launched_place
                return self._launched_place
            self._place = JobPlace(*group)
        return self._place

    def _name_run(self, place: JobPlace) -> str:
        name = self._config.run_id or launchers.run_id(self._environ)
        if not name and place.rank == self._ranks.lowest(place.world_size):
            warn(
                _LOGGER,
                "Each of the %d ranks has traces of its own: nothing in the environment names the run. Set %s "
                "to the same value on all ranks, another one for each run, to see each step as one trace",
                place.world_size,
                OTEL_TORCH_MODULES_RUN_ID,
            )
        if not name:
            return ""
        # The world's size too: where a node is lost, torchrun on the others counts no restart.
        restarts = launchers.restart_count(self._environ)
        return encodable(f"{name}\0{restarts}\0{place.world_size}")
