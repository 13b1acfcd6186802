"""What a load process sends: scenarios by name, each an endless iterator of whole requests.

A scenario makes all that is constant before the clock starts and joins the rest when asked, so
that memory stays bounded however long the run. Its ids and amounts come from the job, its
randomness from the job's seed; only idempotency keys differ from run to run.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

import msgspec

from strongroom.errors import Invalid, NotFound
from strongroom.lab.client import CONNECTIONS, request_bytes, request_parts

BATCHES_PREPARED = 16
"""Bodies that take turns, each with its own pairs of users: 20 MB of the largest."""

NUMBER = b"########"
"""Stands where a batch's number goes; of its width, so that lengths never change."""

PHONE = b"#" * 12
"""Stands where a phone number goes: a Vietnamese mobile's in E.164, all of which are as long."""

NEWCOMERS = 8
"""Of so many orders one is for a customer nobody has heard of."""


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one load process does. Ends by `count`, by `duration_s`, or by whichever is first.

    `options` are the scenario's own: see its docstring. `key_prefix` begins every idempotency
    key; a random one is taken when it is empty.
    """

    host: str
    port: int
    scenario: str
    tokens: list[str]
    count: int | None = None
    duration_s: float | None = None
    warmup_s: float = 0.0
    connections: int = CONNECTIONS
    pipeline: int = 1
    seed: int = 0
    key_prefix: str = ""
    keep_bodies: int = 0
    options: dict[str, Any] = {}


class NoSuchScenario(NotFound):
    """There is no scenario of this name."""


class JobUnfit(Invalid):
    """The job lacks something that its scenario or its end needs."""


Scenario = Callable[[Job], Iterator[bytes]]

SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    """Registers a function under the name that jobs call it by."""

    def register(function: Scenario) -> Scenario:
        assert name not in SCENARIOS, f"two scenarios named {name}"
        SCENARIOS[name] = function
        return function

    return register


def requests_of(job: Job) -> Iterator[bytes]:
    """The requests of the job's scenario, checked and ready to be drawn."""
    if job.scenario not in SCENARIOS:
        raise NoSuchScenario(f"No scenario {job.scenario!r}; there are {sorted(SCENARIOS)}.")
    if not job.tokens:
        raise JobUnfit("A job needs at least one token.")
    if job.count is None and job.duration_s is None:
        raise JobUnfit("A job ends by `count` or by `duration_s`.")
    return SCENARIOS[job.scenario](job)


@scenario("bets")
def bets(job: Job) -> Iterator[bytes]:
    """POST /api/bets, users in turn, their sides alternating, each bet with a fresh key.

    Options: `round_id`, or several `round_ids` that pairs of users take in turn; `amount` (1000).
    """
    rounds = job.options.get("round_ids") or [_option(job, "round_id")]
    prefix = _key_prefix(job)
    parts = []
    for number, token in enumerate(job.tokens):
        bet = {
            "roundId": rounds[number // 2 % len(rounds)],
            "side": "AB"[number % 2],
            "amount": job.options.get("amount", 1000),
        }
        headers = _headers(job, token) | {"Content-Type": "application/json"}
        body = msgspec.json.encode(bet)
        before, after = request_parts("POST", "/api/bets", headers, body, "Idempotency-Key")
        parts.append((before + prefix, after))
    return (
        b"%b%d%b" % (before, number, after)
        for number, (before, after) in zip(count(), cycle(parts), strict=False)
    )


@scenario("wallet-read")
def wallet_read(job: Job) -> Iterator[bytes]:
    """GET /api/wallets/me, users in turn. Options: `consistency`, left out when not given."""
    chosen = job.options.get("consistency")
    path = f"/api/wallets/me?consistency={chosen}" if chosen else "/api/wallets/me"
    return cycle([request_bytes("GET", path, _headers(job, token)) for token in job.tokens])


@scenario("transfers")
def transfers(job: Job) -> Iterator[bytes]:
    """POST /api/transfers/batch between random pairs of users, by the first 16 operators of
    `tokens`.

    Options: `user_ids`, at least two; `batch`, items a request (1000); `mode` ("independent");
    `amount` (1). A batch is a prepared body with its number written into every item's key: one
    pass over the bytes, about 0.08 µs an item.
    """
    users = _option(job, "user_ids")
    if len(users) < 2:
        raise JobUnfit("Transfers need at least two `user_ids`.")
    dice = random.Random(job.seed)
    prefix = _key_prefix(job).decode()
    parts = []
    for _, token in zip(range(BATCHES_PREPARED), cycle(job.tokens)):
        body = _batch(job, users, dice, prefix)
        headers = _headers(job, token) | {"Content-Type": "application/json"}
        before, after = request_parts(
            "POST", "/api/transfers/batch", headers, body, "Idempotency-Key"
        )
        parts.append(before + prefix.encode() + NUMBER + after)
    return (
        whole.replace(NUMBER, b"%08d" % number)
        for number, whole in zip(count(), cycle(parts), strict=False)
    )


@scenario("reservations")
def reservations(job: Job) -> Iterator[bytes]:
    """POST /api/bookings/reserve, users in turn and carts in turn, each with a fresh key.

    Options: `carts`, lists of (ticket type, quantity).
    """
    carts = [
        [{"ticketTypeId": type, "quantity": quantity} for type, quantity in cart]
        for cart in _option(job, "carts")
    ]
    bodies = [msgspec.json.encode(cart[0] if len(cart) == 1 else {"items": cart}) for cart in carts]
    prefix = _key_prefix(job)
    parts = []
    for token in job.tokens:
        headers = _headers(job, token) | {"Content-Type": "application/json"}
        ends = [
            request_parts("POST", "/api/bookings/reserve", headers, body, "Idempotency-Key")
            for body in bodies
        ]
        parts.append([(before + prefix, after) for before, after in ends])
    return (
        b"%b%d%b" % (user[number % len(bodies)][0], number, user[number % len(bodies)][1])
        for number, user in zip(count(), cycle(parts), strict=False)
    )


@scenario("completions")
def completions(job: Job) -> Iterator[bytes]:
    """POST /api/bookings/complete/{reservationId}, each reservation once, by its own user.

    Options: `bookings`, pairs of a reservation and its user's place in `tokens`; `method` ("CARD").
    """
    body = msgspec.json.encode({"paymentMethod": job.options.get("method", "CARD")})
    prefix = _key_prefix(job).decode()
    for number, (reservation, place) in enumerate(_option(job, "bookings")):
        headers = _headers(job, job.tokens[place]) | {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{prefix}{number}",
        }
        yield request_bytes("POST", f"/api/bookings/complete/{reservation}", headers, body)


@scenario("orders")
def orders(job: Job) -> Iterator[bytes]:
    """POST /api/orders, users in turn and carts in turn, each with a fresh key; of eight orders one
    for a new customer, the others for known ones by chance.

    Options: `carts`, lists of (product, quantity); `phones` of customers, Vietnamese mobiles in
    E.164; without any all are new.
    """
    carts, phones = _option(job, "carts"), [one.encode() for one in job.options.get("phones", [])]
    if any(len(one) != len(PHONE) for one in phones):
        raise JobUnfit("The `phones` are as +84912345678.")
    dice, prefix = random.Random(job.seed), _key_prefix(job)
    # Whole rounds of carts, so that as many as they are long ask for as much as is in them.
    rounds = -(-len(job.tokens) // len(carts))
    parts = []
    for token, cart in zip(cycle(job.tokens), carts * rounds):
        headers = _headers(job, token) | {"Content-Type": "application/json"}
        body = _order(cart)
        before, after = request_parts("POST", "/api/orders", headers, body, "Idempotency-Key")
        parts.append((before + prefix, after))
    # Numbers of another run are new to hardly anybody.
    fresh = count(secrets.randbelow(10**8))
    return (
        b"%b%d%b" % (before, number, after.replace(PHONE, _phone(number, phones, fresh, dice)))
        for number, (before, after) in zip(count(), cycle(parts), strict=False)
    )


def _order(cart: list[tuple[str, int]]) -> bytes:
    items = [{"productId": product, "quantity": quantity} for product, quantity in cart]
    customer = {
        "name": "Nguyễn Thị Bình",
        "phone": PHONE.decode(),
        "address": "12 Lê Lợi, Quận 1, TP. Hồ Chí Minh",
    }
    return msgspec.json.encode({"items": items, "customer": customer})


def _phone(number: int, known: list[bytes], fresh: Iterator[int], dice: random.Random) -> bytes:
    if known and number % NEWCOMERS:
        return known[dice.randrange(len(known))]
    return b"+849%08d" % (next(fresh) % 10**8)


@scenario("reads")
def reads(job: Job) -> Iterator[bytes]:
    """GET of paths in turn, by users in turn. Options: `paths`."""
    paths = _option(job, "paths")
    turns = zip(cycle(job.tokens), paths * -(-len(job.tokens) // len(paths)), strict=False)
    return cycle([request_bytes("GET", path, _headers(job, token)) for token, path in turns])


def _batch(job: Job, users: list[str], dice: random.Random, prefix: str) -> bytes:
    amount, items = job.options.get("amount", 1), []
    for place in range(job.options.get("batch", 1000)):
        giver, taker = dice.sample(users, 2)
        key = f"{prefix}{NUMBER.decode()}-{place}"
        items.append({"key": key, "from": giver, "to": taker, "amount": amount})
    return msgspec.json.encode({"mode": job.options.get("mode", "independent"), "items": items})


def _headers(job: Job, token: str) -> dict[str, str]:
    return {"Host": f"{job.host}:{job.port}", "Authorization": f"Bearer {token}"}


def _key_prefix(job: Job) -> bytes:
    # 48 random bits: two runs against one database must not replay each other's answers.
    return f"{job.key_prefix or secrets.token_hex(6)}-".encode()


def _option(job: Job, name: str) -> Any:
    if name not in job.options:
        raise JobUnfit(f"The scenario {job.scenario!r} needs the option `{name}`.")
    return job.options[name]
