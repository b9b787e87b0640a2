"""``OTEL_TRACES_EXPORTER=otlp_file``: traces in a file, no server needed.

One line of OTLP JSON for each request, as the Collector's file exporter writes it and its ``otlpjsonfile``
receiver reads it: https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from otel_torch_modules._emission.otlp.json import Json, encode_line
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._engine import fork
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._own_descriptor import KeptDescriptor, opened
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_FILE

if sys.platform != "win32":
    import fcntl

_DEFAULT_FILE = "traces-{pid}.jsonl"
_PATIENCE_S = 10.0


class OtlpFileSpanExporter(RequestExporter):
    """Appends to the file that ``OTEL_TORCH_MODULES_FILE`` names; by default ``traces-{pid}.jsonl`` right here.

    ``{pid}`` stands for the process id and ``{rank}`` for the launcher's ``RANK``, 0 where there is none, so that
    processes do not share a file unless they are meant to. Folders are made. Each export is one write, with a lock on
    the file, so that lines of several processes in one file stay whole. A file that it makes is for its owner alone:
    exceptions and names in it may tell more than others should know.

    A relative path is that of the folder in which the exporter is made. The file is open only while something is
    written; a pipe, whose reader would see its end, stays open.

    A line that was cut off, by a full disk or the end of a process, one that shares the file too, is left as it is, and
    what follows begins a new one. A file that is gone from its path, removed or renamed, is made anew; so is that which
    a link leads to, in a folder that is there.

    Args:
        path: used instead of the variable.
        environ: the variables.

    Example:
        >>> OtlpFileSpanExporter("/tmp/traces-{rank}.jsonl").path
        '/tmp/traces-0.jsonl'
    """

    language = Json()

    def __init__(self, path: str | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._pattern = path or environ.get(OTEL_TORCH_MODULES_FILE) or _DEFAULT_FILE
        with suppressed(OSError):  # the folder is gone: no file will be there either
            self._pattern = os.path.abspath(self._pattern)
        self._renew()
        fork.watch(self)

    def _renew(self) -> None:
        self._pipe: KeptDescriptor | None = None
        self.set_up(self.path, _PATIENCE_S)
        self.answers = True

    def after_fork_in_child(self) -> None:
        """Open a file of the child's own at its next export; it may have a rank of its own, too."""
        self._environ = os.environ
        self._close()
        self._renew()

    @property
    def path(self) -> str:
        """Where this process writes."""
        return self._pattern.replace("{pid}", str(os.getpid())).replace(
            "{rank}", self._environ.get("RANK", "0")
        )

    @property
    def silence(self) -> str:
        """What to say of a write that does not end."""
        return f"{self.path} takes nothing: the write hangs"

    def encode_request(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return the line that holds finished `spans`."""
        return encode_line(encode_spans(spans))

    def attempt(self, request: EncodedRequest) -> Reply:
        """Append `request` as one line."""
        try:
            self._write(request.data)
        except OSError as error:
            if is_interruption(error):
                raise
            kind = errno.errorcode.get(error.errno or 0, "OSError")
            return Reply(kind, f"{self.path} cannot be written: {error.strerror or error}")
        return TAKEN

    def _write(self, line: bytes) -> None:
        path = self.path
        if self._pipe is not None and not self._pipe.is_at(path):
            self._close()
        if self._pipe is not None:
            _append(self._pipe.number, line)
            return
        descriptor = _open(path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._pipe = KeptDescriptor(descriptor)
            _append(descriptor, line)
            return
        try:
            with _others_kept_off(descriptor):
                _append_line(path, descriptor, line)
        finally:
            os.close(descriptor)

    def _close(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: every export is written at once."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Close a pipe, unless a write hangs in it."""
        super().shutdown()
        if self._one_at_a_time.acquire(blocking=False):
            self._close()
            self._one_at_a_time.release()


def _open(path: str) -> int:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND
    try:
        made = opened(path, flags | os.O_CREAT | os.O_EXCL)
    except FileExistsError as error:
        if is_interruption(error):
            raise
        return _open_existing(path, flags)
    with suppressed(OSError):  # file systems without modes
        os.chmod(path, 0o600)  # whatever the umask
    return made


def _open_existing(path: str, flags: int) -> int:
    """Open what is at `path`: not to be made anew, for in a folder of all the file of another one may not be."""
    try:
        return opened(path, flags)
    except FileNotFoundError as error:  # a link to nothing, or it was removed just now
        if is_interruption(error):
            raise
        return opened(path, flags | os.O_CREAT)


def _append_line(path: str, descriptor: int, line: bytes) -> None:
    if _begins_a_line(path, os.fstat(descriptor).st_size):
        _append(descriptor, line)
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if _begins_a_line(path, end - len(line)):
            return
        # Another process was killed within its line in this moment. What holds both is no line: once more.
    _append(descriptor, b"\n" + line)


@contextmanager
def _others_kept_off(descriptor: int) -> Iterator[None]:
    """Let no other process append meanwhile: half of its line would look like one that was cut off.

    The lock of one that dies is gone with it. A file system without locks is written to all the same.
    """
    if sys.platform == "win32":
        yield
        return
    with suppressed(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppressed(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _append(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:  # a disk that is nearly full takes a part
        left = left[os.write(descriptor, left) :]


def _begins_a_line(path: str, place: int) -> bool:
    if place == 0:
        return True
    try:
        with open(path, "rb", opener=opened) as file:
            file.seek(place - 1)
            return file.read(1) == b"\n"
    except OSError as error:  # it may be written, but not read
        if is_interruption(error):
            raise
        return False
