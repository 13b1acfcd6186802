"""Identity against a real Postgres: passwords, tokens, sessions, revocation, keys, limits."""

from __future__ import annotations

import asyncio
import base64
import os
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from strongroom.clock import now
from strongroom.core.db import Database
from strongroom.core.db.migrate import migrate
from strongroom.core.identity import (
    EmailTaken,
    Identity,
    Principal,
    Tokens,
    TooManyAttempts,
    Unauthenticated,
    load_or_make_secret,
)
from strongroom.core.identity import identity as identity_room
from strongroom.core.identity.passwords import AT_ONCE, WAITING, Overloaded, Passwords
from strongroom.core.identity.tokens import LONGEST_S
from strongroom.core.ledger import Statements
from strongroom.errors import Forbidden, Invalid, NotFound

pytestmark = pytest.mark.asyncio

SECRET = "0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse battery"
HERE = "203.0.113.7"


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """The DSN of a fresh migrated database."""
    server = os.environ.get("STRONGROOM_TEST_SERVER_URL")
    if server is None:
        pytest.skip("STRONGROOM_TEST_SERVER_URL names no server")
    name = f"identity_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{name}"')
        dsn = server.replace("/postgres?", f"/{name}?")
        migrate(dsn)
        yield dsn
        db.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, role="strongroom_app", pool_size=5) as database:
        yield database


class MovedClock:
    """The clock of this machine, moved by hand."""

    def __init__(self) -> None:
        self.moved = timedelta()

    def __call__(self) -> datetime:
        return now() + self.moved

    def move(self, seconds: float) -> None:
        self.moved += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def make(database: Database, clock: MovedClock, *, rate_limits: bool = False) -> Identity:
    return Identity(
        database,
        token_secret=SECRET,
        access_ttl_s=900,
        refresh_ttl_s=86400,
        rate_limits=rate_limits,
        clock=clock,
    )


@pytest_asyncio.fixture
async def identity(database: Database, clock: MovedClock) -> AsyncIterator[Identity]:
    async with make(database, clock) as identity:
        yield identity


@pytest_asyncio.fixture
async def limited(database: Database, clock: MovedClock) -> AsyncIterator[Identity]:
    async with make(database, clock, rate_limits=True) as identity:
        yield identity


@pytest_asyncio.fixture
async def elsewhere(database_url: str, clock: MovedClock) -> AsyncIterator[Identity]:
    """Another process: its own pool, its own memory."""
    async with (
        Database(database_url, role="strongroom_app", pool_size=2) as database,
        make(database, clock) as identity,
    ):
        yield identity


def new_email() -> str:
    return f"{uuid4().hex}@example.com"


async def enter(identity: Identity) -> tuple[UUID, str, Tokens]:
    """Somebody who has registered and logged in."""
    email = new_email()
    user = await identity.register(email, PASSWORD, "Nguyễn Văn A")
    return user.id, email, await identity.login(email, PASSWORD, HERE)


async def until(condition: Callable[[], bool]) -> None:
    """Lets the others run until something is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def is_refused(identity: Identity, token: str) -> bool:
    try:
        await identity.authenticate(token)
    except Unauthenticated:
        return True
    return False


# Registration -------------------------------------------------------------------------------


async def test_registering_opens_an_empty_wallet_and_an_empty_stake(
    identity: Identity, database: Database
) -> None:
    user = await identity.register(new_email(), PASSWORD, "Ann")
    accounts = await database.fetch(
        "SELECT purpose, unit, balance, floor FROM ledger.accounts WHERE owner_id = $1 ORDER BY 1",
        user.id,
    )
    assert list(map(tuple, accounts)) == [("stake", "VND", 0, 0), ("wallet", "VND", 0, 0)]
    assert user.role == "user" and await identity.user(user.id) == user


async def test_an_address_is_the_same_in_every_case_and_with_spaces_around(
    identity: Identity,
) -> None:
    email = new_email()
    user = await identity.register(f"  {email.upper()} ", PASSWORD, " Ann  ")
    assert (user.email, user.full_name) == (email, "Ann")
    assert await identity.find_user(email.title()) == user
    assert await identity.login(email.upper(), PASSWORD, HERE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no-at-sign"),
        ("email", "two@@example.com"),
        ("email", "dots..twice@example.com"),
        ("email", "host@nodot"),
        ("email", "a@-b.example"),
        ("email", "nul\0@example.com"),
        ("email", "line@example.com\n"),
        ("email", "ünï@example.com"),
        ("email", "x" * 65 + "@example.com"),
        ("email", "a@" + "b" * 60 + ("." + "c" * 60) * 4),
        ("password", "seven77"),
        ("password", "x" * 129),
        ("password", "lone \ud800 surrogate"),
        ("fullName", "   "),
        ("fullName", "n" * 201),
        ("fullName", "bell\a"),
        ("fullName", "right-to-left \u202e override"),
        ("fullName", "lone \ud800"),
    ],
)
async def test_what_does_not_fit_is_named_by_field(
    identity: Identity, field: str, value: str
) -> None:
    told = {"email": new_email(), "password": PASSWORD, "fullName": "Ann"} | {field: value}
    with pytest.raises(Invalid) as refused:
        await identity.register(told["email"], told["password"], told["fullName"])
    assert [error["field"] for error in refused.value.errors] == [field]


async def test_of_many_who_register_one_address_at_once_exactly_one_gets_it(
    identity: Identity, database: Database
) -> None:
    email = new_email()
    wanted = [identity.register(email, PASSWORD, f"Number {i}") for i in range(6)]
    answers = await asyncio.gather(*wanted, return_exceptions=True)
    winners = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(winners) == 1
    assert all(isinstance(a, EmailTaken) for a in answers if isinstance(a, BaseException))
    found = await Statements(database).wallets([winners[0].id])
    assert found[winners[0].id].balance == 0
    with pytest.raises(EmailTaken):
        await identity.register(email.upper(), PASSWORD, "Late")


async def test_a_password_is_kept_as_argon2id_with_the_chosen_cost_and_not_shown(
    identity: Identity, database: Database
) -> None:
    user = await identity.register(new_email(), PASSWORD, "Ann")
    kept = await database.fetchval("SELECT password_hash FROM identity.users WHERE id=$1", user.id)
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert kept not in repr(user) and PASSWORD not in kept


# Login --------------------------------------------------------------------------------------


async def test_a_login_gives_tokens_that_name_the_user(identity: Identity) -> None:
    user_id, _, tokens = await enter(identity)
    principal = await identity.authenticate(tokens.access_token)
    assert (principal.user_id, principal.role, tokens.expires_in) == (user_id, "user", 900)
    assert principal.name == str(user_id) and principal.session_id
    assert identity.authenticate_now(tokens.access_token) == principal
    assert identity.authenticate_now(f"Bearer {tokens.access_token}") == principal
    assert tokens.access_token not in repr(tokens) and tokens.refresh_token not in repr(tokens)


async def test_every_wrong_login_gets_the_same_answer(identity: Identity) -> None:
    _, email, _ = await enter(identity)
    gone_id, gone, _ = await enter(identity)
    await identity.disable(gone_id)
    [(trial_id, _)] = await identity.create_users(1, "user")
    wrong = [
        (email, "not the password"),
        (new_email(), PASSWORD),
        (gone, PASSWORD),
        (f"user-{trial_id}@demo.invalid", PASSWORD),
        ("no address", PASSWORD),
        ("nul\0@example.com", PASSWORD),
        (email, ""),
        (email, "lone \ud800"),
        (email, "x" * 10_000),
    ]
    told = set()
    for address, password in wrong:
        with pytest.raises(Unauthenticated) as refused:
            await identity.login(address, password, HERE)
        told.add((type(refused.value), refused.value.code, refused.value.detail))
    assert len(told) == 1


async def test_an_unknown_address_takes_as_long_as_a_wrong_password(identity: Identity) -> None:
    _, known, _ = await enter(identity)
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(9):
        for which, email in (("known", known), ("unknown", new_email())):
            began = time.perf_counter()
            with pytest.raises(Unauthenticated):
                await identity.login(email, "not the password", HERE)
            took[which].append(time.perf_counter() - began)
    # Without the hash for nobody the ratio is above ten.
    ratio = statistics.median(took["known"]) / statistics.median(took["unknown"])
    assert 0.4 < ratio < 2.5


async def test_a_hash_of_other_parameters_is_renewed_by_the_next_login(
    identity: Identity, database: Database
) -> None:
    user_id, email, _ = await enter(identity)
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    await database.fetch("UPDATE identity.users SET password_hash=$2 WHERE id=$1", user_id, old)
    with pytest.raises(Unauthenticated):
        await identity.login(email, "not the password", HERE)
    read = "SELECT password_hash FROM identity.users WHERE id=$1"
    assert await database.fetchval(read, user_id) == old
    await identity.login(email, PASSWORD, HERE)
    assert "m=19456,t=2,p=1" in await database.fetchval(read, user_id)
    assert await identity.login(email, PASSWORD, HERE)


async def test_more_hashes_than_can_wait_are_turned_away_and_places_come_back() -> None:
    passwords = Passwords()
    places = AT_ONCE + WAITING
    asked = [asyncio.ensure_future(passwords.hash(PASSWORD)) for _ in range(places + 6)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert len(refused) == 6
    leaving = [asyncio.ensure_future(passwords.hash(PASSWORD)) for _ in range(places)]
    await asyncio.sleep(0)
    for caller in leaving:
        caller.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await until(lambda: passwords._places._value == places)
    assert (await passwords.hash(PASSWORD)).startswith("$argon2id$")
    passwords.close()


# Limits -------------------------------------------------------------------------------------


async def test_after_five_failures_even_the_right_password_has_to_wait(limited: Identity) -> None:
    _, email, _ = await enter(limited)
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await limited.login(email, "not the password", HERE)
    with pytest.raises(TooManyAttempts) as refused:
        await limited.login(email.upper(), PASSWORD, HERE)
    assert 290 <= refused.value.retry_after_s <= 300
    assert await limited.login(email, PASSWORD, "198.51.100.1")


async def test_guesses_sent_at_once_are_not_more_than_guesses_sent_in_turn(
    limited: Identity,
) -> None:
    email = new_email()
    guesses = [limited.login(email, f"guess number {i}", HERE) for i in range(20)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(answer, Unauthenticated) for answer in answers) == 5
    assert sum(isinstance(answer, TooManyAttempts) for answer in answers) == 15


async def test_one_client_may_not_try_many_addresses_and_its_own_login_buys_nothing(
    limited: Identity,
) -> None:
    _, email, _ = await enter(limited)
    for _ in range(30):
        with pytest.raises(Unauthenticated):
            await limited.login(new_email(), PASSWORD, HERE)
        assert len(limited._attempts._under_way) == 0
    with pytest.raises(TooManyAttempts):
        await limited.login(email, PASSWORD, HERE)


async def test_a_success_forgets_the_failures_of_its_address_and_is_not_counted(
    limited: Identity,
) -> None:
    _, email, _ = await enter(limited)
    for _ in range(2):
        for _ in range(4):
            with pytest.raises(Unauthenticated):
                await limited.login(email, "not the password", HERE)
        assert await limited.login(email, PASSWORD, HERE)


async def test_switched_off_nobody_waits(identity: Identity) -> None:
    email = new_email()
    for _ in range(7):
        with pytest.raises(Unauthenticated):
            await identity.login(email, "not the password", HERE)


# Refresh ------------------------------------------------------------------------------------


async def test_a_refresh_token_gives_new_tokens_and_the_chain_goes_on(identity: Identity) -> None:
    user_id, _, first = await enter(identity)
    second = await identity.refresh(first.refresh_token)
    third = await identity.refresh(second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    principals = [identity.authenticate_now(t.access_token) for t in (first, second, third)]
    assert principals[0] is not None and principals[0].user_id == user_id
    assert principals[0] == principals[1] == principals[2]


async def test_a_used_refresh_token_ends_the_whole_session(identity: Identity) -> None:
    _, _, first = await enter(identity)
    second = await identity.refresh(first.refresh_token)
    third = await identity.refresh(second.refresh_token)
    with pytest.raises(Unauthenticated):
        await identity.refresh(first.refresh_token)
    for tokens in (first, second, third):
        assert await is_refused(identity, tokens.access_token)
        with pytest.raises(Unauthenticated):
            await identity.refresh(tokens.refresh_token)


async def test_another_session_of_the_same_user_outlives_the_theft_of_one(
    identity: Identity,
) -> None:
    _, email, stolen = await enter(identity)
    other = await identity.login(email, PASSWORD, HERE)
    await identity.refresh(stolen.refresh_token)
    with pytest.raises(Unauthenticated):
        await identity.refresh(stolen.refresh_token)
    assert identity.authenticate_now(other.access_token)
    assert await identity.refresh(other.refresh_token)


async def test_used_at_once_by_many_a_refresh_token_works_exactly_once(
    identity: Identity, elsewhere: Identity
) -> None:
    _, _, tokens = await enter(identity)
    users = [who.refresh(tokens.refresh_token) for who in (identity, elsewhere) for _ in range(5)]
    answers = await asyncio.gather(*users, return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, Tokens)]
    assert len(won) == 1
    assert sum(isinstance(answer, Unauthenticated) for answer in answers) == 9
    # Who was second held a used token, so the session is over for both.
    with pytest.raises(Unauthenticated):
        await identity.refresh(won[0].refresh_token)


@pytest.mark.parametrize("token", ["", "rt_unknown", "x" * 5000, "\0", "\ud800", "é"])
async def test_an_unknown_refresh_token_is_refused(identity: Identity, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await identity.refresh(token)


async def test_an_expired_refresh_token_is_refused_and_forgotten_in_time(
    identity: Identity, clock: MovedClock, database: Database
) -> None:
    _, _, first = await enter(identity)
    second = await identity.refresh(first.refresh_token)
    assert await identity.forget_used_once() == 0
    clock.move(86401)
    with pytest.raises(Unauthenticated):
        await identity.refresh(second.refresh_token)
    assert await identity.forget_used_once(limit=100_000) > 0
    left = "SELECT count(*) FROM identity.used_refresh_tokens WHERE used_at < $1"
    assert await database.fetchval(left, clock() - timedelta(seconds=86400)) == 0


# Revocation ---------------------------------------------------------------------------------


async def test_a_logout_counts_at_once_here_and_on_every_other_process(
    identity: Identity, elsewhere: Identity
) -> None:
    _, _, tokens = await enter(identity)
    principal = elsewhere.authenticate_now(tokens.access_token)
    assert principal is not None
    await identity.logout(principal)
    assert await is_refused(identity, tokens.access_token)
    await until(lambda: elsewhere.authenticate_now(tokens.access_token) is None)
    assert elsewhere._revocations.current
    assert await is_refused(elsewhere, tokens.access_token)
    with pytest.raises(Unauthenticated):
        await elsewhere.refresh(tokens.refresh_token)


async def test_a_process_that_starts_later_knows_what_was_revoked_before(
    identity: Identity, database: Database, clock: MovedClock
) -> None:
    _, _, tokens = await enter(identity)
    await identity.logout(await identity.authenticate(tokens.access_token))
    async with make(database, clock) as late:
        assert late.authenticate_now(tokens.access_token) is None
        assert await is_refused(late, tokens.access_token)


async def test_a_process_that_does_not_hear_asks_the_database(
    identity: Identity, database: Database, clock: MovedClock
) -> None:
    _, _, tokens = await enter(identity)
    deaf = make(database, clock)
    assert deaf.authenticate_now(tokens.access_token) is None
    principal = await deaf.authenticate(tokens.access_token)
    await identity.logout(principal)
    assert await is_refused(deaf, tokens.access_token)
    await deaf.close()


async def test_after_a_break_a_process_reads_what_it_has_missed(
    identity: Identity, elsewhere: Identity, database: Database, database_url: str
) -> None:
    _, _, tokens = await enter(identity)
    principal = elsewhere.authenticate_now(tokens.access_token)
    assert principal is not None
    # Revoked without a word, as if the word had come during the break.
    silent = "UPDATE identity.sessions SET revoked_at = now() WHERE id = $1"
    await database.fetch(silent, principal.session_id)
    assert elsewhere.authenticate_now(tokens.access_token) == principal
    async with Database(database_url, pool_size=1) as owner:
        cut = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'LISTEN %strongroom_revoked%'"""
        assert len(await owner.fetch(cut)) == 2
    await until(lambda: elsewhere.authenticate_now(tokens.access_token) is None)
    assert await is_refused(elsewhere, tokens.access_token)
    await until(lambda: elsewhere._revocations._breaks > 0 and elsewhere._revocations.current)
    assert elsewhere.authenticate_now(tokens.access_token) is None
    _, _, fresh = await enter(identity)
    assert elsewhere.authenticate_now(fresh.access_token)


async def test_disabling_ends_all_sessions_everywhere_and_the_next_login(
    identity: Identity, elsewhere: Identity
) -> None:
    user_id, email, first = await enter(identity)
    second = await identity.login(email, PASSWORD, HERE)
    issued = await identity.issue(user_id, "user", 60)
    await identity.disable(user_id)
    for token in (first.access_token, second.access_token, issued):
        assert await is_refused(identity, token)
        await until(lambda token=token: elsewhere.authenticate_now(token) is None)  # type: ignore[misc]
    with pytest.raises(Unauthenticated):
        await identity.refresh(second.refresh_token)
    with pytest.raises(Unauthenticated):
        await identity.login(email, PASSWORD, HERE)
    with pytest.raises(NotFound):
        await identity.issue(user_id, "user", 60)
    with pytest.raises(NotFound):
        await identity.disable(uuid4())


async def test_no_session_slips_past_a_disabling_at_the_same_moment(identity: Identity) -> None:
    made = await identity.create_users(20, "user")
    for user_id, _ in made:
        issued = [identity.issue(user_id, "user", 60) for _ in range(3)]
        answers = await asyncio.gather(*issued, identity.disable(user_id), return_exceptions=True)
        for token in answers[:3]:
            if isinstance(token, str):
                assert await is_refused(identity, token)
            else:
                assert isinstance(token, NotFound)


# Access tokens ------------------------------------------------------------------------------


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a good token, but for what is changed; None leaves a claim out."""
    at = int(now().timestamp())
    good = {
        "iss": "strongroom",
        "aud": "strongroom-api",
        "iat": at,
        "nbf": at,
        "exp": at + 600,
        "jti": "one",
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "role": "user",
        "typ": "access",
    }
    return {name: value for name, value in (good | changed).items() if value is not None}


def signed(payload: dict[str, Any], key: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(payload, key, algorithm)


def part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


async def test_the_good_token_of_the_forgeries_below_is_good(identity: Identity) -> None:
    principal = identity.authenticate_now(signed(claims(role="operator")))
    assert isinstance(principal, Principal) and principal.role == "operator"


@pytest.mark.parametrize("name", list(claims()))
async def test_a_token_without_one_of_its_claims_is_refused(identity: Identity, name: str) -> None:
    assert await is_refused(identity, signed(claims(**{name: None})))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "elsewhere"},
        {"aud": "another-api"},
        {"aud": ["strongroom-api", "another-api"]},
        {"typ": "refresh"},
        {"role": "admin"},
        {"role": ["operator"]},
        {"sub": "1"},
        {"sub": 1},
        {"sub": "urn:uuid:" + str(uuid4())},
        {"sid": uuid4().hex},
        {"sid": {}},
        {"jti": 7},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 1e400},
        {"exp": 10**30},
        {"iat": [1]},
    ],
)
async def test_a_signed_token_with_other_claims_is_refused(
    identity: Identity, changed: dict[str, Any]
) -> None:
    assert await is_refused(identity, signed(claims(**changed)))


@pytest.mark.parametrize(
    ("name", "off_s"), [("exp", -6), ("exp", LONGEST_S + 60), ("nbf", 60), ("iat", 60)]
)
async def test_a_signed_token_of_another_time_is_refused(
    identity: Identity, name: str, off_s: int
) -> None:
    at = int(now().timestamp()) + off_s
    assert await is_refused(identity, signed(claims(**{name: at})))


@pytest.mark.filterwarnings("ignore:The HMAC key is 32 bytes")
async def test_a_token_of_another_key_or_algorithm_is_refused(identity: Identity) -> None:
    assert await is_refused(identity, signed(claims(), key="f" * 32))
    assert await is_refused(identity, signed(claims(), algorithm="HS512"))
    assert await is_refused(identity, signed(claims(), key="", algorithm="none"))
    head, body, signature = signed(claims()).split(".")
    for name in ("none", "None", "nOnE", "RS256", ""):
        other = part(f'{{"alg":"{name}","typ":"JWT"}}')
        assert await is_refused(identity, f"{other}.{body}.{signature}")
        assert await is_refused(identity, f"{other}.{body}.")
    for text in (f"{head}.{body}.", f"{head}.{body}", f"{head}.{body}.{'A' * 43}"):
        assert await is_refused(identity, text)
    raised = part('{"role":"operator"}')
    assert await is_refused(identity, f"{head}.{raised}.{signature}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "Bearer ",
        "Basic YTpi",
        "é.è.à",
        "\0",
        "\ud800",
        "a" * 100_000,
        part("[" * 2900) + ".e30.AAAA",
        part('{"alg":{}}') + ".e30.AAAA",
        part('{"alg":"HS256","crit":["b64"],"b64":false}') + ".e30.AAAA",
        part('{"alg":"HS256","kid":7}') + ".e30.AAAA",
        "sk_unknown",
        "sk_" + "a" * 100_000,
        "sk_\ud800",
    ],
)
async def test_what_is_no_token_is_refused(identity: Identity, text: str) -> None:
    assert identity.authenticate_now(text) is None
    assert await is_refused(identity, text)


async def test_an_oversized_token_is_refused_though_well_signed(identity: Identity) -> None:
    assert await is_refused(identity, signed(claims(jti="x" * 4096)))


async def test_a_refresh_token_is_no_access_token_nor_the_reverse(identity: Identity) -> None:
    _, _, tokens = await enter(identity)
    assert await is_refused(identity, tokens.refresh_token)
    with pytest.raises(Unauthenticated):
        await identity.refresh(tokens.access_token)
    assert identity.authenticate_now(tokens.access_token)


async def test_a_token_ends_with_its_time_also_when_it_was_read_before(
    identity: Identity, clock: MovedClock
) -> None:
    _, _, tokens = await enter(identity)
    assert identity.authenticate_now(tokens.access_token)
    clock.move(902)
    assert identity.authenticate_now(tokens.access_token), "two machines may differ by 5 s"
    clock.move(4)
    assert identity.authenticate_now(tokens.access_token) is None
    assert await is_refused(identity, tokens.access_token)


async def test_a_token_of_a_clock_ahead_is_taken_within_the_leeway_only(
    identity: Identity, clock: MovedClock
) -> None:
    _, _, tokens = await enter(identity)
    clock.move(-10)
    assert await is_refused(identity, tokens.access_token)
    clock.move(7)
    assert identity.authenticate_now(tokens.access_token)


async def test_the_memory_of_tokens_is_bounded(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_room, "CACHE_SIZE", 3)
    made = await identity.create_users(5, "user")
    for user_id, token in made + made:
        principal = identity.authenticate_now(token)
        assert principal is not None and principal.user_id == user_id
    assert len(identity._known) == 3


# Issued and trial users ---------------------------------------------------------------------


async def test_an_issued_token_has_its_role_and_lives_twelve_hours_at_most(
    identity: Identity, clock: MovedClock
) -> None:
    user = await identity.register(new_email(), PASSWORD, "Ann")
    token = await identity.issue(user.id, "operator", LONGEST_S)
    principal = identity.authenticate_now(token)
    assert principal is not None and principal.role == "operator"
    clock.move(LONGEST_S - 1)
    assert identity.authenticate_now(token)
    clock.move(7)
    assert await is_refused(identity, token)
    for ttl_s in (0, LONGEST_S + 1):
        with pytest.raises(Invalid):
            await identity.issue(user.id, "user", ttl_s)
    with pytest.raises(Invalid):
        await identity.issue(user.id, "admin", 60)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await identity.issue(uuid4(), "user", 60)


async def test_trial_users_have_tokens_and_accounts_and_cannot_log_in(
    identity: Identity, elsewhere: Identity, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_room, "CREATED_TOGETHER", 100)
    made = await identity.create_users(250, "operator")
    assert len({user_id for user_id, _ in made}) == 250
    for user_id, token in made:
        principal = elsewhere.authenticate_now(token)
        assert principal is not None
        assert (principal.user_id, principal.role) == (user_id, "operator")
    ids = [user_id for user_id, _ in made]
    assert len(await Statements(database).wallets(ids)) == 250
    count = "SELECT count(*) FROM ledger.accounts WHERE owner_id = ANY($1) AND purpose = 'stake'"
    assert await database.fetchval(count, ids) == 250
    user = await identity.user(ids[0])
    assert user.role == "operator" and user.email == f"user-{user.id}@demo.invalid"
    principal = await identity.authenticate(made[0][1])
    await identity.logout(principal)
    await until(lambda: elsewhere.authenticate_now(made[0][1]) is None)
    assert elsewhere.authenticate_now(made[1][1])


async def test_nobody_is_created_when_none_are_asked_for(identity: Identity) -> None:
    assert await identity.create_users(0, "user") == []


# API keys -----------------------------------------------------------------------------------


async def test_an_api_key_proves_itself_and_is_kept_as_a_hash_only(
    identity: Identity, database: Database
) -> None:
    key_id, secret = await identity.create_api_key("nightly import", "operator")
    assert identity.authenticate_now(f"Bearer {secret}") is None, "not seen before"
    principal = await identity.authenticate(f"Bearer {secret}")
    assert (principal.role, principal.name) == ("operator", f"key:{key_id}")
    assert identity.authenticate_now(f"Bearer {secret}") == principal
    row = await database.fetchrow(
        "SELECT k::text AS all FROM identity.api_keys k WHERE id=$1", key_id
    )
    assert row is not None and secret.removeprefix("sk_") not in row["all"]
    assert await is_refused(identity, secret + "x")
    with pytest.raises(Forbidden):
        await identity.logout(principal)


async def test_a_revoked_key_is_refused_everywhere_also_where_it_was_remembered(
    identity: Identity, elsewhere: Identity
) -> None:
    key_id, secret = await identity.create_api_key("import", "user")
    await identity.authenticate(secret)
    await elsewhere.authenticate(secret)
    await identity.revoke_api_key(key_id)
    assert await is_refused(identity, secret)
    await until(lambda: elsewhere.authenticate_now(secret) is None)
    assert await is_refused(elsewhere, secret)
    await identity.revoke_api_key(key_id)
    with pytest.raises(NotFound):
        await identity.revoke_api_key(uuid4())


async def test_a_remembered_key_is_looked_up_again_after_a_while(
    identity: Identity, clock: MovedClock
) -> None:
    _, secret = await identity.create_api_key("import", "user")
    await identity.authenticate(secret)
    clock.move(299)
    assert identity.authenticate_now(secret)
    clock.move(2)
    assert identity.authenticate_now(secret) is None
    assert await identity.authenticate(secret)


# The secret ---------------------------------------------------------------------------------


async def test_all_who_start_together_get_the_same_secret(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    start = threading.Barrier(12)

    def ask(_: int) -> str:
        start.wait()
        return load_or_make_secret(folder)

    with ThreadPoolExecutor(12) as threads:
        found = set(threads.map(ask, range(12)))
    assert found == {load_or_make_secret(folder)}
    [file] = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(found.pop()) >= 32


async def test_a_damaged_secret_is_not_replaced_behind_ones_back(tmp_path: Path) -> None:
    (tmp_path / "token_secret").write_text("short")
    with pytest.raises(ValueError, match="does not hold a secret"):
        load_or_make_secret(tmp_path)


async def test_a_short_secret_is_refused_at_the_start(database: Database) -> None:
    with pytest.raises(ValueError, match="32 characters"):
        Identity(database, token_secret="short", access_ttl_s=9, refresh_ttl_s=9, rate_limits=False)


async def test_who_has_no_password_is_checked_with_as_much_work_as_who_has_one() -> None:
    passwords = Passwords()
    assert not await passwords.matches(None, "any at all")
    work = [text.rsplit("$", 2)[0] for text in (passwords._nobody, await passwords.hash("mine"))]
    assert work[0] == work[1]
    passwords.close()
