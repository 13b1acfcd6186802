"""The ground: money, ids, errors, and the examples in the documentation of all rooms."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strongroom
from strongroom import errors, money
from strongroom.errors import Busy, Forbidden, Invalid, NotFound, Refused, StrongroomError
from strongroom.ids import digest_id, uuid7
from strongroom.money import MAX_AMOUNT, MAX_BALANCE, MAX_FEE_BPS, fee

ROOMS = [
    name
    for _, name, _ in pkgutil.walk_packages(strongroom.__path__, "strongroom.")
    # Alembic alone can run its environment; starting a program is not reading it.
    if "migrations" not in name and not name.endswith("__main__")
]


@pytest.mark.parametrize("name", ROOMS)
def test_examples_in_docstrings_are_true(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


# Money --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("winnings", "bps", "kept"),
    [
        (0, 1000, 0),
        (1, 1000, 0),
        (9, 1000, 0),
        (10, 1000, 1),
        (9_999, 1, 0),
        (10_000, 1, 1),
        (9_999, 250, 249),
        (MAX_AMOUNT, MAX_FEE_BPS, MAX_AMOUNT // 10),
        (MAX_AMOUNT - 1, 999, 99_899_999_999_999),
        (12_345, 0, 0),
    ],
)
def test_a_fee_is_rounded_down(winnings: int, bps: int, kept: int) -> None:
    assert fee(winnings, bps) == kept


@given(st.integers(0, MAX_AMOUNT), st.integers(0, MAX_FEE_BPS))
def test_a_fee_is_whole_and_never_more_than_its_part(winnings: int, bps: int) -> None:
    kept = fee(winnings, bps)
    assert isinstance(kept, int)
    assert kept * 10_000 <= winnings * bps < (kept + 1) * 10_000
    assert 2 * winnings - kept <= 2 * MAX_AMOUNT


@given(st.lists(st.integers(1, 10**6), max_size=5), st.integers(0, MAX_FEE_BPS))
def test_splitting_a_match_never_costs_more(parts: list[int], bps: int) -> None:
    assert sum(fee(part, bps) for part in parts) <= fee(sum(parts), bps)


def test_nine_thousand_of_the_largest_amounts_fit_an_account() -> None:
    assert 9_000 * money.MAX_AMOUNT < MAX_BALANCE == 2**63 - 1


# Ids ----------------------------------------------------------------------------------------------


def test_ids_are_uuids_of_version_seven() -> None:
    for _ in range(100):
        made = uuid7()
        assert (made.version, made.variant) == (7, RFC_4122)


def test_ids_only_ever_ascend() -> None:
    made = [uuid7() for _ in range(50_000)]
    assert all(a < b for a, b in pairwise(made))


def test_ids_carry_the_milliseconds_of_their_making() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7().int >> 80
    # Thousands of ids within one tick run ahead of the clock by some milliseconds at most.
    assert before <= made <= time.time_ns() // 1_000_000 + 1000


def test_ids_ascend_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = uuid7()
    an_hour_ago = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: an_hour_ago)
    made = [first, uuid7(), uuid7()]
    assert made == sorted(set(made))


def test_ids_of_many_threads_are_all_different() -> None:
    def many(_: int) -> list[UUID]:
        return [uuid7() for _ in range(5_000)]

    with ThreadPoolExecutor(8) as threads:
        made = [one for batch in threads.map(many, range(8)) for one in batch]
    assert len(set(made)) == 40_000


def test_a_digest_names_the_same_parts_the_same_everywhere() -> None:
    made = digest_id("user:1", "/api/bets", "k")
    assert made == digest_id("user:1", "/api/bets", "k")
    assert str(made) == "22348e4a-4897-8f00-85a5-c2dce14b2d32"
    assert (made.version, made.variant) == (8, RFC_4122)


@given(
    st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1, max_size=4)
)
def test_a_digest_changes_with_every_part(parts: list[str]) -> None:
    whole = digest_id(*parts)
    assert whole != digest_id(*parts, "")
    for index in range(len(parts)):
        changed = [*parts[:index], parts[index] + "x", *parts[index + 1 :]]
        assert digest_id(*changed) != whole


def test_a_digest_keeps_parts_apart() -> None:
    assert digest_id("ab", "c") != digest_id("a", "bc")


# Errors -------------------------------------------------------------------------------------------


INSIDE = ("strongroom.errors", "strongroom.core.", "strongroom.apps.")


def all_errors(kind: type[StrongroomError] = StrongroomError) -> list[type[StrongroomError]]:
    for name in ROOMS:
        importlib.import_module(name)
    found = [kind]
    for below in kind.__subclasses__():
        found += all_errors(below)
    # What the doors translate: theirs and the lab's own never leave the command line.
    return [one for one in found if one.__module__.startswith(INSIDE)]


KINDS = (Invalid, NotFound, Forbidden, Refused, Busy)


def test_every_error_is_of_one_of_the_five_kinds() -> None:
    for error in all_errors():
        assert error is StrongroomError or issubclass(error, KINDS), error


def test_an_errors_name_is_its_code() -> None:
    for error in all_errors():
        if error is StrongroomError:
            continue
        words = "".join("_" + c.lower() if c.isupper() else c for c in error.__name__).strip("_")
        assert error.code == words, error


def test_errors_that_share_a_code_are_of_one_kind() -> None:
    kinds: dict[str, type[StrongroomError]] = {}
    for error in all_errors():
        kind = next((kind for kind in KINDS if issubclass(error, kind)), StrongroomError)
        assert kinds.setdefault(error.code, kind) is kind, error


def test_an_errors_docstring_is_its_message() -> None:
    plain = (StrongroomError.__init__, Invalid.__init__)
    for error in all_errors():
        assert (inspect.getdoc(error) or "").endswith("."), error
        if error.__init__ in plain:
            said = error().detail
            assert said == " ".join((inspect.getdoc(error) or "").split())


def test_an_error_may_say_more_than_its_docstring() -> None:
    assert Refused("It is full.").detail == str(Refused("It is full.")) == "It is full."


def test_a_kept_refusal_speaks_with_the_first_ones_code() -> None:
    kept = errors.StoredRefusal("sold_out", "Nothing is left.", "r1", replayed=True)
    assert (kept.code, kept.detail, kept.request_id, kept.replayed) == (
        "sold_out",
        "Nothing is left.",
        "r1",
        True,
    )
    assert errors.StoredRefusal.code == "stored_refusal"
