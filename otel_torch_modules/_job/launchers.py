"""What those who start the processes of a job say in their environment: which run it is, and which rank.

Read where a launcher sets it, never derived: a value that two ranks see differently would tear a trace apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class JobPlace(NamedTuple):
    """Where a process stands in its job."""

    rank: int
    world_size: int
    local_rank: int | None = None  # None: not known


class RunVariables(NamedTuple):
    """Variables that name a run where all of them are set."""

    launcher: str
    names: tuple[str, ...]
    source: str
    unless: tuple[str, ...] = ()  # variables that say that another launcher started this process


class RankVariables(NamedTuple):
    """Variables that say which rank a process is."""

    launcher: str
    rank: str
    world_size: str
    local_rank: str
    source: str


_TORCHRUN: Final = "https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables"
_RAY: Final = (
    "https://github.com/ray-project/ray/blob/master/src/ray/common/constants.h and "
    "https://github.com/ray-project/ray/blob/master/python/ray/train/torch/config.py"
)
_PYTORCHJOB: Final = (
    "https://github.com/kubeflow/training-operator/blob/v1.9.0/pkg/controller.v1/pytorch/envvar.go"
)
_KUBEFLOW: Final = "https://www.kubeflow.org/docs/components/trainer/user-guides/pytorch/"
_SRUN: Final = "https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES"
_OPEN_MPI: Final = "https://docs.open-mpi.org/en/v5.0.x/tuning-apps/environment-var.html"
_PMIX: Final = "https://docs.openpmix.org; what mpirun of Open MPI 5 sets"
_HYDRA: Final = "what mpiexec.hydra of MPICH 5 and of Intel MPI 2021 sets; neither documents it"

# Set by `mpirun` and `mpiexec` only. Inside a Slurm allocation these start a step of their own on the other nodes,
# so that ranks of one run see different SLURM_STEP_ID and SLURM_PROCID.
_STARTED_BY_MPI: Final = ("OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID")

RUN_VARIABLES: Final = (
    RunVariables("torchrun", ("TORCHELASTIC_RUN_ID",), _TORCHRUN),
    # A Ray job may run several trainers, one after the other or side by side; each has its own rendezvous.
    RunVariables("Ray Train", ("RAY_JOB_ID", "MASTER_ADDR", "MASTER_PORT"), _RAY),
    RunVariables("Kubeflow PyTorchJob", ("PET_RDZV_ID",), _PYTORCHJOB),
    RunVariables("Kubeflow Trainer", ("PET_MASTER_ADDR", "PET_MASTER_PORT"), _KUBEFLOW),
    RunVariables("Slurm", ("SLURM_JOB_ID", "SLURM_STEP_ID"), _SRUN, unless=_STARTED_BY_MPI),
    RunVariables("Open MPI", ("PMIX_NAMESPACE",), _PMIX),
    RunVariables("Intel MPI", ("I_MPI_HYDRA_UUID",), _HYDRA),
    RunVariables("Slurm", ("SLURM_JOB_ID",), _SRUN),
)
"""In the order in which they count."""

RANK_VARIABLES: Final = (
    # Ray Train, Kubeflow, Accelerate, DeepSpeed and Lightning set the same.
    RankVariables("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", _TORCHRUN),
    RankVariables(
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        _OPEN_MPI,
    ),
    RankVariables("MPICH, Intel MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", _HYDRA),
    # Not SLURM_NTASKS: in a shell on a node of an allocation that is the allocation's, not the shell's.
    RankVariables("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", _SRUN),
)
"""In the order in which they count."""

NODE_VARIABLES: Final = (("torchrun", "GROUP_RANK", _TORCHRUN), ("Slurm", "SLURM_NODEID", _SRUN))
"""Which node of the job this is, in the order in which they count."""

RESTART_VARIABLES: Final = (
    ("torchrun", "TORCHELASTIC_RESTART_COUNT", _TORCHRUN),
    ("Slurm", "SLURM_RESTART_COUNT", _SRUN),
)
"""What counts up when a run with the same id starts again."""


def run_id(environ: Mapping[str, str]) -> str:
    """Return what the launcher calls this run, the same on all ranks; empty where it has no name.

    Example:
        >>> run_id({"SLURM_JOB_ID": "8021", "SLURM_STEP_ID": "0"})
        '8021.0'
    """
    for row in RUN_VARIABLES:
        values = [environ.get(name, "") for name in row.names]
        if row.names == ("TORCHELASTIC_RUN_ID",) and values == ["none"]:  # its default
            continue
        if all(values) and not any(environ.get(name) for name in row.unless):
            return ".".join(values)
    return ""


def restart_count(environ: Mapping[str, str]) -> str:
    """Return what tells this start of a run from an earlier one.

    Example:
        >>> restart_count({"TORCHELASTIC_RESTART_COUNT": "2"})
        '2.0'
    """
    return ".".join(environ.get(name) or "0" for _, name, _ in RESTART_VARIABLES)


def place(environ: Mapping[str, str]) -> JobPlace | None:
    """Return where the launcher has put this process; None where nothing is said.

    Example:
        >>> place({"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1"})
        JobPlace(rank=9, world_size=16, local_rank=1)
    """
    for row in RANK_VARIABLES:
        rank, world_size = _number(environ, row.rank), _number(environ, row.world_size)
        if rank is not None and world_size is not None and rank < world_size:
            return JobPlace(rank, world_size, _number(environ, row.local_rank))
    return None


def node_rank(environ: Mapping[str, str]) -> int | None:
    """Return which node of the job this process is on; None where nothing is said."""
    for _, name, _ in NODE_VARIABLES:
        number = _number(environ, name)
        if number is not None:
            return number
    return None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else None
