"""Secrets planted in a whole instance, through requests that go well, go wrong and meet a crash:
none of them comes out anywhere it is written down or told to somebody else."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from end_to_end._cli import cli, scratch
from end_to_end._client import TIMEOUT_S, Answer, Client
from end_to_end._house import eventually
from end_to_end.test_up import READY_S, Up, arguments, running
from strongroom.core.db.places import place_of
from strongroom.lab.arena import free_port
from strongroom.settings import Settings

KEEPERS = ("credentials.json",)
"""Files whose only purpose is to hold secrets, closed to others: those of the database's roles."""


def canary(what: str) -> str:
    return f"canary-{what}-{secrets.token_hex(16)}"


class Cage:
    """The canaries by name, and all that was told to somebody."""

    def __init__(self) -> None:
        self.birds: dict[str, str] = {}
        self.told: list[tuple[str, bytes]] = []

    def plant(self, what: str, bird: str | None = None) -> str:
        self.birds[what] = bird or canary(what)
        return self.birds[what]

    def hear(self, what: str, answer: Answer) -> Answer:
        self.told.append((what, str(answer.headers).encode() + answer.body))
        return answer

    def found_in(self, text: bytes) -> list[str]:
        """The canaries in it, however they are dressed."""
        found = []
        for what, bird in self.birds.items():
            raw = bird.encode()
            dresses = {raw, raw.hex().encode(), quote(bird, safe="").encode(), raw[::-1]}
            # Of the three ways to begin in base64, without what depends on the neighbours.
            dresses |= {base64.b64encode(b"\0" * n + raw)[4:-4] for n in range(3)}
            if any(dress in text for dress in dresses):
                found.append(what)
        return found


class Instance:
    """`up`, with secrets in every setting that takes one."""

    def __init__(self, up: Up, cage: Cage) -> None:
        self.up, self.cage = up, cage
        self.folder = up.folder

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        with Client(self.up.port) as client:
            yield client

    def database(self) -> psycopg.Connection:
        place = place_of(Settings(data_dir=self.folder, database_url=None))
        return psycopg.connect(place.owner, autocommit=True)

    def awaits(self) -> None:
        eventually(lambda: self.up.status() == 200, "it is ready again", READY_S)


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    cage = Cage()
    ticket_key = secrets.token_urlsafe(32)
    set_to = {
        "TOKEN_SECRET": cage.plant("token-secret"),
        "SANDBOX_SECRET": cage.plant("sandbox-secret"),
        "TICKET_KEY": cage.plant("ticket-key", ticket_key),
        "SMTP_URL": f"smtp://mailer:{cage.plant('mail-password')}@127.0.0.1:{free_port()}",
        "LOG_LEVEL": "debug",
        "LOG_REQUESTS": "on",
        "SLOW_REQUEST_MS": "1",
        "SLOW_GROUP_MS": "1",
        "OTLP_URL": f"http://127.0.0.1:{free_port()}",
        "TRACE_SHARE": "1",
        "RATE_LIMITS": "off",
        "MAX_ATTEMPTS": "1",
    }
    prefix = (
        "env",
        f"OTEL_EXPORTER_OTLP_HEADERS=authorization={cage.plant('collectors-header')}",
        *(f"STRONGROOM_{name}={value}" for name, value in set_to.items()),
    )
    with scratch() as room, running(room / "data", "--port", "0", prefix=prefix) as up:
        up.ready()
        passwords = json.loads((room / "data" / "postgres" / "credentials.json").read_text())
        for role, password in passwords.items():
            cage.plant(f"database-{role}", password)
        yield Instance(up, cage)


def register(instance: Instance, name: str) -> dict[str, Any]:
    """Somebody with a password; the tokens are canaries as well."""
    cage = instance.cage
    said = {"email": f"{name}@example.com", "password": cage.plant(f"{name}s-password")}
    with instance.client() as client:
        for _ in range(2):  # the second time the address is taken
            answer = client.post("/api/auth/register", {**said, "fullName": name.title()})
            cage.hear("register", answer)
        tokens: dict[str, Any] = client.post("/api/auth/login", said).json
    cage.plant(f"{name}s-access-token", tokens["accessToken"])
    cage.plant(f"{name}s-refresh-token", tokens["refreshToken"])
    return {**said, **tokens}


def ask_wrongly(instance: Instance, person: dict[str, Any]) -> None:
    """Every secret where it does not belong, or not like that."""
    cage, password = instance.cage, person["password"]
    access, refresh = person["accessToken"], person["refreshToken"]
    basic = base64.b64encode(f"ann:{password}".encode()).decode()
    wrong: list[Any] = [
        {"email": person["email"], "password": cage.plant("wrong-password")},
        {"email": 1, "password": password},
        {"email": person["email"], "password": [password]},
        {"email": password, "password": password},
        {"email": person["email"], "password": password, "also": password},
        {"email": person["email"], "password": password * 50},
        f'{{"email":"a@b.c","password":"{password}"'.encode(),
        f'{{"password":"{password}","password":"{password}"}}'.encode(),
        f"password={password}".encode(),
    ]
    with instance.client() as client:
        for body in wrong:
            cage.hear("login", client.post("/api/auth/login", body))
            cage.hear("register", client.post("/api/auth/register", body))
        for body in ({"refreshToken": access}, {"refreshToken": [refresh]}, {"token": refresh}):
            cage.hear("refresh", client.post("/api/auth/refresh", body))
        for said in (f"Basic {basic}", f"Bearer {password}", f"bearer {access}x", refresh):
            for path in ("/api/users/me", "/api/nothing", "/healthz", "/metrics"):
                cage.hear(path, client.send("GET", path, [("Authorization", said)]))
        for path in (f"/api/users/me?access_token={access}", f"/api/orders/{password}",
                     f"/nothing/{password}", f"/pay/{password}", f"/api/rounds?cursor={access}",
                     f"/api/orders?q={password}", f"/api/events/{password}"):  # fmt: skip
            cage.hear("path", client.get(path, access))
        for key in (password, access[:255]):
            answer = client.post("/api/bets", {"roundId": password}, access, key)
            cage.hear("key", answer)
        large = [("Authorization", f"Bearer {access}"), ("Cookie", password * 900)]
        cage.hear("large", client.send("GET", "/api/users/me", large))
        kept = [("Authorization", f"Basic {basic}"), ("Cookie", password)]
        path = "/api/payments/sandbox/callbacks"
        cage.hear("callback", client.send("POST", path, kept, b"{}"))
    for said in (f"GET /{password} nonsense\r\n\r\n", f"\r\n{password}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", instance.up.port)) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(said.encode())
            cage.told.append(("nonsense", connection.recv(65536)))


def pay_with_a_card(instance: Instance, person: dict[str, Any], operator: str) -> None:
    """A ticket is bought; the number of the card is wrong, then right. Its mail cannot be
    sent, as nobody listens there."""
    cage, token = instance.cage, person["accessToken"]
    event = {"name": "Concert", "location": "Huế", "startsAt": "2100-01-01T00:00:00Z"}
    event["endsAt"] = "2100-01-02T00:00:00Z"
    with instance.client() as client:
        path = f"/api/events/{client.post('/api/events', event, operator).json['eventId']}"
        type = {"name": "Seat", "price": 100, "quantity": 9}
        type_id = client.post(f"{path}/ticket-types", type, operator).json["ticketTypeId"]
        client.post(f"{path}/publish", {}, operator)
        seat = {"ticketTypeId": type_id, "quantity": 1}
        held = client.post("/api/bookings/reserve", seat, token).json["reservationId"]
        order = client.post(f"/api/bookings/complete/{held}", {"paymentMethod": "CARD"}, token)
        page = "/pay/" + order.json["payment"]["redirectUrl"].rpartition("/")[2]
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        for card in (cage.plant("card", "4929 7315 8823 0416"), cage.plant("cvc")):
            # The page shows the giver what was given, so that it can be mended.
            assert client.send("POST", page, form, f"card={quote(card)}".encode()).status == 422
            cage.hear("page", client.get(page))
        assert client.send("POST", page, form, b"card=9704+0000+0000+4000").status == 303


def bury_a_message(instance: Instance, person: dict[str, Any], operator: str) -> None:
    """A worker meets a bug while it works on a bet."""
    token = person["accessToken"]
    died = "SELECT count(*) FROM events.dead_letters"
    with instance.database() as db, instance.client() as client:
        me = client.get("/api/users/me", token).json["userId"]
        client.post(f"/api/wallets/{me}/deposits", {"amount": 100}, operator)
        open_one = {"name": "Final", "kind": "oracle"}
        round_id = client.post("/api/rounds", open_one, operator).json["roundId"]
        db.execute("ALTER TABLE betting.books RENAME COLUMN upto TO lost")
        bet = {"roundId": round_id, "side": "A", "amount": 10}
        assert client.post("/api/bets", bet, token).status == 202
        eventually(lambda: db.execute(died).fetchall() != [(0,)], "its message died", READY_S)
        db.execute("ALTER TABLE betting.books RENAME COLUMN lost TO upto")


def fail_at_the_door(instance: Instance, person: dict[str, Any], operator: str) -> str:
    """A bug while a ticket is scanned; its code, which opens the door."""
    path = "/api/bookings/my-bookings"
    with instance.database() as db, instance.client() as client:

        def bought() -> Any:
            return client.get(path, person["accessToken"]).json["items"][0]["tickets"]

        code: str = eventually(bought, "the ticket is there", READY_S)[0]["code"]
        renamed = "ALTER TABLE ticketing.tickets RENAME COLUMN"
        db.execute(f"{renamed} status TO lost")
        for asked in (f"/api/tickets/{code}/check-in", f"/api/tickets/{code}/check-in/"):
            instance.cage.hear("scan", client.post(asked, {"gate": "A"}, operator))
        assert client.get(f"/api/tickets/{code}.html", operator).status == 500
        db.execute(f"{renamed} lost TO status")
    return code


def crash(instance: Instance, person: dict[str, Any]) -> None:
    """Bugs, a database that goes away, and processes that are killed, all while secrets pass."""
    cage = instance.cage
    said = {"email": person["email"], "password": person["password"]}
    new = {"email": "new@example.com", "password": cage.plant("new-password"), "fullName": "New"}
    with instance.database() as db, instance.client() as client:
        for table, column in (("users", "password_hash"), ("sessions", "refresh_hash")):
            renamed = f"ALTER TABLE identity.{table} RENAME COLUMN"
            db.execute(f"{renamed} {column} TO lost")
            assert cage.hear("bug", client.post("/api/auth/login", said)).status == 500
            refresh = {"refreshToken": person["refreshToken"]}
            cage.hear("bug", client.post("/api/auth/refresh", refresh))
            cage.hear("bug", client.post("/api/auth/register", new))
            db.execute(f"{renamed} lost TO {column}")
        db.execute("ALTER TABLE identity.users ADD CONSTRAINT no CHECK (full_name <> 'Newer')")
        newer = {**new, "email": "newer@example.com", "fullName": "Newer"}
        assert cage.hear("bug", client.post("/api/auth/register", newer)).status == 500
        db.execute("ALTER TABLE identity.users DROP CONSTRAINT no")
    for name in ("api-1", "postgres", "worker-1"):
        children = instance.up.children()
        with asked_all_the_time(instance, said):
            os.kill(children[name], signal.SIGKILL)
            eventually(lambda n=name, c=children: instance.up.children().get(n, c[n]) != c[n],  # type: ignore[misc]
                       f"{name} is back", READY_S)  # fmt: skip
            instance.awaits()


@contextlib.contextmanager
def asked_all_the_time(instance: Instance, said: dict[str, str]) -> Iterator[None]:
    """Somebody logs in again and again meanwhile."""
    stop = threading.Event()
    asking = threading.Thread(target=keep_asking, args=(instance, said, stop))
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join()


def keep_asking(instance: Instance, said: dict[str, str], stop: threading.Event) -> None:
    while not stop.wait(0.02):
        with contextlib.suppress(OSError, http.client.HTTPException), instance.client() as client:
            instance.cage.hear("crash", client.post("/api/auth/login", said))


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All files of the instance: logs, notes, evidence, mails, and those of the database."""
    for file in folder.rglob("*"):
        if file.is_file() and file.name not in KEEPERS:
            with contextlib.suppress(FileNotFoundError):
                yield str(file.relative_to(folder)), file.read_bytes()


def rows(db: psycopg.Connection) -> Iterator[tuple[str, bytes]]:
    """All that the database holds."""
    tables = (
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace >= 16384"
    )
    for (table,) in db.execute(tables).fetchall():
        said = db.execute(f"SELECT t::text FROM {table} t").fetchall()
        yield table, "\n".join(row[0] for row in said).encode()


def test_no_secret_comes_out_of_an_instance_whatever_happens_to_it(instance: Instance) -> None:
    cage, data = instance.cage, ("--data-dir", str(instance.folder))
    ann = register(instance, "ann")
    key = cli("api-keys", "create", "till-7", "--role", "operator", "--json", *data).json
    operator = cage.plant("api-key", next(v for v in key.values() if str(v).startswith("sk_")))
    ask_wrongly(instance, ann)
    pay_with_a_card(instance, ann, operator)
    bury_a_message(instance, ann, operator)
    code = fail_at_the_door(instance, ann, operator)
    crash(instance, ann)
    with instance.client() as client:
        for path in ("/api/ops/status", "/metrics", "/readyz", "/api/ops/trial-balance"):
            cage.hear(path, client.get(path, operator))
        cage.hear("reconcile", client.post("/api/ops/reconciliations", {}, operator))
    commands = ("doctor", "doctor --json", "status --json", "reconcile", "dead-letters list")
    for command in map(str.split, commands):
        ended = cli(*command, *data)
        cage.told.append((" ".join(command), (ended.out + ended.err).encode()))
    for name, pid in instance.up.children().items():
        cage.told.append((f"the arguments of {name}", " ".join(arguments(pid)).encode()))
    with instance.database() as db:
        cage.told += rows(db)
    assert instance.up.end() == 0
    cage.told.append(("up", instance.up.words().encode()))
    cage.told += written(instance.folder)
    escaped = {what: found for what, text in cage.told if (found := cage.found_in(text))}
    assert escaped == {}
    # The database and the mail have a ticket's code, and hashes; what is logged has neither.
    logged = [(what, text) for what, text in cage.told if what == "up" or what.endswith(".log")]
    assert [what for what, text in logged if code.encode() in text or b"$argon2" in text] == []
    # The control: what was looked through is what was written, and a canary in it is seen.
    places = {what for what, _ in cage.told}
    assert {
        "logs/api-1.log",
        "logs/worker-1.log",
        "identity.users",
        "events.dead_letters",
    } <= places
    log = dict(cage.told)["logs/api-1.log"]
    assert b'"event": "bug"' in log and b"UndefinedColumn" in log
    assert b"CheckViolationError" in log and b"Failing row" not in log
    for event in (b"slow request", b"slow group", b"traces are not taken"):
        assert b'"event": "%b"' % event in log
    assert cage.found_in(log + base64.b64encode(b"xy" + operator.encode())) == ["api-key"]
