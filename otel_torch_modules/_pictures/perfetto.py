"""Perfetto's native trace format: https://perfetto.dev/docs/reference/synthetic-track-event.

Each track is a sequence of packets of its own, with what does not change said at its beginning: that it is this track,
and that a packet's time is the distance to the one before. So begin and end of a span take some thirty bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from otel_torch_modules import semconv
from otel_torch_modules._pictures.protobuf import fixed64, message, number, text
from otel_torch_modules._pictures.tracks import Flows, OnTrack, Timeline, Track
from otel_torch_modules._shape import Site
from otel_torch_modules._trace import Span

# Values of enumerations.
_REALTIME, _BOOTTIME, _OF_SEQUENCE = 1, 6, 64  # clocks
_BEGIN, _END = 1, 2  # types of events
_CLEARED, _NEEDS = 1, 2  # flags of packets: what was said of the sequence before, if it is needed
_EXPLICIT = 3  # order of tracks
_MODULE, _STEP = 1, 2  # names of annotations, interned in each sequence


def write_perfetto(roots: Sequence[Span], out: IO[bytes]) -> None:
    """Write the spans of `roots`, which are in order of time."""
    first = min((root.start for root in roots), default=0)
    # The trace begins at 0, which this was on the world's clock.
    clocks = _clock(_BOOTTIME, 0) + _clock(_REALTIME, first)
    _packet(out, message(6, clocks) + number(10, 1))
    timeline = Timeline()
    sequences: dict[Track, _Sequence] = {}
    processes: set[int] = set()
    flows = Flows()
    for root in roots:
        flows.turn_to(root.trace)
        for placed in timeline.place(root):
            track = placed.track
            sequence = sequences.get(track)
            if sequence is None:
                if track.process.number not in processes:
                    processes.add(track.process.number)
                    _write_process(out, track)
                sequence = sequences[track] = _Sequence(out, track, first)
            for end in placed.ended:
                sequence.end(end)
            sequence.begin(placed, flows)
    for track, sequence in sequences.items():
        for end in track.close():
            sequence.end(end)


def _packet(out: IO[bytes], content: bytes) -> None:
    out.write(message(1, content))


def _clock(clock: int, time: int, more: bytes = b"") -> bytes:
    return message(1, number(1, clock) + number(2, time) + more)


def _write_process(out: IO[bytes], track: Track) -> None:
    process = track.process
    about = number(1, process.number) + text(6, process.name)
    described = number(1, _process_uuid(track)) + message(3, about) + number(11, _EXPLICIT)
    _packet(out, message(60, described) + number(10, 1))


def _process_uuid(track: Track) -> int:
    return 1 << 32 | track.process.number


class _Sequence:
    """What is written on one track."""

    def __init__(self, out: IO[bytes], track: Track, first: int) -> None:
        self._out = out
        self._now = first
        self._id = number(10, track.number + 1)
        self._names: dict[Site, tuple[bytes, bytes]] = {}
        described = (
            number(1, track.number)
            + text(2, track.name)
            + number(5, _process_uuid(track))
            + number(12, track.order)
        )
        _packet(out, message(60, described) + self._id)
        clocks = _clock(_BOOTTIME, 0) + _clock(_OF_SEQUENCE, 0, number(3, 1))
        defaults = number(58, _OF_SEQUENCE) + message(11, number(11, track.number))
        annotations = b"".join(
            message(3, number(1, iid) + text(2, name))
            for iid, name in ((_MODULE, "module"), (_STEP, semconv.STEP_INDEX))
        )
        # Clock and defaults are of the state that this begins.
        about = number(13, _CLEARED) + message(59, defaults) + message(12, annotations)
        _packet(out, about + self._id)
        _packet(out, number(58, _BOOTTIME) + message(6, clocks) + self._id)

    def begin(self, placed: OnTrack, flows: Flows) -> None:
        trace, at = placed.trace, placed.at
        site = trace.shape.sites[at]
        known = self._names.get(site)
        interned = b""
        if known is None:
            interned, known = self._intern(site)
        named, annotated = known
        event = number(9, _BEGIN) + named + annotated
        step = Span(trace, at).step if at in trace.remarks else None
        if step is not None:
            event += message(4, number(1, _STEP) + number(4, step))
        event += b"".join(fixed64(47, flow) for flow in flows.begin(at))
        event += b"".join(fixed64(48, flow) for flow in flows.end(at))
        self._write(trace.starts[at], message(11, event) + interned)

    def end(self, time: int) -> None:
        self._write(time, message(11, number(9, _END)))

    def _write(self, time: int, content: bytes) -> None:
        # Only where more lie beside each other than there are tracks for them goes time back.
        passed, self._now = max(time - self._now, 0), max(time, self._now)
        _packet(self._out, number(8, passed) + content + self._id + number(13, _NEEDS))

    def _intern(self, site: Site) -> tuple[bytes, tuple[bytes, bytes]]:
        """Return what tells the names of a site, and what stands for them from now on."""
        iid = len(self._names) + 1
        told = message(2, number(1, iid) + text(2, site.name))
        annotated = b""
        if site.fqn is not None:
            told += message(29, number(1, iid) + text(2, site.fqn))
            annotated = message(4, number(1, _MODULE) + number(17, iid))
        known = self._names[site] = (number(10, iid), annotated)
        return message(12, told), known
