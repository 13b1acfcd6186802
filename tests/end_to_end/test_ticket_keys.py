"""The key of tickets is changed while tickets of the one before are out."""

from __future__ import annotations

import base64
import os
from urllib.parse import quote

import pytest

from end_to_end._house import new_house
from end_to_end._tickets import buy, new_event
from serving import Clones, Server
from strongroom.apps.ticketing.codes import Signer, key_text


def test_tickets_of_the_key_before_open_the_door_for_as_long_as_it_is_named(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = (
        base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=") for _ in range(2)
    )
    before = key_text(Signer(base64.urlsafe_b64decode(first + "=")).public_key)
    with new_house(server, clones, tmp_path_factory.mktemp("keys"), ticket_key=first) as house:
        house.start_api()
        house.start_worker()
        [operator], [user] = house.people(1, "operator"), house.people(1)
        with house.client() as client:
            event = new_event(client, operator, 10)
            tickets = buy(client, user, event, 2)["tickets"]
        house.start_api(STRONGROOM_TICKET_KEY=second)
        house.start_api(STRONGROOM_TICKET_KEY=second, STRONGROOM_TICKET_KEYS_BEFORE=before)

        def scan(api: int, read: str) -> tuple[int, str]:
            with house.client(api) as client:
                path = f"/api/tickets/{quote(read, safe='')}/check-in"
                answer = client.post(path, {"gate": "A"}, operator.token)
            return answer.status, answer.json.get("code", answer.json["status"])

        one, other = tickets
        assert scan(1, one["qr"]) == (422, "unknown_key")
        assert scan(2, one["qr"]) == (200, "CHECKED_IN")
        assert scan(0, one["qr"]) == (409, "already_checked_in"), (
            "whatever it is verified by, it enters once"
        )
        assert scan(1, other["code"]) == (200, "CHECKED_IN"), "the code alone needs no key"
        house.assert_sound()
