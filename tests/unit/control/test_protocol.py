"""What a request and a rank's file say: there and back, and whatever else may be in such a file."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._control import files
from otel_torch_modules._control.report import ACCEPTED, MODULES, MOST_TRACES, Answer, Report
from otel_torch_modules._control.request import MOST_STEPS, Request, RunStart

RUN = RunStart("night 3", "1.0", 4)
REQUEST = Request("a1", RUN, 100, 104, "all", True, "0,2-3", "me, process 7 on host")
ANSWER = Answer("a1", ACCEPTED, "", 1, ((100, "ab"), (101, "cd")), "/traces/t.jsonl")
REPORT = Report(RUN, 2, True, "host", 17, 101, 0.25, "backward", 0.5, MODULES, 1.0, ANSWER, 12)


def there_and_back(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found


def test_a_request_is_read_as_it_was_written() -> None:
    assert Request.of(there_and_back(REQUEST.said())) == REQUEST


@pytest.mark.parametrize(
    "report", [REPORT, REPORT._replace(answer=None), REPORT._replace(seconds_per_step=None)]
)
def test_what_a_rank_says_is_read_as_it_was_written(report: Report) -> None:
    assert Report.of(there_and_back(report.said())) == report


ANYTHING: list[Any] = [
    None,
    True,
    -1,
    1 << 60,
    1.5,
    float("nan"),
    "x" * 2_000,
    "\ud800",
    [],
    [[1]],
    {"a": 1},
]
BAD_REQUESTS = [
    ("run", 7, "run: 7 is not allowed; it must be a text of at most 1000 characters"),
    ("first", "1", "first: '1' is not allowed; it must be an integer from 0 to 9007199254740992"),
    ("first", True, "first: True is not allowed"),
    ("first", 105, "last: 104 is not allowed; it must be from first, 105, to 999 steps after it"),
    ("last", 100 + MOST_STEPS, "last: 1100 is not allowed"),
    ("modules", "some", "modules: 'some' is not allowed; it must be all or phases"),
    ("shapes", 1, "shapes: 1 is not allowed; it must be true or false"),
    ("ranks", "3-1", "'3-1' is not allowed; it must be all, or ranks, ranges and steps"),
    ("world_size", 0, "world_size: 0 is not allowed"),
    ("stacks", True, "'stacks' is not known; there are id, run, first, last,"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_REQUESTS)
def test_a_bad_request_names_the_field_the_value_and_what_is_allowed(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Request.of({**REQUEST.said(), name: value})


@pytest.mark.parametrize("value", ANYTHING)
@pytest.mark.parametrize("name", REQUEST.said())
def test_no_field_of_a_request_makes_another_error(name: str, value: object) -> None:
    for content in ({**REQUEST.said(), name: value}, {**REQUEST.said(), name: REQUEST}):
        try:
            request = Request.of(content)
        except ValueError:
            continue
        assert request.last - request.first < MOST_STEPS
    with pytest.raises(ValueError, match="not allowed"):
        Request.of({key: kept for key, kept in REQUEST.said().items() if key != name})


@pytest.mark.parametrize("value", ANYTHING)
@pytest.mark.parametrize("name", [*REPORT.said(), *ANSWER._asdict()])
def test_no_field_of_a_rank_makes_another_error(name: str, value: object) -> None:
    said = there_and_back(REPORT.said())
    (said if name in said else said["answer"])[name] = value
    try:
        report = Report.of(said)
    except ValueError:
        return
    assert report.answer is None or len(report.answer.traces) <= MOST_TRACES


@given(st.binary(max_size=40) | st.sampled_from([b"[1]", b"{", b"[" * 100_000, b"9" * 5_000]))
def test_any_bytes_are_an_object_or_a_value_error(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        with suppress(ValueError):
            assert files.read(path) == json.loads(data)


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _too_large(path: Path) -> None:
    path.write_text('{"a": "' + "x" * files.MOST_BYTES + '"}')


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, _link, _too_large])
def test_what_is_no_small_file_is_not_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    make(path)
    with pytest.raises((OSError, ValueError)):
        files.read(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, _link])
def test_nothing_is_written_through_what_is_no_file(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    make(files.part_of(path))
    with pytest.raises(OSError, match=r"file\.part"):
        files.put(path, {"a": 1})


def test_a_file_is_its_owners_and_whole(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b")
    path = tmp_path / "a" / "b" / "file.json"
    files.put(path, {"a": "\ud800"})
    assert files.read(path) == {"a": "\ud800"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]
    files.remove(path)
    files.remove(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_only_one_of_two_new_files_is_there(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "request.json"
    files.put_new(path, {"a": 1})
    with pytest.raises(FileExistsError):
        files.put_new(path, {"a": 2})
    assert files.read(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
