"""On what was measured, and the state of the process in which it was."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

import torch

_PACKAGES = ("torch", "opentelemetry-sdk", "grpcio", "protobuf")

_M_TRIM_THRESHOLD = -1  # of glibc's malloc.h
_M_MMAP_MAX = -4


# What the kernel says of a thread: nanoseconds on a processor, and nanoseconds in which it could have run and did not.
_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_SAYS_WHAT_WAS_WAITED = _SCHEDSTAT.exists()


def describe() -> str:
    """Return processor, cores and versions, in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}; "
        f"Python {platform.python_version()}, {packages}; load {os.getloadavg()[0]:.1f}"
    )


def use_one_thread() -> None:
    """Have torch compute on one thread, as every benchmark here does."""
    torch.set_num_threads(1)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, for all contenders.

    Otherwise it depends on chance whether a contender that fills memory, as `torch.profiler` does, gets pages that are
    new to the process; then its steps take twice as long.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def release_freed_memory() -> None:
    """Give back what is free: what is filled next are pages that are new to the process."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def processor_wait_ns() -> int:
    """Return the time in which this thread waited for a processor; 0 where the kernel does not say."""
    return int(_SCHEDSTAT.read_bytes().split()[1]) if _SAYS_WHAT_WAS_WAITED else 0


def undisturbed_ns() -> int:
    """Return the time on the clock without that in which this thread waited for a processor.

    What else it waits for is in it, the interpreter lock for one, which the processor time of the thread leaves out;
    what other programs take from it is not.
    """
    return perf_counter_ns() - processor_wait_ns()


@contextmanager
def old_objects_set_aside() -> Iterator[None]:
    """Have the garbage collector look in the block at what is made in it, and at nothing that was there before."""
    set_aside_what_stays()
    yield
    gc.unfreeze()


def set_aside_what_stays() -> None:
    """Have the garbage collector no longer look at what there is now and is no garbage."""
    gc.collect()
    gc.freeze()


def processor_ns(work: Callable[[], object]) -> int:
    """Return nanoseconds of this thread's processor time that `work` takes, without collections of garbage."""
    gc.collect()
    gc.disable()
    start = thread_time_ns()
    work()
    taken = thread_time_ns() - start
    gc.enable()
    return taken


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
