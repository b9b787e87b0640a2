"""By how much each rank is behind the others."""

from __future__ import annotations

from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._diagnosis.straggler import behind_others


class _Counted(int):
    """A time that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        _Counted.compared += 1
        return int(self) < int(other)


@given(st.lists(st.integers(0, 40).map(lambda time: 2 * time), min_size=2, max_size=9))
def test_each_is_compared_with_the_median_of_the_others(times: list[int]) -> None:
    others = [times[:place] + times[place + 1 :] for place in range(len(times))]
    assert behind_others(times) == [
        time - median(of_others) for time, of_others in zip(times, others, strict=True)
    ]


def test_a_job_of_a_thousand_ranks_is_not_compared_pair_by_pair() -> None:
    ranks = 1_000
    _Counted.compared = 0
    times = [_Counted(rank * 7919 % ranks) for rank in range(ranks)]
    assert max(behind_others(times)) == ranks // 2
    assert _Counted.compared <= 30 * ranks
