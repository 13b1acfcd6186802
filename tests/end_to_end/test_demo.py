"""`demo`: what it plays, what it proves, and what it leaves."""

from __future__ import annotations

import email
from collections.abc import Iterator
from email.policy import default as policy
from pathlib import Path
from typing import Any

import pytest

from end_to_end._cli import cli, environment, scratch
from strongroom.doors.cli.rush import Seats, bar
from strongroom.doors.cli.sale import proof_lines
from strongroom.doors.cli.shop import shop_lines

FINE = 0

USERS, BUYERS, SEATS = 20, 30, 100

BACKUPS = "backups"


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    with scratch() as folder:
        yield folder


@pytest.fixture(scope="module")
def proof(room: Path) -> Any:
    env = environment(TMPDIR=str(room), STRONGROOM_BACKUP_DIR=str(room / BACKUPS))
    # Without the kill: what a dead worker held comes back after half a minute only.
    found = cli("demo", "--users", str(USERS), "--seconds", "1", "--no-kill", "--json", env=env)
    assert found.code == FINE, found.out + found.err
    return found.json


def test_the_demo_proves_itself_and_removes_its_instance(proof: Any, room: Path) -> None:
    assert proof["fine"]
    assert proof["acknowledged"] > 50
    assert (proof["missing"], proof["unfinished"], proof["unasked"]) == (0, 0, 0)
    assert proof["replayed"] == min(1_000, proof["acknowledged"])
    assert proof["draws"] > 0
    assert set(proof["trialBalance"].values()) == {0}
    assert len(proof["trialBalance"]) == 8, "money, two ticket types, five products"
    assert set(proof["invariants"].values()) == {"holds"}
    assert not list(room.glob("strongroom-demo-*"))


def test_the_demo_archives_nothing_of_what_it_invents(proof: Any, room: Path) -> None:
    assert not (room / BACKUPS).exists()


def test_the_demo_sells_every_seat_once(proof: Any) -> None:
    told = proof["ticketing"]
    assert told["fine"]
    assert told["seats"] == SEATS
    assert told["tickets"] == told["sold"] == SEATS - told["free"] > SEATS / 2
    assert (told["held"], told["oversold"], told["missingTickets"]) == (0, 0, 0)
    assert not (told["refused"] and told["free"])
    assert told["buyers"] == BUYERS
    assert told["bought"] + sum(told["refused"].values()) == BUYERS
    assert set(told["refused"]) <= {"sold_out"}
    assert told["reservationsPerSecond"] > 0 < told["reserveP99Ms"]


def test_the_demo_sells_what_is_on_the_shelf_and_nothing_else(proof: Any) -> None:
    told = proof["shop"]
    assert told["fine"]
    assert (told["buyers"], told["pieces"]) == (USERS, USERS * 10)
    assert told["free"] + told["held"] + told["sold"] == told["pieces"]
    assert told["held"] + told["sold"] == told["promised"] > told["pieces"] / 4
    assert (told["missing"], told["codesTwice"], told["oversold"]) == (0, 0, 0)
    assert told["revenue"] == told["totalOfOrders"] > 0
    assert set(told["refused"]) <= {"out_of_stock"}


def test_the_demo_lets_a_ticket_in_once(proof: Any) -> None:
    scan = proof["ticketing"]["checkIn"]
    assert (scan["status"], scan["secondScan"]) == ("CHECKED_IN", "already_checked_in")
    assert scan["firstScan"]["gate"] == "Cổng A"


def test_the_demo_leaves_a_ticket_and_its_mail_to_look_at(proof: Any, room: Path) -> None:
    told = proof["ticketing"]
    assert 0 < told["mailsSent"] <= told["mailsQueued"] == told["bought"]
    ticket, mail = Path(told["open"]["ticket"]), Path(told["open"]["mail"])
    assert ticket.parent == mail.parent and ticket.is_relative_to(room)
    assert told["checkIn"]["ticket"] in ticket.read_text("utf8")
    letter = email.message_from_bytes(mail.read_bytes(), policy=policy)
    text = letter.get_body(("plain",))
    assert text is not None and told["checkIn"]["ticket"] in text.get_content()


def test_what_the_demo_says_without_a_terminal_can_be_read(room: Path) -> None:
    env = environment(TMPDIR=str(room))
    found = cli("demo", "--users", "6", "--seconds", "1", "--no-kill", env=env)
    assert found.code == FINE, found.out + found.err
    assert found.says("buyers at once", "0 oversold", "again: already_checked_in")
    assert "\x1b" not in found.out + found.err


TOLD = {
    "buyers": 3,
    "bought": 2,
    "refused": {"sold_out": 1},
    "unresolved": 0,
    "seats": 4,
    "free": 0,
    "held": 0,
    "sold": 4,
    "oversold": 0,
    "tickets": 4,
    "missingTickets": 0,
    "reservationsPerSecond": 100,
    "reserveP99Ms": 3.0,
    "mailsQueued": 2,
    "mailsSent": 1,
    "checkIn": {"ticket": "0", "secondScan": "already_checked_in", "firstScan": {"gate": "A"}},
}


def test_a_clean_sale_is_said_to_be_fine() -> None:
    assert all(fine for fine, _ in proof_lines(TOLD))


@pytest.mark.parametrize(
    "spoilt",
    [
        {"unresolved": 1},
        {"seats": 5, "free": 1},
        {"sold": 3, "held": 1},
        {"oversold": 1},
        {"sold": 3},
        {"missingTickets": 1},
        {"tickets": 3},
        {"checkIn": None},
        {"checkIn": {"ticket": "0", "secondScan": None, "firstScan": None}},
    ],
    ids=str,
)
def test_a_sale_that_went_wrong_is_not_said_to_be_fine(spoilt: dict[str, Any]) -> None:
    assert not all(fine for fine, _ in proof_lines(TOLD | spoilt))


@pytest.mark.parametrize("seats", [(100, 0, 0), (99, 1, 0), (0, 1, 99), (33, 33, 34), (0, 0, 100)])
def test_the_bar_of_seats_is_as_long_whatever_was_sold(seats: tuple[int, int, int]) -> None:
    free, held, sold = seats
    shown = bar(Seats(free, held, sold), 100)
    assert sum(shown.count(mark) for mark in "█▒░") == 40
    assert ("█" in shown) == (sold > 0)


SHOP = {
    "buyers": 2,
    "orders": 3,
    "missing": 0,
    "codesTwice": 0,
    "unresolved": 0,
    "pieces": 10,
    "free": 4,
    "held": 4,
    "sold": 2,
    "oversold": 0,
    "promised": 6,
    "ordersPerSecond": 100,
    "orderP99Ms": 3.0,
    "revenue": 70,
    "totalOfOrders": 70,
}


def test_a_clean_shop_is_said_to_be_fine() -> None:
    assert all(fine for fine, _ in shop_lines(SHOP))


@pytest.mark.parametrize(
    "spoilt",
    [
        {"unresolved": 1},
        {"missing": 1},
        {"codesTwice": 1},
        {"free": 3},
        {"promised": 7},
        {"oversold": 1},
        {"revenue": 71},
    ],
    ids=str,
)
def test_a_shop_that_went_wrong_is_not_said_to_be_fine(spoilt: dict[str, Any]) -> None:
    assert not all(fine for fine, _ in shop_lines(SHOP | spoilt))
