"""What tests of ticketing over HTTP share: the shapes of answers, events on sale, purchases."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from end_to_end._client import Answer, Client
from end_to_end._contract import SANDBOX_SECRET, Shape, done, fits, utc, uuid7
from end_to_end._house import Person, eventually


def perhaps(rule: Any) -> Any:
    """The rule, or null."""
    return lambda value: (
        value is None or (type(value) is rule if isinstance(rule, type) else rule(value))
    )


EVENT: Shape = {
    "eventId": uuid7, "slug": str, "name": str, "description": perhaps(str),
    "bannerUrl": perhaps(str), "location": str, "startsAt": utc, "endsAt": utc, "status": str,
    "ticketTypes": list,
}  # fmt: skip
TICKET_TYPE: Shape = {
    "ticketTypeId": uuid7, "name": str, "price": int, "quantity": int, "available": int,
    "asOf": utc, "saleStartsAt": perhaps(utc), "saleEndsAt": perhaps(utc),
    "perUserLimit": perhaps(int),
}  # fmt: skip
LINE: Shape = {"ticketTypeId": uuid7, "quantity": int, "unitPrice": int}
RESERVATION: Shape = {
    "reservationId": uuid7, "eventId": uuid7, "status": "ACTIVE", "expiresAt": utc,
    "totalAmount": int, "items": list,
}  # fmt: skip
ACCEPTED: Shape = {"orderId": uuid7, "status": "PENDING", "totalAmount": int, "payment": dict}
BOOKING: Shape = {
    "orderId": uuid7, "status": str, "totalAmount": int, "items": list, "payment": dict,
    "tickets": list, "createdAt": utc,
}  # fmt: skip
ORDER: Shape = BOOKING | {
    "eventId": uuid7, "reservationId": uuid7, "userId": uuid7, "ownerName": perhaps(str),
    "language": str, "late": perhaps(str), "paidAt": perhaps(utc),
}  # fmt: skip
TICKET: Shape = {"code": str, "ticketTypeId": uuid7, "status": str, "qr": str}
ADMITTED: Shape = {
    "status": "CHECKED_IN", "checkedInAt": utc, "gate": perhaps(str), "ticketId": uuid7,
    "ticketTypeId": uuid7, "eventId": uuid7, "ownerName": perhaps(str),
}  # fmt: skip

SOON = datetime.now(UTC) + timedelta(days=30)
CONCERT = {
    "name": "Đêm nhạc Trịnh",
    "location": "Nhà hát Lớn, Hà Nội",
    "startsAt": SOON.isoformat(),
    "endsAt": (SOON + timedelta(hours=3)).isoformat(),
}

PRICE = 100_000
WAITS = 14_009
"""A price at which the sandbox leaves everything to its page and to callbacks."""

LATE = 14_003
"""A price that the sandbox takes 3 s after the time for it is over."""


def new_event(
    client: Client,
    operator: Person,
    *quantities: int,
    publish: bool = True,
    price: int = PRICE,
    **more: Any,
) -> dict[str, Any]:
    """An event with ticket types of these quantities."""
    event = done(client.post("/api/events", CONCERT | more, operator.token), 201, EVENT)
    path = f"/api/events/{event['eventId']}"
    for number, quantity in enumerate(quantities):
        body = {"name": f"Hạng {number}", "price": price, "quantity": quantity}
        done(client.post(f"{path}/ticket-types", body, operator.token), 201, TICKET_TYPE)
    if publish:
        event = done(client.post(f"{path}/publish", {}, operator.token), 200, EVENT)
    found: dict[str, Any] = client.get(path, operator.token).json
    return found


def types_of(event: dict[str, Any]) -> list[str]:
    return [fits(type, TICKET_TYPE)["ticketTypeId"] for type in event["ticketTypes"]]


def wish(event: dict[str, Any], quantity: int) -> dict[str, Any]:
    return {"ticketTypeId": types_of(event)[0], "quantity": quantity}


def reserve(client: Client, person: Person, event: dict[str, Any], quantity: int) -> str:
    answer = client.post("/api/bookings/reserve", wish(event, quantity), person.token)
    return str(done(answer, 201, RESERVATION)["reservationId"])


def complete(client: Client, person: Person, reservation_id: str, **more: Any) -> dict[str, Any]:
    """An order that waits for its payment."""
    body = {"paymentMethod": "MOMO", "ownerName": "Nguyễn Ái", **more}
    path = f"/api/bookings/complete/{reservation_id}"
    accepted: dict[str, Any] = done(client.post(path, body, person.token), 201, ACCEPTED)
    fits(
        accepted["payment"],
        {"method": body["paymentMethod"], "status": "PENDING", "redirectUrl": str},
    )
    return accepted


def buy(
    client: Client, person: Person, event: dict[str, Any], quantity: int, **more: Any
) -> dict[str, Any]:
    """A booking that is paid, with its tickets."""
    id = reserve(client, person, event, quantity)
    return becomes(client, person, complete(client, person, id, **more)["orderId"], "PAID")


def order_of(client: Client, person: Person, order_id: str) -> dict[str, Any]:
    answer = client.get(f"/api/bookings/orders/{order_id}", person.token)
    order: dict[str, Any] = done(answer, 200, ORDER)
    return order


def becomes(
    client: Client, person: Person, order_id: str, status: str, within_s: float = 15.0
) -> dict[str, Any]:
    """The booking, once its order has come there."""

    def there() -> Any:
        items = client.get("/api/bookings/my-bookings", person.token).json["items"]
        (one,) = (item for item in items if item["orderId"] == order_id)
        return one if one["status"] == status else None

    return fits(eventually(there, f"the order is {status}", within_s), BOOKING)  # type: ignore[no-any-return]


def tell(
    client: Client,
    payment: dict[str, Any],
    amount: int,
    result: str = "SUCCESS",
    secret: str = SANDBOX_SECRET,
) -> Answer:
    """What the sandbox's bank would say of a payment, signed."""
    body = json.dumps(
        {
            "paymentId": payment["redirectUrl"].rpartition("/")[2],
            "result": result,
            "amount": amount,
            "providerRef": "REF-1",
            "number": 1,
        }
    ).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = [("X-Sandbox-Signature", signature), ("Content-Type", "application/json")]
    return client.send("POST", "/api/payments/sandbox/callbacks", headers, body)
