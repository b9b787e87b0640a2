"""Ids are random, and nobody gets another one's."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from otel_torch_modules._emission.ids import UrandomIdGenerator, generate_span_ids


def test_ids_of_all_threads_differ_and_are_in_range() -> None:
    ids = UrandomIdGenerator()
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda _: ids.generate_trace_id(), range(5_000)))
        drawn += threads.map(lambda _: ids.generate_span_id(), range(5_000))
    assert len(set(drawn)) == 10_000
    assert all(0 < number < 2**128 for number in drawn[:5_000])
    assert all(0 < number < 2**64 for number in drawn[5_000:])
    assert len(set(generate_span_ids(ids, 5_000))) == 5_000
    with ThreadPoolExecutor(4) as threads:
        many = [*threads.map(lambda count: generate_span_ids(ids, count), [1, 50, 2_100] * 40)]
    assert [*map(len, many)] == [1, 50, 2_100] * 40
    assert len({number for some in many for number in some}) == sum(map(len, many))


def test_the_system_is_asked_once_for_the_ids_of_many_records(drawings: list[int]) -> None:
    ids = UrandomIdGenerator()
    for _ in range(40):
        generate_span_ids(ids, 50)
        ids.generate_ids()
    assert len(drawings) <= 2


def test_they_neither_follow_nor_disturb_the_programs_random_numbers() -> None:
    random.seed(0)
    expected = [random.random() for _ in range(3)]
    drawn = set()
    for _ in range(2):
        random.seed(0)
        ids = UrandomIdGenerator()
        drawn |= {ids.generate_trace_id(), ids.generate_span_id()}
        assert [random.random() for _ in range(3)] == expected
    assert len(drawn) == 4


@pytest.mark.parametrize("count", [1, 50, 3_000])
def test_a_forked_child_has_other_ids_than_its_parent(count: int) -> None:
    ids = UrandomIdGenerator()
    ids.generate_span_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        drawn = generate_span_ids(ids, count)
        os.write(writer, b"".join(number.to_bytes(8, "big") for number in drawn))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.close(writer)
    with open(reader, "rb") as pipe:
        written = pipe.read()
    of_child = {int.from_bytes(written[at : at + 8], "big") for at in range(0, len(written), 8)}
    assert len(of_child) == count
    assert of_child.isdisjoint(generate_span_ids(ids, count))


def test_what_the_program_puts_in_place_of_the_systems_numbers_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(_: int) -> bytes:
        raise AssertionError("these numbers are the program's")

    monkeypatch.setattr(os, "urandom", asked)
    assert UrandomIdGenerator().generate_trace_id()
