"""What the timelines of Perfetto and Chrome hold is what the spans say: read back, the same spans on their tracks."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings

from otel_torch_modules._pictures.chrome import write_chrome
from otel_torch_modules._pictures.perfetto import write_perfetto
from otel_torch_modules._trace import Span
from tests.support.examples import examples
from tests.unit.pictures.generated import flows_of, rows_of, runs, spans_of

schema = import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")


class Found(NamedTuple):
    """What a reader of the format sees."""

    spans: list[Any]  # as `spans_of`
    rows: list[tuple[str, str]]  # process and track of each
    flows: list[Any]  # as `flows_of`


def written(write: Callable[..., None], roots: list[Span]) -> bytes:
    out = io.BytesIO()
    write(roots, out)
    return out.getvalue()


def phase_of(track: str) -> str:
    """Return the phase whose second or third track it is."""
    name, _, number = track.rpartition(" ")
    return name if number.isdecimal() else track


def read_perfetto(roots: list[Span]) -> Found:
    """Read packets as Perfetto's trace processor does: by sequences, their state and clocks."""
    trace = schema.Trace.FromString(written(write_perfetto, roots))
    real = 0  # of the trace's 0
    processes: dict[int, str] = {}
    tracks: dict[int, tuple[str, str]] = {}
    names: dict[int, dict[int, str]] = {}
    strings: dict[int, dict[int, str]] = {}
    keys: dict[int, dict[int, str]] = {}
    track_of: dict[int, int] = {}
    clock: dict[int, int] = {}
    still_open: defaultdict[int, list[Any]] = defaultdict(list)
    spans, rows = [], []
    begins: dict[int, tuple[str, int]] = {}
    ends: dict[int, tuple[str, int]] = {}
    for packet in trace.packet:
        sequence = packet.trusted_packet_sequence_id
        assert sequence
        if packet.sequence_flags & schema.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
            names[sequence], strings[sequence], keys[sequence] = {}, {}, {}
        if packet.HasField("clock_snapshot"):
            of = {entry.clock_id: entry for entry in packet.clock_snapshot.clocks}
            assert of[6].timestamp == 0  # else clocks of sequences would be told out of order
            if 1 in of:
                real = of[1].timestamp
            if 64 in of:
                assert of[64].is_incremental
                clock[sequence] = of[64].timestamp
        if packet.HasField("track_descriptor"):
            about = packet.track_descriptor
            if about.HasField("process"):
                assert about.process.pid > 0
                processes[about.uuid] = about.process.process_name
            else:
                tracks[about.uuid] = processes[about.parent_uuid], about.name
        for entry in packet.interned_data.event_names:
            names[sequence][entry.iid] = entry.name
        for entry in packet.interned_data.debug_annotation_string_values:
            strings[sequence][entry.iid] = entry.str.decode()
        for entry in packet.interned_data.debug_annotation_names:
            keys[sequence][entry.iid] = entry.name
        if packet.HasField("trace_packet_defaults"):
            assert packet.trace_packet_defaults.timestamp_clock_id == 64
            track_of[sequence] = packet.trace_packet_defaults.track_event_defaults.track_uuid
        if not packet.HasField("track_event"):
            continue
        assert packet.sequence_flags & schema.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        clock[sequence] += packet.timestamp
        now, track, event = real + clock[sequence], track_of[sequence], packet.track_event
        if event.type == schema.TrackEvent.TYPE_SLICE_BEGIN:
            said = {
                keys[sequence][one.name_iid]: strings[sequence][one.string_value_iid]
                if one.string_value_iid
                else one.int_value
                for one in event.debug_annotations
            }
            still_open[track].append((names[sequence][event.name_iid], now, said))
            rows.append(tracks[track])
            begins.update(dict.fromkeys(event.flow_ids, (names[sequence][event.name_iid], now)))
            ends.update(
                dict.fromkeys(event.terminating_flow_ids, (names[sequence][event.name_iid], now))
            )
        else:
            assert event.type == schema.TrackEvent.TYPE_SLICE_END
            name, start, said = still_open[track].pop()
            spans.append((name, start, now, said.get("module"), said.get("torch.step")))
    assert not any(still_open.values())
    assert begins.keys() == ends.keys()
    return _found(spans, rows, [(*begins[flow], *ends[flow]) for flow in begins])


def read_chrome(roots: list[Span]) -> Found:
    content = json.loads(written(write_chrome, roots), parse_float=Decimal)
    real = int(content["otherData"]["start_unix_ns"])
    processes: dict[int, str] = {}
    tracks: dict[tuple[int, int], str] = {}
    spans, rows = [], []
    begins: dict[int, tuple[str, int]] = {}
    ends: dict[int, tuple[str, int]] = {}
    still_open: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    last = ("", 0)  # the span that was written last: flows are its
    for event in content["traceEvents"]:
        row = event["pid"], event.get("tid", 0)
        if event["ph"] == "M":
            if event["name"] == "process_name":
                processes[event["pid"]] = event["args"]["name"]
            elif event["name"] == "thread_name":
                tracks[row] = event["args"]["name"]
            continue
        start = real + _ns(event["ts"])
        if event["ph"] == "X":
            end = start + _ns(event["dur"])
            while still_open[row] and still_open[row][-1] <= start:
                still_open[row].pop()
            assert not still_open[row] or end <= still_open[row][-1], "spans lie across each other"
            still_open[row].append(end)
            args = event.get("args", {})
            spans.append((event["name"], start, end, args.get("module"), args.get("torch.step")))
            rows.append((processes[event["pid"]], tracks[row]))
            last = event["name"], start
        else:
            assert last[1] == start
            (begins if event["ph"] == "s" else ends)[event["id"]] = last
    assert begins.keys() == ends.keys()
    return _found(spans, rows, [(*begins[flow], *ends[flow]) for flow in begins])


def _ns(us: Decimal | int) -> int:
    ns = us * 1000
    assert ns == int(ns)
    return int(ns)


def _found(spans: list[Any], rows: list[tuple[str, str]], flows: list[Any]) -> Found:
    of_phases = sorted((process, phase_of(track)) for process, track in rows)
    return Found(sorted(spans, key=repr), of_phases, sorted(flows))


READERS = {"perfetto": read_perfetto, "chrome": read_chrome}


@pytest.mark.parametrize("form", READERS)
@given(roots=runs(overlapping=True))
@settings(max_examples=examples(40), deadline=None)
def test_a_timeline_holds_every_span_on_its_track(form: str, roots: list[Span]) -> None:
    found = READERS[form](roots)
    assert found.spans == spans_of(roots)
    assert found.rows == rows_of(roots)
    assert found.flows == flows_of(roots)


@pytest.mark.parametrize("form", READERS)
@given(roots=runs(overlapping=False))
@settings(max_examples=examples(40), deadline=None)
def test_what_is_not_beside_something_is_on_the_first_track_of_its_phase(
    form: str, roots: list[Span]
) -> None:
    write = {"perfetto": write_perfetto, "chrome": write_chrome}[form]
    phases = {phase for _, phase in rows_of(roots)}
    content = written(write, roots)
    assert [phase for phase in phases if f"{phase} 2".encode() in content] == []
