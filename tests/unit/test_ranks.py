"""Choosing ranks."""

from __future__ import annotations

import pytest

from otel_torch_modules import Config
from otel_torch_modules.ranks import Ranks


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", list(range(20))),
        ("ALL", list(range(20))),
        ("0", [0]),
        ("0,8,16", [0, 8, 16]),
        ("0-7", list(range(8))),
        ("*/8", [0, 8, 16]),
        (" 3 , 5-6, */10 ", [0, 3, 5, 6, 10]),
        ("18-40", [18, 19]),
        ("7-7", [7]),
    ],
)
def test_chosen_ranks(text: str, chosen: list[int]) -> None:
    ranks = Ranks(text)
    assert [rank for rank in range(20) if rank in ranks] == chosen
    assert ranks.lowest(20) == chosen[0]


@pytest.mark.parametrize("text", ["20", "64-128", "21,22"])
def test_no_rank_of_the_job_is_chosen(text: str) -> None:
    assert Ranks(text).lowest(20) is None


@pytest.mark.parametrize("name", ["ranks", "detail_ranks"])
@pytest.mark.parametrize(
    "text", ["", "none", "-1", "1-", "7-3", "*/0", "*", "0;8", "0,,8", "1.5", "0 8", "²"]
)
def test_what_is_not_a_choice_of_ranks(name: str, text: str) -> None:
    with pytest.raises(ValueError, match="is not allowed; it must be all, or ranks") as raised:
        Config(**{name: text})
    assert f"OTEL_TORCH_MODULES_{name.upper()}: {text!r}" in str(raised.value)


def test_the_variables_are_read() -> None:
    config = Config.from_env(
        {
            "OTEL_TORCH_MODULES_RANKS": "*/8",
            "OTEL_TORCH_MODULES_DETAIL_RANKS": "0",
            "OTEL_TORCH_MODULES_RUN_ID": "night-17",
        }
    )
    assert (config.ranks, config.detail_ranks, config.run_id) == ("*/8", "0", "night-17")
