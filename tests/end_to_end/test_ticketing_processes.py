"""Ticketing with two API processes and two workers, any of which may die."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import asyncio
import email
import email.policy
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from end_to_end._client import Client
from end_to_end._contract import client, operator  # noqa: F401
from end_to_end._house import House, Person, Process, eventually, new_house
from end_to_end._leases import end_leases_of_the_dead
from end_to_end._tickets import buy, new_event, reserve, types_of
from serving import Clones, Server
from strongroom.lab.wire import Reply, Wire, request

CHANGES = 50
SCANS = 50
PURCHASES = 60
AT_ONCE = 15

KILLS = 3
PAUSE_S = 0.5
"""Between two kills: a worker is at work again by then, or is killed as it begins."""

DRAINED_S = 90.0
"""Sixty mails are drawn and written by two workers that share their cores with all else."""

SEED = 4711


@pytest.fixture(scope="module")
def house(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Two API processes and two workers."""
    with new_house(server, clones, tmp_path_factory.mktemp("processes")) as house:
        for _ in range(2):
            house.start_api()
            house.start_worker()
        yield house


# The cache --------------------------------------------------------------------------------------


class Reader(threading.Thread):
    """Somebody who looks at an event all the time, so that its page is always being kept."""

    def __init__(self, client: Client, path: str) -> None:
        super().__init__(daemon=True)
        self._client, self._path = client, path
        self.over = threading.Event()
        self.names: list[str] = []

    def run(self) -> None:
        while not self.over.is_set():
            self.names.append(self._client.get(self._path).json["name"])


def test_what_one_process_has_changed_is_what_the_next_read_of_the_other_shows(
    house: House, client: Client, operator: Person
) -> None:
    event = new_event(client, operator, 10)
    path, slug = f"/api/events/{event['eventId']}", f"/api/events/{event['slug']}"
    type = f"{path}/ticket-types/{types_of(event)[0]}"
    with house.client(1) as other, house.client(1) as watching:
        reader = Reader(watching, slug)
        reader.start()
        try:
            for number in range(CHANGES):
                one, two = (client, other) if number % 2 else (other, client)
                name = f"tên {number}"
                assert one.patch(path, {"name": name}, operator.token).status == 200
                for asked in (two, one):
                    assert asked.get(slug).json["name"] == name
                more = {"quantity": 10 + number, "price": 1_000 * number}
                assert one.patch(type, more, operator.token).status == 200
                (seen,) = two.get(path).json["ticketTypes"]
                assert (seen["quantity"], seen["price"]) == (10 + number, 1_000 * number)
                assert seen["available"] == 10 + number
        finally:
            reader.over.set()
            reader.join()
    order = [event["name"], *(f"tên {number}" for number in range(CHANGES))]
    places = [order.index(name) for name in reader.names]
    assert len(set(places)) > CHANGES // 2, "invalid: the reader hardly ever looked"
    assert places == sorted(places), "a name that was gone came back"


# The door ---------------------------------------------------------------------------------------


def test_of_fifty_gates_that_scan_a_ticket_at_once_one_lets_in(
    house: House, client: Client, operator: Person
) -> None:
    (buyer,) = house.people(1)
    (ticket,) = buy(client, buyer, new_event(client, operator, 1), 1)["tickets"]

    async def scan(number: int) -> Reply:
        wire = Wire(house.addresses, random.Random(number))
        path = f"/api/tickets/{ticket['code' if number % 2 else 'qr']}/check-in"
        body = {"gate": f"gate {number}"}
        reply = await wire.until_definite(request("POST", path, operator.token, uuid4().hex, body))
        wire.close()
        return reply

    async def scan_all() -> Sequence[Reply]:
        return await asyncio.gather(*map(scan, range(SCANS)))

    replies = asyncio.run(scan_all())
    (admitted,) = (one.json for one in replies if one.status == 200)
    refusals = [one for one in replies if one.status != 200]
    first = {"checkedInAt": admitted["checkedInAt"], "gate": admitted["gate"]}
    for one in refusals:
        assert (one.status, one.json["code"]) == (409, "already_checked_in")
        assert one.json["firstScan"] == first
    kept = "SELECT result, count(*) FROM ticketing.scans WHERE code = %s GROUP BY 1 ORDER BY 1"
    assert house.rows(kept, ticket["code"]) == [("ADMITTED", 1), ("ALREADY_CHECKED_IN", SCANS - 1)]


# The clock --------------------------------------------------------------------------------------


def leads(worker: Process) -> bool:
    return '"event": "leads"' in worker.log.read_text()


def candidates(house: House) -> int:
    """How many workers stand for election: each on a connection of its own."""
    query = """SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'strongroom leader' AND datname = current_database()"""
    ((count,),) = house.rows(query)
    return int(count)


def time_out(house: House, reservation_id: str) -> None:
    """Its time is over now, by the database's clock."""
    query = """UPDATE ticketing.reservations SET expires_at = clock_timestamp() WHERE id = %s
        RETURNING id"""
    assert house.rows(query, reservation_id)


def swept(house: House, reservation_id: str) -> bool:
    """Whether its end was written down, which is more than that it is over."""
    query = "SELECT status::text FROM ticketing.reservations WHERE id = %s"
    return house.rows(query, reservation_id) == [("EXPIRED",)]


def test_seats_go_on_coming_back_when_the_worker_that_leads_is_killed(
    house: House, client: Client, operator: Person
) -> None:
    (buyer,) = house.people(1)
    event = new_event(client, operator, 2)
    before, after = [reserve(client, buyer, event, 1) for _ in range(2)]
    time_out(house, before)
    eventually(lambda: swept(house, before), "the leader sweeps")
    eventually(lambda: candidates(house) == 2, "the other one stands by")
    (leader,) = (worker for worker in house.workers if leads(worker))
    (follower,) = (worker for worker in house.workers if worker is not leader)
    leader.kill()
    try:
        time_out(house, after)
        eventually(lambda: swept(house, after), "the one that is left sweeps")
        assert leads(follower)
    finally:
        leader.start()
    eventually(lambda: reserve(client, buyer, event, 2), "both seats are free again")


# A storm ----------------------------------------------------------------------------------------


@dataclass
class Storm:
    """Buyers who buy while workers die, and what was acknowledged to them."""

    house: House
    buyers: list[Person]
    type_id: str
    orders: dict[str, tuple[Person, int]] = field(default_factory=dict)
    pending_at_kills: list[int] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))

    async def buy(self, wire: Wire, buyer: Person, quantity: int) -> None:
        async def ask(path: str, body: Any) -> Any:
            said = request("POST", path, buyer.token, uuid4().hex, body)
            reply = await wire.until_definite(said)
            assert reply.status == 201, reply
            return reply.json

        wanted = {"ticketTypeId": self.type_id, "quantity": quantity}
        held = await ask("/api/bookings/reserve", wanted)
        body = {"paymentMethod": "MOMO", "ownerName": "Nguyễn Thị Lan"}
        order = await ask(f"/api/bookings/complete/{held['reservationId']}", body)
        self.orders[order["orderId"]] = (buyer, quantity)

    async def customers(self, number: int) -> None:
        """A share of the buyers, one after the other."""
        wire = Wire(self.house.addresses, random.Random(SEED + number))
        for place, buyer in enumerate(self.buyers[number::AT_ONCE]):
            await self.buy(wire, buyer, 1 + place % 2)
            await asyncio.sleep(self.chance.uniform(0, 2 * KILLS * PAUSE_S / 4))
        wire.close()

    async def killer(self) -> None:
        """Kills now the one worker, now the other, while there is something to be worked."""
        pending = "SELECT count(*) FROM ticketing.orders WHERE status = 'PENDING'"
        for turn in range(KILLS):
            while not self.house.rows(pending)[0][0]:
                await asyncio.sleep(0.005)
            worker = self.house.workers[turn % 2]
            worker.kill()
            self.pending_at_kills.append(self.house.rows(pending)[0][0])
            worker.start()
            await asyncio.sleep(PAUSE_S)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.killer())
            for number in range(AT_ONCE):
                tasks.create_task(self.customers(number))


def test_whoever_was_told_of_an_order_has_paid_tickets_and_one_mail_whatever_dies_meanwhile(
    house: House, client: Client, operator: Person
) -> None:
    event = new_event(client, operator, 2 * PURCHASES)
    storm = Storm(house, house.people(PURCHASES), types_of(event)[0])
    asyncio.run(storm.run())
    assert len(storm.orders) == PURCHASES
    assert len(storm.pending_at_kills) == KILLS
    assert any(storm.pending_at_kills), "invalid: nothing was under way when workers died"
    end_leases_of_the_dead(house)
    eventually(house.drained, "the workers have done everything", DRAINED_S)
    every_order_is_paid_and_has_its_tickets_once(house, client, storm)
    every_buyer_has_one_mail_with_the_tickets(house, client, storm)
    house.assert_sound()


def every_order_is_paid_and_has_its_tickets_once(
    house: House, client: Client, storm: Storm
) -> None:
    codes: Counter[str] = Counter()
    for order_id, (buyer, quantity) in storm.orders.items():
        (booking,) = client.get("/api/bookings/my-bookings", buyer.token).json["items"]
        assert (booking["orderId"], booking["status"]) == (order_id, "PAID")
        assert booking["payment"]["status"] == "SUCCESS"
        assert len(booking["tickets"]) == quantity
        codes.update(ticket["code"] for ticket in booking["tickets"])
    assert set(codes.values()) == {1}
    sold = "SELECT count(*) FROM ticketing.tickets WHERE ticket_type_id = %s"
    assert house.rows(sold, storm.type_id) == [(len(codes),)]
    charged = """SELECT count(*), sum(captured) = sum(amount) FROM payments.payments
        WHERE order_id = ANY(%s::uuid[])"""
    assert house.rows(charged, list(storm.orders)) == [(PURCHASES, True)]


def every_buyer_has_one_mail_with_the_tickets(house: House, client: Client, storm: Storm) -> None:
    mails: Counter[str] = Counter()
    texts = {}
    for file in (house.folder / "mail").glob("*.eml"):
        mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        mails[mail["To"].addresses[0].addr_spec] += 1
        text = mail.get_body(("plain",))
        assert text is not None
        texts[mail["To"].addresses[0].addr_spec] = text.get_content()
    query = "SELECT email FROM identity.users WHERE id = %s"
    for buyer, _ in storm.orders.values():
        ((address,),) = house.rows(query, buyer.id)
        assert mails[address] == 1
        (booking,) = client.get("/api/bookings/my-bookings", buyer.token).json["items"]
        assert all(ticket["code"] in texts[address] for ticket in booking["tickets"])
