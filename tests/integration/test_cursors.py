"""Cursors of lists: ours alone, whole, and of the list and the question they were given for."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.apps.orders.asked import Asked
from strongroom.cursors import LONGEST, Cursors
from strongroom.errors import Invalid
from strongroom.ids import uuid7

SECRET = "s" * 32
CURSORS = Cursors(SECRET)
ASKED = Asked(words="an", since=datetime(2026, 1, 1, tzinfo=UTC))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def reads(cursor: str, list: str = "orders", asked: object = ASKED) -> bool:
    try:
        CURSORS.read(cursor, list, asked, UUID)
    except Invalid:
        return False
    return True


def test_a_cursor_leads_back_to_its_place_in_every_process() -> None:
    place = uuid7()
    cursor = CURSORS.sign("orders", ASKED, place)
    assert Cursors(SECRET).read(cursor, "orders", ASKED, UUID) == place
    assert len(cursor) < LONGEST and cursor.isascii() and set(cursor) <= set(LETTERS)


def test_a_cursor_is_of_one_list_one_question_and_one_installation() -> None:
    cursor = CURSORS.sign("orders", ASKED, uuid7())
    assert not reads(cursor, "products")
    assert not reads(cursor, asked=ASKED._replace(words="ann"))
    assert not reads(cursor, asked=ASKED._replace(since=None))
    assert not reads(cursor, asked=ASKED._replace(user_id=uuid7()))
    assert not reads(Cursors("t" * 32).sign("orders", ASKED, uuid7()))


def test_the_same_words_in_other_fields_are_another_question() -> None:
    """What is sealed has a structure: nothing slides from one part into the next."""
    cursor = CURSORS.sign("ab", ("c", None), uuid7())
    for list, asked in (("a", ("bc", None)), ("ab", (None, "c")), ("ab", ("c",))):
        assert not reads(cursor, list, asked)


def test_every_change_of_a_letter_breaks_a_cursor() -> None:
    """Also of the last one, some bits of which stand for nothing."""
    cursor = CURSORS.sign("orders", ASKED, uuid7())
    assert reads(cursor)
    for at in range(len(cursor)):
        for letter in LETTERS + "=+/ .\n\u01b0":
            if letter != cursor[at]:
                assert not reads(cursor[:at] + letter + cursor[at + 1 :])
    for other in (cursor[:-1], cursor + "A", cursor + "=", cursor + "==", " " + cursor, cursor * 9):
        assert not reads(other)


@settings(max_examples=200)
@given(st.text(max_size=80) | st.text(LETTERS, max_size=80))
def test_no_text_is_a_cursor_by_chance(text: str) -> None:
    assert not reads(text)


@pytest.mark.parametrize("text", ["", "A", "AAAA", "A" * 5_000, "\ud800", "e30", "\x00"])
def test_what_is_none_of_ours_says_which_field_is_wrong(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        CURSORS.read(text, "orders", ASKED, UUID)
    assert [one["field"] for one in refused.value.errors] == ["cursor"]
