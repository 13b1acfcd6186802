"""What every answer tells a browser: not to keep it, not to guess, not to show it elsewhere."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from end_to_end._client import Answer, Client
from end_to_end._spoiling import (  # noqa: F401
    Scene,
    _nothing_changes,
    client,
    good_path,
    named,
    scene,
)
from end_to_end.test_bad_input_matrix import told
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.policies import DATA_POLICY, style_of
from strongroom.doors.http.routing import Route

READS = [route for route in ROUTES if route.method == "GET"]

ELSEWHERE = ["/healthz", "/readyz", "/metrics", "/schema/openapi.json", "/nothing", "/api/nothing"]


def only(answer: Answer, name: str) -> str:
    """The value of a header that stands there once."""
    found = answer.headers.get_all(name) or []
    assert len(found) == 1, (name, found, answer.status, answer.body[:200])
    return str(found[0])


def check(answer: Answer) -> None:
    assert only(answer, "x-content-type-options") == "nosniff"
    assert "no-store" in only(answer, "cache-control")
    policy = only(answer, "content-security-policy")
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    if not only_type(answer).startswith("text/html"):
        assert policy == DATA_POLICY[1].decode()
    if not re.match(
        "application/(problem.)?json|application/vnd.oai|text/plain", only_type(answer)
    ):
        assert only(answer, "cross-origin-resource-policy") == "same-origin"
        assert only(answer, "referrer-policy") in ("no-referrer", "same-origin")
    assert "server" not in answer.headers and "strict-transport-security" not in answer.headers


def only_type(answer: Answer) -> str:
    return only(answer, "content-type") if answer.body else ""


def token_for(scene: Scene, route: Route) -> str | None:
    of_role = {"user": scene.user, "public": scene.user, "operator": scene.operator}
    return of_role[route.role].token if route.role in of_role else None


@pytest.mark.parametrize("route", READS, ids=named)
def test_what_is_read_and_what_is_refused_carry_the_same_policies(
    scene: Scene, client: Client, route: Route
) -> None:
    path = good_path(scene, route)
    check(client.get(path, token_for(scene, route)))
    check(client.get(f"{path}?unknown=1", token_for(scene, route)))
    check(client.get(path, "no-token"))
    check(client.send("DELETE", path, []))


def test_so_do_writes_and_what_is_no_route(scene: Scene, client: Client) -> None:
    body = {"roundId": str(uuid4()), "side": "A", "amount": 1}
    check(client.post("/api/bets", body, scene.user.token))
    check(client.post("/api/bets", b"{", scene.user.token))
    for path in ELSEWHERE:
        check(client.get(path))
        check(client.send("POST", path, []))
    check(told(scene.house, b"nonsense\r\n\r\n"))


@pytest.fixture
def taken() -> None:
    """Asked for by a test whose requests may change something."""


def test_an_answer_that_was_done_carries_them_too(
    scene: Scene, client: Client, taken: None
) -> None:
    path = f"/api/wallets/{scene.user.id}/deposits"
    for _ in range(2):  # also its replay
        answer = client.post(path, {"amount": 1}, scene.operator.token, "headers")
        assert answer.status == 201
        check(answer)


def test_pages_may_use_their_own_style_and_no_page_a_script(
    scene: Scene, client: Client, taken: None
) -> None:
    path = f"/api/bookings/complete/{scene.reservation_id}"
    order = client.post(path, {"paymentMethod": "CARD"}, scene.user.token).json
    pay = re.sub(r"^https?://[^/]+", "", order["payment"]["redirectUrl"])
    pages = ["/schema", f"/api/tickets/{scene.code}.html", pay]
    for path in pages:
        answer = client.get(path, scene.user.token)
        assert answer.status == 200 and only_type(answer).startswith("text/html"), path
        policy = only(answer, "content-security-policy")
        assert f"style-src {style_of(answer.body)};" in policy
        assert answer.body.count(b"<style") == 1 and b"style=" not in answer.body, path
        assert "script-src" not in policy and "base-uri 'none'" in policy
        assert only(answer, "cross-origin-opener-policy") == "same-origin"
        assert not re.search(rb"<script|javascript:|\son\w+=", answer.body)


def test_browsers_are_told_to_insist_on_tls_where_it_was_set(scene: Scene) -> None:
    scene.house.start_api(STRONGROOM_HSTS_MAX_AGE_S="31536000")
    with scene.house.client(1) as client:
        for path in ("/healthz", "/api/rounds"):
            told = only(client.get(path), "strict-transport-security")
            assert told == "max-age=31536000"


def test_what_is_accepted_is_not_asked(scene: Scene, client: Client) -> None:
    """A representation is answered as it is (RFC 9110, 12.5.1): nothing depends on Accept."""
    for accepted in ("text/html", "application/xml", "image/*;q=0", "nonsense", ""):
        headers = [("Authorization", f"Bearer {scene.user.token}"), ("Accept", accepted)]
        answer = client.send("GET", "/api/wallets/me", headers)
        assert (answer.status, only_type(answer)) == (200, "application/json")
