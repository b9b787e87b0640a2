"""Texts of the program's: nothing that UTF-8 has no bytes for, and not too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._texts import (
    MOST_CHARACTERS,
    describe_error,
    encodable,
    encodable_attributes,
)

surrogates = st.characters(categories=["Cs"])
any_text = st.lists(st.one_of(st.characters(), surrogates)).map("".join)


def is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(any_text)
def test_a_text_is_changed_only_where_it_cannot_be_encoded(text: str) -> None:
    changed = encodable(text)
    assert is_encodable(changed)
    # Two surrogates that belong together are the one character that they stand for.
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert changed == "".join(char if is_encodable(char) else "\ufffd" for char in joined)
    if is_encodable(text):
        assert changed == text


def test_all_texts_in_attributes_are() -> None:
    assert encodable_attributes({"a\ud800": ["\udcff", 1, ("\udc80",)], "b": {"\ud800": 2.5}}) == {
        "a\ufffd": ("\ufffd", 1, ("\ufffd",)),
        "b": {"\ufffd": 2.5},
    }


@given(st.integers() | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1]) | st.booleans())
def test_an_integer_of_more_than_64_bits_is_a_text(number: int) -> None:
    sent = encodable_attributes({"a": number, "b": [1, number]})
    expected = number if -(2**63) <= number < 2**63 else str(number)
    assert sent == {"a": expected, "b": (1, expected)}
    assert type(sent["a"]) is type(expected)


def test_one_that_python_would_not_write_is_too() -> None:
    assert encodable_attributes({"a": -(10**5_000)}) == {"a": hex(-(10**5_000))}


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


@given(any_text)
def test_an_error_is_described_by_what_can_be_sent(text: str) -> None:
    strange = type("Strange", (Exception,), {"__qualname__": text, "__module__": text})
    raised = describe_error(caught(strange(text)), with_stacktrace=True)
    assert all(map(is_encodable, (raised.type, raised.message, raised.stacktrace)))
    assert raised.message == encodable(text)
    assert not raised.truncated


def test_long_texts_of_an_error_are_cut_and_it_says_so() -> None:
    whole = describe_error(caught(ValueError("x" * MOST_CHARACTERS)), with_stacktrace=False)
    assert (whole.message, whole.truncated) == ("x" * MOST_CHARACTERS, False)
    text = "first" + "x" * 5_000_000 + "last"
    raised = describe_error(caught(ValueError(text)), with_stacktrace=True)
    assert raised.truncated
    assert raised.message == text[: MOST_CHARACTERS - 1] + "…"
    assert len(raised.stacktrace) <= MOST_CHARACTERS
    assert raised.stacktrace.startswith("Traceback (most recent call last):\n")
    assert "ValueError: firstx" in raised.stacktrace
    assert raised.stacktrace.endswith("xlast\n")
