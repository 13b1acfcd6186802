"""Rate limits: what one caller may ask in a while, over HTTP and, with a clock that the test moves,
through the application itself."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import limits
import pytest
import pytest_asyncio
from litestar.types import ASGIApp
from pydantic import ValidationError

from end_to_end._cli import cli, environment
from end_to_end._client import Answer, Client
from end_to_end._house import House, Person, new_house
from serving import Clones, Server
from strongroom.apps.wallets import Deposit
from strongroom.core.guard import RateLimited, RateLimits, network
from strongroom.core.identity import TooManyAttempts, Unauthenticated
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.openapi import document
from strongroom.doors.http.routing import Call, Route, table
from strongroom.doors.http.seen import Seen
from strongroom.main import Strongroom
from strongroom.settings import Settings

A_MINUTE = 300
"""Requests that the default allows in one."""

SANDBOX_SECRET = "the sandbox of these tests signs with this secret"

FUNDS = 1_000

ELSEWHERE = "198.51.100.7"

ANYBODY = "/api/tickets/public-key"

# Over HTTP, with the limits as they are by default --------------------------------------------


@pytest.fixture(scope="module")
def house(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    chosen = {"rate_limits": "on", "sandbox_secret": SANDBOX_SECRET}
    with new_house(server, clones, tmp_path_factory.mktemp("limits"), **chosen) as house:
        house.start_api()
        yield house


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    with house.client() as client:
        yield client


def use_up(ask: Callable[[], Answer], status: int = 200) -> None:
    """All that a minute allows, the last of it said to be the last."""
    for left in reversed(range(A_MINUTE)):
        answer = ask()
        assert answer.status == status, answer.body
        assert answer.headers["ratelimit-policy"] == '"global";q=300;w=60'
        said = re.fullmatch(r'"global";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert said and int(said[1]) == left and 1 <= int(said[2]) <= 60


def refused(answer: Answer) -> None:
    assert (answer.status, answer.problem) == (429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["ratelimit-policy"] == '"global";q=300;w=60'
    assert answer.headers["ratelimit"] == f'"global";r=0;t={answer.headers["retry-after"]}'


def test_the_301st_request_of_a_minute_is_refused_and_changes_nothing(
    house: House, client: Client
) -> None:
    one, other = house.people(2)
    house.inside(lambda inside: inside.run(Deposit(one.id, FUNDS)))
    use_up(lambda: client.get("/api/users/me", one.token))
    before = house.rows("SELECT count(*) FROM commands.answers")
    refused(client.post("/api/wallets/me/withdrawals", {"amount": 1}, one.token))
    assert house.rows("SELECT count(*) FROM commands.answers") == before
    balance = house.inside(lambda inside: inside.statements.wallets([one.id]))
    assert balance[one.id].balance == FUNDS
    seen = client.get("/api/users/me", other.token)  # from the same address
    assert seen.headers["ratelimit"] == '"global";r=299;t=60'


def test_who_shows_no_good_token_counts_for_the_address(house: House) -> None:
    (person,) = house.people(1)
    port = house.apis[0].port
    with Client(port, source="127.0.0.2") as here, Client(port, source="127.0.0.3") as there:
        wrong = iter([None, "nonsense", "sk_unknown"] * A_MINUTE)
        use_up(lambda: here.get("/api/users/me", next(wrong)), 401)
        for answer in (here.get("/api/users/me", "nonsense"), here.get(ANYBODY)):
            refused(answer)
        assert here.get("/api/users/me", person.token).status == 200
        assert there.get(ANYBODY).status == 200


def test_the_kill_switch_and_providers_are_never_limited(house: House) -> None:
    (operator,) = house.people(1, "operator")
    with Client(house.apis[0].port, source="127.0.0.4") as client:
        use_up(lambda: client.get("/api/users/me", operator.token))
        use_up(lambda: client.get(ANYBODY))
        refused(client.get("/api/ops/trial-balance", operator.token))
        refused(client.get(ANYBODY))
        always = [
            client.post("/api/ops/payouts/pause", {"reason": "a drill"}, operator.token),
            client.get("/api/ops/status", operator.token),
            client.post("/api/ops/reconciliations", {}, operator.token),
            client.post("/api/ops/payouts/resume", {"reason": "it is over"}, operator.token),
            client.get("/healthz"),
            client.get("/metrics"),
        ]
        assert [answer.status for answer in always] == [200] * len(always)
        always.append(client.post("/api/payments/sandbox/callbacks", {"news": "none"}))
        assert always[-1].problem == "forged_callback"
        for answer in always:
            assert "ratelimit" not in answer.headers


# Through the application, with a clock of our own ---------------------------------------------


class Said(NamedTuple):
    """An answer, headers by name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["code"]
        return code


@dataclass
class Office:
    """A house that limits by a clock which stands until it is moved, and its application."""

    house: Strongroom
    app: ASGIApp
    time: list[float]
    bodies_read: int = 0

    async def ask(
        self,
        method: str,
        path: str,
        token: str | None = None,
        *,
        client: str = ELSEWHERE,
        body: bytes = b"",
        key: str = "",
    ) -> Said:
        headers = [(b"content-type", b"application/json")]
        headers += [(b"authorization", b"Bearer " + token.encode())] if token else []
        headers += [(b"idempotency-key", key.encode())] if key else []
        sent: list[Any] = []

        async def receive() -> Any:
            self.bodies_read += 1
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope: Any = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "client": (client, 50_000),
        }
        await self.app(scope, receive, send)
        named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Said(sent[0]["status"], named, b"".join(one["body"] for one in sent[1:]))

    async def people(self, count: int) -> list[Person]:
        return [Person(*one) for one in await self.house.identity.create_users(count, "user")]


Offices = Callable[..., Awaitable[Office]]


@pytest_asyncio.fixture
async def offices(database_url: str, tmp_path: Path) -> AsyncIterator[Offices]:
    """Opens an office with these limits; one may add routes to the table."""
    opened: list[Strongroom] = []

    async def office(*routes: Route, **rates: str) -> Office:
        house = Strongroom(Settings(database_url=database_url, data_dir=tmp_path, **rates))
        time = [1_000.0]
        if house.rate_limits is not None:
            windows = house.rate_limits.windows.values()
            found = {one.name: f"{one.amount}/{one.span_s} seconds" for one in windows}
            house.rate_limits = RateLimits(found, clock=lambda: time[0])
        await house.__aenter__()
        opened.append(house)
        app = table(house, Seen(), [*ROUTES, *routes])
        return Office(house, app, time)

    yield office
    for house in opened:
        await house.__aexit__()


async def test_the_window_slides_instead_of_starting_anew(offices: Offices) -> None:
    office = await offices(rate_limit_global="3/minute")
    statuses = []
    for moment in (0, 30, 59, 59.9, 60, 60.1, 89.9, 90, 118, 119, 119.1):
        office.time[0] = 1_000 + moment
        statuses.append((await office.ask("GET", ANYBODY)).status)
    assert statuses == [200, 200, 200, 429, 200, 429, 429, 200, 429, 200, 429]


async def test_who_waits_as_long_as_told_is_let_through(offices: Offices) -> None:
    office = await offices(rate_limit_global="2/minute")
    for moment in (0.0, 7.3):
        office.time[0] = 1_000 + moment
        await office.ask("GET", ANYBODY)
    answer = await office.ask("GET", ANYBODY)
    wait_s = int(answer.headers["retry-after"])
    assert (answer.status, wait_s) == (429, 53)
    office.time[0] += wait_s - 1
    assert (await office.ask("GET", ANYBODY)).status == 429
    office.time[0] += 1
    assert (await office.ask("GET", ANYBODY)).status == 200


async def nothing(_: Call) -> None:
    return None


def reads(path: str, limited: Any) -> Route:
    return Route("GET", path, "user", 200, "Nothing.", None, None, read=nothing, limited=limited)


async def test_a_route_may_have_a_limit_beside_the_global_one(offices: Offices) -> None:
    routes = [reads("/api/one", "orders"), reads("/api/two", "reports")]
    office = await offices(
        *routes,
        rate_limit_global="4/minute",
        rate_limit_orders="2/minute",
        rate_limit_reports="2/5 minutes",
    )
    person, other = await office.people(2)
    answers = [await office.ask("GET", "/api/one", person.token) for _ in range(4)]
    assert [one.status for one in answers] == [200, 200, 429, 429]
    assert answers[0].headers["ratelimit-policy"] == '"global";q=4;w=60, "orders";q=2;w=60'
    assert answers[0].headers["ratelimit"] == '"global";r=3;t=60, "orders";r=1;t=60'
    # What was refused is not counted.
    assert answers[3].headers["ratelimit"] == '"global";r=2;t=60, "orders";r=0;t=60'
    assert (await office.ask("GET", "/api/one", other.token)).status == 200
    office.time[0] += 30
    answers = [await office.ask("GET", "/api/two", person.token) for _ in range(3)]
    assert [one.status for one in answers] == [200, 200, 429]
    assert answers[2].headers["ratelimit"] == '"global";r=0;t=30, "reports";r=0;t=300'
    assert answers[2].headers["retry-after"] == "300"


async def test_a_replay_counts_as_any_request(offices: Offices) -> None:
    office = await offices(rate_limit_global="3/minute")
    (person,) = await office.people(1)
    await office.house.run(Deposit(person.id, FUNDS))
    path, body = "/api/wallets/me/withdrawals", b'{"amount": 7}'
    answers = [
        await office.ask("POST", path, person.token, body=body, key="once") for _ in range(4)
    ]
    assert [one.status for one in answers] == [201, 201, 201, 429]
    assert [one.headers.get("idempotency-replayed") for one in answers] == [
        None, "true", "true", None
    ]  # fmt: skip
    found = await office.house.statements.wallets([person.id])
    assert found[person.id].balance == FUNDS - 7


async def test_a_refusal_is_made_without_the_body_or_the_database(offices: Offices) -> None:
    office = await offices(rate_limit_global="1/minute")
    (person,) = await office.people(1)
    path, body = "/api/wallets/me/withdrawals", b'{"amount": 7}'
    await office.ask("POST", path, person.token, body=body, key="first")
    await office.ask("GET", "/api/users/me", "nonsense")
    office.bodies_read = 0
    # The third is one that only the database can tell from a good key.
    for token in (person.token, "nonsense", "sk_guessed"):
        asked = office.ask("POST", path, token, body=body, key="second")
        with pytest.raises(StopIteration) as ended:  # its first step is its last: it never waits
            asked.send(None)
        assert ended.value.value.code == "rate_limited"
    assert office.bodies_read == 0


async def test_what_the_role_or_the_body_refuses_has_counted(offices: Offices) -> None:
    office = await offices(rate_limit_global="3/minute")
    (person,) = await office.people(1)
    forbidden = await office.ask("GET", "/api/ops/trial-balance", person.token)
    unfit = await office.ask("POST", "/api/bets", person.token, body=b"{}", key="unfit")
    assert (forbidden.status, unfit.status) == (403, 422)
    assert unfit.headers["ratelimit"] == '"global";r=1;t=60'


async def test_a_new_address_of_the_same_network_buys_nothing(offices: Offices) -> None:
    office = await offices(rate_limit_global="2/minute")
    asking = ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2::3", "2001:db8:1:3::1")
    statuses = [(await office.ask("GET", ANYBODY, client=one)).status for one in asking]
    assert statuses == [200, 200, 429, 200]


async def test_off_means_off(offices: Offices) -> None:
    office = await offices(rate_limits="off", rate_limit_global="1/minute")
    answers = [await office.ask("GET", ANYBODY) for _ in range(A_MINUTE + 1)]
    assert {one.status for one in answers} == {200}
    assert "ratelimit" not in answers[-1].headers


async def test_how_many_logins_may_fail_is_a_setting_too(offices: Offices) -> None:
    office = await offices(rate_limit_auth="2/minute")
    identity = office.house.identity
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await identity.login("nobody@example.com", "a guess", ELSEWHERE)
    with pytest.raises(TooManyAttempts):
        await identity.login("nobody@example.com", "a guess", ELSEWHERE)


# The windows themselves -----------------------------------------------------------------------


def test_callers_who_went_away_are_forgotten() -> None:
    time = [0.0]
    counted = RateLimits({"global": "5/minute"}, clock=lambda: time[0])
    for number in range(10_000):
        counted.check(("global",), f"caller {number}")
        time[0] += 1
    assert len(counted.windows["global"]) <= 61


def test_a_flood_of_callers_finds_a_bound_and_spares_the_busy_ones() -> None:
    counted = RateLimits({"global": "20/minute"}, clock=lambda: 0.0, keys_kept=100)
    busy, quiet = uuid4(), uuid4()
    counted.check(("global",), quiet)
    for number in range(1_000):
        if number % 50 == 0:
            (standing,) = counted.check(("global",), busy)
            assert standing.remaining == 19 - number // 50
        counted.check(("global",), number)
        assert len(counted.windows["global"]) <= 100
    with pytest.raises(RateLimited):
        counted.check(("global",), busy)
    (standing,) = counted.check(("global",), quiet)
    assert standing.remaining == 19  # begun anew: the bound is worth more than one count


def test_two_principals_do_not_share() -> None:
    counted = RateLimits({"global": "1/minute"})
    counted.check(("global",), UUID(int=1))
    counted.check(("global",), UUID(int=2))
    with pytest.raises(RateLimited):
        counted.check(("global",), UUID(int=1))


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_an_address_stands_for_what_its_owner_can_choose_from(
    address: str, stands_for: str
) -> None:
    assert network(address) == stands_for


# Settings -------------------------------------------------------------------------------------

LIMITS = ("rate_limit_global", "rate_limit_auth", "rate_limit_orders", "rate_limit_reports")


@pytest.mark.parametrize(
    "rate",
    ["", "many", "300", "0/minute", "-1/minute", "3/0 minutes", "3/fortnight", "1/second;9/day",
     "1e3/minute", "300/minute ", "٣/minute"],
)  # fmt: skip
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_cannot_be_read_is_refused_at_the_start(name: str, rate: str) -> None:
    with pytest.raises(ValidationError, match="300/minute"):
        Settings.model_validate({name: rate})


def test_a_limit_that_cannot_be_read_is_named_by_the_command(tmp_path: Path) -> None:
    env = environment(STRONGROOM_RATE_LIMIT_ORDERS="lots", STRONGROOM_DATA_DIR=str(tmp_path))
    found = cli("serve", env=env, cwd=tmp_path)
    assert found.code == 2
    assert found.says("STRONGROOM_RATE_LIMIT_ORDERS", "300/minute") and not found.says("lots")


@pytest.mark.parametrize(
    ("rate", "amount", "span_s"),
    [("300/minute", 300, 60), ("5/5 minutes", 5, 300), ("1/second", 1, 1), ("9/2 days", 9, 172_800),
     ("999999/9999 hours", 999_999, 9999 * 3600)],
)  # fmt: skip
def test_a_limit_is_read_as_it_is_written(rate: str, amount: int, span_s: int) -> None:
    assert Settings(rate_limit_global=rate).rate_limit_global == rate
    window = RateLimits({"global": rate}).windows["global"]
    assert (window.amount, window.span_s) == (amount, span_s)
    assert limits.parse(rate).get_expiry() == span_s


def test_the_limits_are_those_of_the_specification() -> None:
    found = Settings()
    assert [getattr(found, name) for name in LIMITS] == [
        "300/minute", "5/5 minutes", "20/minute", "10/minute"
    ]  # fmt: skip


def test_the_document_tells_of_limits_where_there_are_any() -> None:
    paths = document(ROUTES)["paths"]
    seen = paths["/api/users/me"]["get"]["responses"]
    assert {"RateLimit", "RateLimit-Policy"} <= seen["200"]["headers"].keys()
    assert "Retry-After" in seen["429"]["headers"]
    never = paths["/api/payments/{provider}/callbacks"]["post"]["responses"]
    assert "headers" not in never["200"] and "429" not in never
