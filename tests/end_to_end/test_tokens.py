"""Who asks: what proves nothing is refused everywhere in the same words, and what belongs to
somebody else answers like what is not there."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from end_to_end._client import Answer, Client
from end_to_end._house import TOKEN_SECRET, House, Person, eventually, new_house
from end_to_end._spoiling import (  # noqa: F401
    Scene,
    _nothing_changes,
    bad_tokens,
    client,
    good_bytes,
    good_path,
    named,
    scene,
)
from serving import Clones, Server
from strongroom.core.identity.tokens import digest
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.routing import Route

WITH_TOKEN = [route for route in ROUTES if route.role != "anyone"]

OTHER_KEY = "a key of somebody else, who would like it to be ours"


def part(said: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


def forged(claims: dict[str, Any], head: dict[str, Any], key: str) -> str:
    """A token that names its own key, signed with that one."""
    text = f"{part({'typ': 'JWT', 'alg': 'HS256'} | head)}.{part(claims)}"
    mac = hmac.digest(key.encode(), text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def own_keys(scene: Scene) -> dict[str, str]:
    """Forgeries that bring their key along, or lead to one."""
    claims = jwt.decode(scene.operator.token, options={"verify_signature": False})
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(OTHER_KEY.encode()).decode()}
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    ways: dict[str, tuple[dict[str, Any], str]] = {
        "an unknown kid": ({"kid": str(uuid4())}, OTHER_KEY),
        "the kid of an empty file": ({"kid": "../../../../dev/null"}, ""),
        "a kid that is SQL": ({"kid": f"' UNION SELECT '{OTHER_KEY}' --"}, OTHER_KEY),
        "a kid that is a command": ({"kid": "key | /bin/true"}, OTHER_KEY),
        "a jku": ({"jku": "http://127.0.0.1:1/keys.json"}, OTHER_KEY),
        "an x5u": ({"x5u": "http://127.0.0.1:1/chain.pem"}, OTHER_KEY),
        "a jwk": ({"jwk": secret}, OTHER_KEY),
        "an x5c": ({"x5c": ["MIIB"]}, OTHER_KEY),
        "crit": ({"crit": ["exp"], "exp": 1}, OTHER_KEY),
        "a public key as the secret": ({}, public.decode()),
        "no key at all": ({}, ""),
    }
    made = {what: forged(claims, head, key) for what, (head, key) in ways.items()}
    made["RS256 with its own key"] = jwt.encode(claims, private, "RS256")
    made["unencoded"] = forged(claims, {"b64": False, "crit": ["b64"]}, TOKEN_SECRET)
    made["its parts swapped"] = ".".join(reversed(scene.operator.token.split(".")))
    made["compressed"] = forged(claims, {"zip": "DEF"}, OTHER_KEY)
    made["encrypted"] = f"{scene.operator.token}.e30.e30"
    return {what: f"Bearer {token}" for what, token in made.items()}


def words(answer: Answer) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
    """All of an answer but what differs from one request to the next."""
    said = answer.json
    said.pop("requestId")
    changing = ("x-request-id", "date", "ratelimit", "content-length")
    return answer.status, said, [one for one in answer.headers.items() if one[0] not in changing]


def ask(
    client: Client, scene: Scene, route: Route, said: str | None, path: str | None = None
) -> Answer:
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", uuid4().hex)]
    headers += [("Authorization", said)] if said is not None else []
    body = None if route.method == "GET" else good_bytes(scene, route)
    return client.send(route.method, path or good_path(scene, route), headers, body)


@pytest.mark.parametrize("route", WITH_TOKEN, ids=named)
def test_whatever_is_wrong_with_a_token_the_words_are_the_same(
    scene: Scene, client: Client, route: Route
) -> None:
    tokens: dict[str, str | None] = {**bad_tokens(scene), **own_keys(scene)}
    if route.role == "public":
        del tokens["none"]
    heard = {what: words(ask(client, scene, route, said)) for what, said in tokens.items()}
    generic = heard["an unknown API key"]
    assert generic[0] == 401 and generic[1]["code"] == "unauthenticated"
    assert {what for what, said in heard.items() if said != generic} == set()


# Who could prove it before -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """A house with two API processes."""
    with new_house(server, clones, tmp_path_factory.mktemp("tokens")) as house:
        house.start_api()
        house.start_api()
        yield house


def statuses(house: House, token: str) -> list[int]:
    """What every process says to the bearer."""
    found = []
    for api in range(len(house.apis)):
        with house.client(api) as client:
            found.append(client.get("/api/rounds", token).status)
    return found


def logged_in(house: House) -> tuple[UUID, str, str]:
    """(user, access token, refresh token)"""
    said = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery"}
    with house.client() as client:
        user = client.post("/api/auth/register", {**said, "fullName": "Ann"}).json["userId"]
        tokens = client.post("/api/auth/login", said).json
    return UUID(user), tokens["accessToken"], tokens["refreshToken"]


def end_session(house: House) -> str:
    _, access, _ = logged_in(house)
    assert statuses(house, access) == [200, 200]
    with house.client() as client:
        assert client.post("/api/auth/logout", {}, access).status == 204
    return access


def disable_user(house: House) -> str:
    user, access, _ = logged_in(house)
    assert statuses(house, access) == [200, 200]
    house.inside(lambda own: own.identity.disable(user))
    return access


def steal_session(house: House) -> str:
    _, access, refresh = logged_in(house)
    assert statuses(house, access) == [200, 200]
    with house.client() as client:
        for status in (200, 401):
            answer = client.post("/api/auth/refresh", {"refreshToken": refresh})
            assert answer.status == status
    return access


def revoke_key(house: House) -> str:
    key, secret = house.inside(lambda own: own.identity.create_api_key("a shop", "operator"))
    assert statuses(house, secret) == [200, 200]
    house.inside(lambda own: own.identity.revoke_api_key(key))
    return str(secret)


ENDINGS = {
    "logged out": end_session,
    "disabled": disable_user,
    "stolen": steal_session,
    "a revoked key": revoke_key,
}


@pytest.mark.parametrize("how", ENDINGS)
def test_what_was_revoked_proves_nothing_on_any_process_and_in_the_same_words(
    two: House, how: str
) -> None:
    token = ENDINGS[how](two)
    eventually(lambda: statuses(two, token) == [401, 401], "it is refused everywhere", 3.0)
    with two.client(1) as client:
        for route in WITH_TOKEN:
            path = re.sub(r"\{\w+\}", str(uuid4()), route.path)
            heard = [
                words(client.send(route.method, path, [("Authorization", f"Bearer {one}")], b"{}"))
                for one in (token, "sk_unknown")
            ]
            assert heard[0] == heard[1] and heard[0][0] == 401, route.path


def test_a_key_cannot_be_read_from_the_database(two: House) -> None:
    _, secret = two.inside(lambda own: own.identity.create_api_key("a shop", "user"))
    _, _, refresh = logged_in(two)
    rows = two.rows("SELECT k::text FROM identity.api_keys k")
    rows += two.rows("SELECT s::text FROM identity.sessions s")
    text = " ".join(row[0] for row in rows)
    assert secret not in text and refresh not in text
    assert digest(secret).hex() in text and digest(refresh).hex() in text


# What is somebody else's -------------------------------------------------------------------------

FOR_ALL = {
    "/api/rounds/{id}": "rounds are for everybody who bets",
    "/api/events/{slug}": "events that are published are for everybody",
    "/api/products/{id}": "the catalogue is for everybody",
    "/pay/{id}": "who has the link may pay",
    "/api/payments/{provider}/callbacks": "providers prove themselves otherwise",
}
"""Paths whose things are nobody's own."""

ABOUT_SOMEBODY = [
    route for route in ROUTES if "{" in route.path and route.path not in FOR_ALL
]  # fmt: skip


def belongings(scene: Scene) -> dict[str, tuple[str, str]]:
    """Of each kind of name: one that is the user's, and one of the same form that is nobody's."""
    (order,) = scene.house.rows("SELECT code FROM orders.orders WHERE id = %s", scene.order_id)
    bookings = scene.house.rows(
        "SELECT id::text, payment_id::text FROM ticketing.orders WHERE user_id = %s", scene.user.id
    )
    ids = [str(scene.user.id), scene.bet_id, scene.reservation_id, scene.order_id]
    ids += [id for row in bookings for id in row if id]
    code = scene.code[:-1] + ("A" if scene.code[-1] != "A" else "B")
    return {
        **{id: (id, str(uuid4())) for id in ids},
        order[0]: (order[0], "SON999999"),
        scene.code: (scene.code, code),
    }


@pytest.mark.parametrize("route", ABOUT_SOMEBODY, ids=named)
def test_what_is_somebody_elses_answers_like_what_is_not_there(
    scene: Scene, client: Client, route: Route
) -> None:
    thief: Person = scene.other
    for theirs, nobodys in belongings(scene).values():
        heard = [
            words(ask(client, scene, route, f"Bearer {thief.token}", named_path(route, name)))
            for name in (theirs, nobodys)
        ]
        assert heard[0] == heard[1], (theirs, heard)
        assert heard[0][0] == (403 if route.role == "operator" else 404), (theirs, heard)


def named_path(route: Route, name: str) -> str:
    return re.sub(r"\{\w+\}", name, route.path)


def test_whose_it_is_finds_it_under_the_same_names(scene: Scene, client: Client) -> None:
    """The control: otherwise everything could be missing."""
    own = [f"/api/bets/{scene.bet_id}", f"/api/orders/{scene.order_id}"]
    own.append(f"/api/tickets/{scene.code}.svg")
    for path in own:
        assert client.get(path, scene.user.token).status == 200, path
        assert client.get(path, scene.other.token).status == 404, path
