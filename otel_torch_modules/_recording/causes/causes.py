"""Why a step may be slow though no module is: each cause has a file of its own here, and all of them this one."""

from __future__ import annotations

import threading
from collections.abc import Collection

from otel_torch_modules._recording.causes.checkpoints import Checkpoints, Loop
from otel_torch_modules._recording.causes.collectives import Collectives
from otel_torch_modules._recording.causes.compilation import Compilation
from otel_torch_modules._recording.causes.device_memory import DeviceMemory
from otel_torch_modules._recording.causes.garbage_collection import GarbageCollection
from otel_torch_modules._recording.causes.happened import Happened
from otel_torch_modules._recording.causes.host import HOST
from otel_torch_modules._recording.causes.loop_calls import LoopCalls
from otel_torch_modules._recording.causes.measures import Measure, Measures
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.wrapped import uninstall_all
from otel_torch_modules._records import Record

_Watch = Compilation | GarbageCollection | Checkpoints | Collectives | LoopCalls


class Causes:
    """Watches for the chosen kinds of causes.

    Args:
        chosen: their names, as in `Config.causes`.
        recorder: knows the threads, and what an error of ours costs.
    """

    loop: Loop
    """Knows where steps are; to be set before `install`."""

    def __init__(self, chosen: Collection[str], recorder: Recorder) -> None:
        self.happened = happened = Happened(recorder.thread_code, recorder.fail)
        """What is in no record yet; to be told which step is open."""
        self._lock = threading.RLock()
        compilation = Compilation(happened)
        garbage = GarbageCollection(happened, recorder.code_of_thread)
        checkpoints = Checkpoints(happened, lambda: self.loop)
        self._collectives = Collectives(happened, recorder.step)
        watching: dict[str, _Watch] = {
            "compile": compilation,
            "gc": garbage,
            "checkpoint": checkpoints,
            "collective": self._collectives,
            "loop": LoopCalls(happened),
        }
        self._watching = [watch for name, watch in watching.items() if name in chosen]
        measuring: dict[str, tuple[Measure, ...]] = {"host": HOST, "memory": (DeviceMemory(),)}
        measures = [each for name, of in measuring.items() if name in chosen for each in of]
        self.measures = Measures(measures)
        """Of each step; told where it begins and ends."""
        self.on_opening = [
            watch.record_opens for watch in (compilation, checkpoints) if watch in self._watching
        ]
        """To be called where a step or an evaluation opens."""
        self._collecting = [
            watch.collect for watch in (compilation, garbage) if watch in self._watching
        ]
        self.pending = happened.kept, compilation.ended, garbage.stops
        """Where all of these are empty there is nothing to put into a record."""

    def install(self) -> None:
        """Watch for them from now on."""
        for watch in self._watching:
            watch.install()

    def uninstall(self) -> None:
        """Undo `install`."""
        uninstall_all(self._watching)

    def modules_open(self) -> None:
        """Take note that a step opens whose modules are recorded, while there is a process group."""
        if self._collectives in self._watching:
            self._collectives.modules_open()

    def take_launched(self) -> int:
        """Return how many collectives have passed us since this was asked last."""
        return self._collectives.take_launched()

    def put_into(self, record: Record) -> None:
        """Write what happened in the time of `record`, which is complete, into its log. Called on any thread."""
        with self._lock:
            for collect in self._collecting:
                collect()
            self.happened.put_into(record)

    def forget(self) -> None:
        """Forget what happened: in a forked child, for it is the parent's."""
        self._lock = threading.RLock()  # another thread may have held it
        for collect in self._collecting:
            collect()
        self.happened.clear()
