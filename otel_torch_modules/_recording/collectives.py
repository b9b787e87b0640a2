"""Which collectives this process has begun and not ended, from torch's own ring of them."""

from __future__ import annotations

import json
from typing import Any

from otel_torch_modules._recording.torch_private.collectives import collectives_dump

_MOST = 32


def last_collectives() -> tuple[str, ...]:
    """Return a line for each collective that has not ended, and for the last of each other group.

    A line has the group, the operation and its number in the group: the rank whose number is the lowest is behind.

    Example:
        >>> isinstance(last_collectives(), tuple)  # empty where there never was a process group
        True
    """
    dump = collectives_dump()
    if dump is None:
        return ()
    entries: list[dict[str, Any]] = json.loads(dump).get("entries") or []
    last = {_group(entry): entry for entry in entries}
    shown = [entry for entry in entries if _is_open(entry)]
    busy = {_group(entry) for entry in shown}
    shown += [entry for group, entry in last.items() if group not in busy]
    return tuple([_line(entry) for entry in shown[-_MOST:]])


def _group(entry: dict[str, Any]) -> str:
    name, description = entry["process_group"]
    return str(name if description in ("", "undefined") else description)


def _is_open(entry: dict[str, Any]) -> bool:
    return not entry.get("retired") and entry.get("state") != "completed"


def _line(entry: dict[str, Any]) -> str:
    name = str(entry["profiling_name"]).rpartition(":")[2]
    number = entry["p2p_seq_id" if entry.get("is_p2p") else "collective_seq_id"]
    return f"{_group(entry)}: {name} {number}" + ("" if _is_open(entry) else ", ended")
