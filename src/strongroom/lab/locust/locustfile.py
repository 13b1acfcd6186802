"""Strongroom for those who live in Locust: bets, cancellations, wallets, transfers, seats, orders.

    pip install 'strongroom[locust]'
    strongroom up                                            # with STRONGROOM_RATE_LIMITS=off
    strongroom users create --role operator --json           # its accessToken: OPERATOR_TOKEN
    strongroom users create --count 100 --json > users.jsonl # optional
    OPERATOR_TOKEN=… USERS_FILE=users.jsonl locust \\
        -f "$(python -c 'import strongroom.lab as lab; print(lab.__path__[0])')/locust" \\
        --host http://127.0.0.1:8000 --headless --users 100 --spawn-rate 20 --run-time 1m

This folder is no package, on purpose: Locust puts it on its path, and whoever imports Locust has
the whole process patched.

Environment:

- `OPERATOR_TOKEN` speaks for the operator who opens the round, the event and the product that are
  played with, gives everybody money, and makes the transfers. Needed.
- `USERS_FILE` holds lines of {"userId", "accessToken"}. Without it every user registers and logs
  in, which hashes two passwords each on the server: slow on purpose.
- `PACE_S` is how long a user thinks between two requests, on average (1).
- `LOCUST_HOST` is the house, when `--host` is not given.

Every request that moves something has an idempotency key, and one that was not answered, or was
turned away for the moment (429, 503), is sent again with the same key: at most `TRIES` times.
A refusal by a rule counts as a failure under its code (`409 sold_out`), so that it is seen.

Locust waits for an answer before the same user asks again (a closed loop), so a slow server is
asked less and its latencies look better than they are. `strongroom load` does not wait.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from locust import FastHttpUser, between, events, task
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment
from locust.exception import StopUser

TRIES = 4
"""Of one request, each under the same key."""

AGAIN = {0, 429, 503}
"""No answer, or not now: nothing happened, or the same key tells what did."""

RACES = {"409 wrong_state"}
"""The bet was matched before its cancellation came: an answer as good as the other."""

FUNDS = 100_000_000
"""Of each user, in đồng: an hour's bets."""

MANY = 1_000_000
"""Seats and pieces: what is measured is selling, not being sold out."""

KEPT = 5
"""Open bets of a user that may still be cancelled."""


class Stage:
    """What all users of this process play with; made once, by the operator."""

    round_id = ""
    ticket_type_id = ""
    product_id = ""

    def __init__(self) -> None:
        self.people: Iterator[dict[str, str]] | None = None
        """Those of USERS_FILE, over and over."""
        self.playing: list[str] = []
        """The ids of who plays, to transfer to."""


stage = Stage()

PACE_S = float(os.environ.get("PACE_S", "1"))


def ask(
    client: FastHttpSession, token: str | None, method: str, path: str, name: str, body: Any = None
) -> dict[str, Any] | None:
    """The answer's body; None when it was no success, which Locust has heard of by its code."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if method == "POST":
        headers["Idempotency-Key"] = str(uuid4())
    for tried in range(1, TRIES + 1):
        with client.request(
            method, path, name=name, json=body, headers=headers, catch_response=True
        ) as answer:
            if 200 <= answer.status_code < 300:
                found: dict[str, Any] = json.loads(answer.text or "{}")
                return found
            said = f"{answer.status_code} {code_of(answer.text)}"
            if said in RACES:
                answer.success()
                return None
            answer.failure(said)
            if answer.status_code not in AGAIN or tried == TRIES:
                return None
    return None


def code_of(text: str | None) -> str:
    """The code of a problem document."""
    try:
        return str(json.loads(text or "{}").get("code", "no answer"))
    except ValueError:
        return "not ours"


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def set_the_stage(environment: Environment, **_: Any) -> None:
    """Opens a round, an event with seats and a product with pieces; stops when it cannot."""
    token = os.environ.get("OPERATOR_TOKEN", "")
    host = environment.host or ""
    client = FastHttpSession(host, environment.events.request, None)
    tag, today = uuid4().hex[:8], datetime.now(UTC)

    def make(path: str, body: Any = None) -> dict[str, Any]:
        made = ask(client, token, "POST", path, "(setting the stage)", body)
        if made is None:
            raise SystemExit(f"The house at {host} refused {path}. Is OPERATOR_TOKEN right?")
        return made

    stage.round_id = make("/api/rounds", {"name": f"locust {tag}", "kind": "oracle"})["roundId"]
    event = {
        "name": f"Locust {tag}",
        "location": "Sài Gòn",
        "startsAt": (today + timedelta(days=30)).isoformat(),
        "endsAt": (today + timedelta(days=30, hours=3)).isoformat(),
    }
    event_id = make("/api/events", event)["eventId"]
    seats = {"name": "Standing", "price": 250_000, "quantity": MANY}
    made = make(f"/api/events/{event_id}/ticket-types", seats)
    stage.ticket_type_id = made["ticketTypeId"]
    make(f"/api/events/{event_id}/publish")
    product = {"sku": f"LOCUST-{tag}", "name": "Shirt", "price": 120_000}
    stage.product_id = make("/api/products", product)["productId"]
    pieces = {"kind": "receive", "quantity": MANY, "reason": "load"}
    make(f"/api/products/{stage.product_id}/stock", pieces)
    if file := os.environ.get("USERS_FILE"):
        lines = Path(file).read_text("utf8").splitlines()
        stage.people = itertools.cycle([json.loads(line) for line in lines if line.strip()])


class Person(FastHttpUser):
    """Somebody with a wallet who bets, looks, buys seats and orders, at the pace that is set."""

    wait_time = between(PACE_S / 2, PACE_S * 1.5)

    def on_start(self) -> None:
        self.bets: list[str] = []
        if stage.people is not None:
            known = next(stage.people)
            self.id, self.token = known["userId"], known["accessToken"]
        else:
            self.register()
        self.operator = os.environ.get("OPERATOR_TOKEN", "")
        self.as_operator(
            f"/api/wallets/{self.id}/deposits", "/api/wallets/{id}/deposits", {"amount": FUNDS}
        )
        stage.playing.append(self.id)

    def register(self) -> None:
        """A new user by the front door."""
        who = {"email": f"{uuid4().hex}@example.com", "password": uuid4().hex}
        body = who | {"fullName": "Trần Thị Locust"}
        made = ask(self.client, None, "POST", "/api/auth/register", "/api/auth/register", body)
        pair = made and ask(self.client, None, "POST", "/api/auth/login", "/api/auth/login", who)
        if not made or not pair:
            raise StopUser()
        self.id, self.token = made["userId"], pair["accessToken"]

    def post(self, path: str, body: Any = None, name: str | None = None) -> dict[str, Any] | None:
        return ask(self.client, self.token, "POST", path, name or path, body)

    def as_operator(self, path: str, name: str, body: Any) -> dict[str, Any] | None:
        return ask(self.client, self.operator, "POST", path, name, body)

    @task(10)
    def bet(self) -> None:
        side, amount = random.choice("AB"), random.randrange(1, 11) * 1000
        made = self.post("/api/bets", {"roundId": stage.round_id, "side": side, "amount": amount})
        if made:
            self.bets = [*self.bets, made["betId"]][-KEPT:]

    @task(1)
    def cancel(self) -> None:
        if self.bets:
            self.post(f"/api/bets/{self.bets.pop()}/cancel", name="/api/bets/{id}/cancel")

    @task(10)
    def look_at_the_wallet(self) -> None:
        ask(self.client, self.token, "GET", "/api/wallets/me", "/api/wallets/me")

    @task(2)
    def send_money(self) -> None:
        """A transfer to somebody else, which the operator makes."""
        others = [id for id in stage.playing if id != self.id]
        if others:
            body = {"from": self.id, "to": random.choice(others), "amount": 1000}
            self.as_operator("/api/transfers", "/api/transfers", body)

    @task(2)
    def buy_a_seat(self) -> None:
        item = {"ticketTypeId": stage.ticket_type_id, "quantity": 1}
        held = self.post("/api/bookings/reserve", item)
        if held:
            path = f"/api/bookings/complete/{held['reservationId']}"
            self.post(path, {"paymentMethod": "CARD"}, "/api/bookings/complete/{id}")

    @task(2)
    def order_a_shirt(self) -> None:
        customer = {"name": "Nguyễn Văn A", "phone": f"+849{random.randrange(10**8):08d}"}
        items = [{"productId": stage.product_id, "quantity": random.randrange(1, 4)}]
        self.post("/api/orders", {"customer": customer, "items": items})
