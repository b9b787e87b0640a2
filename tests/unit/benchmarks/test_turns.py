"""How the time of a table is shared out."""

from __future__ import annotations

import math

import pytest

from benchmarks.enough import Vague
from benchmarks.turns import take_turns


class Watch:
    """A clock that goes on when something is measured."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Narrowing:
    """A comparison whose widest interval narrows as the root of the time it has had.

    Args:
        watch: what it moves on.
        vague: how wide it is after one second.
        before: seconds that it takes before its first round.
        floor: what it becomes no narrower than.
        added: how many times as wide it is for what is added.
    """

    def __init__(
        self, watch: Watch, vague: float, before: float = 0, floor: float = 0, added: float = 1
    ) -> None:
        self.vague = Vague(math.inf, math.inf)
        self.had = 0.0
        self.ends = 0
        self._watch = watch
        self._after_a_second = vague
        self._before = before
        self._floor = floor
        self._added = added

    @property
    def is_over(self) -> bool:
        return self.vague.added <= 1 or self.ends > 0

    def begin(self, seconds: float, at_most: float) -> None:
        assert not self.had
        if self._before + seconds > at_most:
            self._watch.now += at_most
            self.end()
        else:
            self._watch.now += self._before
            self.go_on(seconds)

    def go_on(self, seconds: float) -> None:
        assert not self.is_over
        self._watch.now += seconds
        self.had += seconds
        vague = max(self._floor, self._after_a_second / math.sqrt(self.had))
        self.vague = Vague(vague, vague * self._added)

    def end(self) -> None:
        self.ends += 1


def test_each_has_a_turn_and_the_time_that_is_left_goes_where_figures_are_vague() -> None:
    watch = Watch()
    clear, vague, vaguer = (Narrowing(watch, width) for width in (1, 8, 12))
    others = [Narrowing(watch, 1) for _ in range(7)]
    take_turns([vague, clear, vaguer, *others], 600, watch)
    assert all(each.is_over for each in (clear, vague, vaguer))
    assert clear.had < vague.had < vaguer.had
    assert watch.now < 600


def test_nothing_is_measured_any_more_when_the_time_is_over() -> None:
    watch = Watch()
    never = [Narrowing(watch, 1e6) for _ in range(4)]
    take_turns(never, 600, watch)
    assert watch.now == pytest.approx(600 * 0.97)
    assert [each.ends for each in never] == [1, 1, 1, 1]


def test_one_that_becomes_no_clearer_does_not_take_the_time_of_the_others() -> None:
    watch = Watch()
    hopeless = Narrowing(watch, 50, floor=30)
    others = [Narrowing(watch, 12) for _ in range(3)]
    take_turns([hopeless, *others], 600, watch)
    assert all(each.ends == 0 and each.is_over for each in others)
    assert hopeless.ends == 1


def test_where_beginning_takes_the_time_first_turns_are_shorter_and_each_has_one() -> None:
    watch = Watch()
    slow = [Narrowing(watch, 50, before=25) for _ in range(12)]
    take_turns(slow, 600, watch)
    assert all(each.had for each in slow)
    assert watch.now <= 600


def test_what_is_not_through_its_first_turn_when_the_time_is_over_is_left_out() -> None:
    watch = Watch()
    slow = [Narrowing(watch, 50, before=220) for _ in range(4)]
    take_turns(slow, 600, watch)
    assert [each.had > 0 for each in slow] == [True, True, False, False]
    assert [each.ends for each in slow] == [1, 1, 1, 1]
    assert watch.now <= 600


def test_with_time_enough_for_all_it_is_not_used_up() -> None:
    watch = Watch()
    take_turns([Narrowing(watch, 0.5) for _ in range(5)], 600, watch)
    assert watch.now <= 600 / 2


def test_figures_are_known_before_what_they_add_is_asked_for() -> None:
    watch = Watch()
    vague = [Narrowing(watch, 10) for _ in range(3)]
    close = [Narrowing(watch, 2, added=4) for _ in range(3)]
    turns: list[object] = []
    take_turns([*close, *vague], 600, watch, turns.append)
    assert all(each.is_over and each.ends == 0 for each in vague)
    after_first = turns[6:]
    last_of_vague = max(after_first.index(each) for each in vague)
    assert min(turns.index(each, 6) - 6 for each in close if each in after_first) > last_of_vague


def test_one_whose_first_turn_was_bad_has_another_before_others_have_had_many() -> None:
    class Unlucky(Narrowing):
        def go_on(self, seconds: float) -> None:
            super().go_on(seconds)
            if self.had == seconds:
                self.vague = Vague(50, 50)

    watch = Watch()
    unlucky, *slow = Unlucky(watch, 8), *(Narrowing(watch, 20, floor=1.9) for _ in range(2))
    take_turns([*slow, unlucky, *(Narrowing(watch, 1) for _ in range(5))], 600, watch)
    assert unlucky.ends == 0
