"""Which records are sent with their modules, and who is asked first."""

from __future__ import annotations

import pytest

from otel_torch_modules._engine.keeping import Keeping, has_modules
from otel_torch_modules._records import Kept, Record
from otel_torch_modules._site import Site
from otel_torch_modules.keep import Keep
from otel_torch_modules.schedule import Schedule

MS = 1_000_000


def step(index: object, ms: int = 100, *, failed: bool = False) -> Record:
    record = Record("step", index, 7 * MS, 0, end=(7 + ms) * MS)  # type: ignore[arg-type]
    record.failed = failed
    return record


def evaluation(forwards: int, ms: int, site: Site | None = None) -> Record:
    return Record("eval", 3, 0, 0, end=ms * MS, forwards=forwards, site=site)


def decisions(
    keep: Keep, records: list[Record], schedule: Schedule | None = None
) -> dict[int, Kept]:
    """Return those that are kept, by their places."""
    keeping = Keeping(keep, schedule or Schedule())
    found = {place: keeping.decide(record) for place, record in enumerate(records)}
    return {place: kept for place, kept in found.items() if kept}


def test_the_first_every_so_many_the_slow_and_the_failed() -> None:
    records = [step(index, failed=index == 15) for index in range(23)]
    records[12] = step(12, 250)
    assert decisions(Keep(slow=1.3, every=10, first=2), records) == {
        0: Kept("first"),
        1: Kept("first"),
        10: Kept("every"),
        12: Kept("slow", 2.5),
        15: Kept("failed"),
        20: Kept("every"),
    }


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (Keep(), {15: "failed"}),
        (Keep(slow=1.3), {12: "slow", 15: "failed"}),
        (Keep(slow=3.0), {15: "failed"}),
        (Keep(every=12), {0: "every", 12: "every", 15: "failed"}),
        (Keep(first=1), {0: "first", 15: "failed"}),
    ],
)
def test_each_by_itself(keep: Keep, kept: dict[int, str]) -> None:
    records = [step(index, 250 if index == 12 else 100, failed=index == 15) for index in range(20)]
    found = decisions(keep, records)
    assert {place: why.reason for place, why in found.items()} == kept


def test_the_time_of_a_failed_step_is_not_compared_with() -> None:
    records = [step(index, 1, failed=True) for index in range(60)]
    records += [step(index) for index in range(60, 80)]
    assert set(decisions(Keep(slow=1.3), records)) == set(range(60))


def test_what_was_asked_for_is_kept_and_its_time_taken_in() -> None:
    records = [step(index) for index in range(20)]
    for place in (3, 12):
        records[place].requested = True
    records[12].end *= 9
    assert decisions(Keep(slow=1.3), records) == {3: Kept("requested"), 12: Kept("requested")}


def test_steps_are_counted_as_the_schedule_counts_them_on_all_ranks() -> None:
    schedule = Schedule(skip_first=5, wait=9, active=1)
    recorded = [index for index in range(205) if schedule.records(index)]
    assert recorded[:2] == [14, 24]
    for missed in (0, 3):  # of a rank that lost some records
        kept = decisions(Keep(every=5), [step(index) for index in recorded[missed:]], schedule)
        assert [recorded[missed + place] for place in kept] == [
            index for index in (14, 64, 114, 164) if index >= recorded[missed]
        ]


@pytest.mark.parametrize("index", ["epoch 1", None, 2.5])
def test_a_step_with_a_number_that_is_none_is_counted(index: object) -> None:
    assert list(decisions(Keep(every=4), [step(index) for _ in range(9)])) == [0, 4, 8]


def test_evaluations_are_a_series_of_their_own_and_compared_by_the_forward() -> None:
    records = [evaluation(forwards, 10 * forwards) for forwards in range(1, 21)]
    records.insert(10, step(0, 10_000))
    records.append(evaluation(4, 80))
    assert decisions(Keep(slow=1.3), records) == {21: Kept("slow", 2.0)}


def test_each_root_of_a_process_that_serves_is_a_series_of_its_own() -> None:
    sites = [Site(f"Model_{number}", "Model") for number in range(3)]
    records = [
        evaluation(1, 10 * (number + 1), sites[number]) for _ in range(20) for number in range(3)
    ]
    records.append(evaluation(1, 40, sites[1]))
    assert decisions(Keep(slow=1.3), records) == {60: Kept("slow", 2.0)}


def test_of_many_roots_the_ones_that_were_seen_last_are_known() -> None:
    keeping = Keeping(Keep(first=1), Schedule())
    often = Site("Often", "Often")
    assert keeping.decide(evaluation(1, 1, often))
    for number in range(100):
        assert keeping.decide(evaluation(1, 1, Site(f"Model_{number}", "Model")))
        assert keeping.decide(evaluation(1, 1, often)) is None
    assert keeping.decide(evaluation(1, 1, Site("Model_99", "Model"))) is None
    assert keeping.decide(evaluation(1, 1, Site("Model_0", "Model")))


@pytest.mark.parametrize(
    ("kind", "phases_only", "stride", "asked"),
    [
        ("step", False, None, True),  # nothing else was asked for
        (
            "step",
            True,
            None,
            False,
        ),  # DETAIL_RANKS leaves this rank's modules out, or there is no room
        ("step", False, 8, True),  # MAX_OVERHEAD: recorded with modules
        ("step", True, 8, False),  # MAX_OVERHEAD: with phases only
        ("eval", False, None, True),
        ("eval", True, None, False),  # DETAIL_RANKS
        ("eval", False, 8, True),  # MAX_OVERHEAD, by the last of its forwards
        ("eval", True, 8, True),
        ("checkpoint", False, None, False),  # has no modules
    ],
)
def test_it_is_asked_about_what_was_recorded_with_modules(
    kind: str, phases_only: bool, stride: int | None, asked: bool
) -> None:
    record = Record(kind, 0, 0, 0, phases_only=phases_only, stride=stride)  # type: ignore[arg-type]
    assert has_modules(record) is asked
