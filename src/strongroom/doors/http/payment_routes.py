"""Payments: what providers say, and the sandbox's page where a buyer pays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, select_autoescape

from strongroom.clock import now
from strongroom.core.commands import Ticket
from strongroom.core.payments import Payment
from strongroom.core.payments.callbacks import CallbackKept
from strongroom.core.payments.provider import Headers
from strongroom.core.payments.sandbox import CARDS, AlreadyDecided, UnknownCard
from strongroom.doors.http.policies import NO_STORE, OPENER, page_policy, style_of
from strongroom.doors.http.problems import Malformed, UnsupportedMediaType
from strongroom.doors.http.routing import Call, Raw, Route, Routes
from strongroom.errors import Forbidden, Invalid, NotFound

SECRETS = {b"authorization", b"cookie", b"proxy-authorization"}
"""Some providers prove themselves by a password in a header: it is checked, and not kept."""

NUL = "\x00"
"""The one character that jsonb does not hold."""

ROUTE = "/pay/{id}"

REFRESH_S = 1
"""How often the page looks while something is under way."""

FORM = b"application/x-www-form-urlencoded"

STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:2rem auto;padding:0 1rem}
.amount{font-size:2rem;margin:.5rem 0}.note{opacity:.7}[role=alert]{color:#b3261e}
input,button{font:inherit;padding:.5rem;margin:.25rem 0}input{width:100%;box-sizing:border-box}
table{border-collapse:collapse}td,th{padding:.2rem 1rem .2rem 0;text-align:left}
"""

PAGE_HEADERS = (
    page_policy(style_of(f"<style>{STYLE}</style>".encode()), forms="'self'"),
    (b"referrer-policy", b"same-origin"),
    NO_STORE,
    OPENER,
)
"""The form's own page has to say where it was sent from."""

PAGE = Environment(
    loader=PackageLoader("strongroom.doors.http"),
    autoescape=select_autoescape(),
    trim_blocks=True,
).get_template("pay.html")

Language = Literal["en", "vi"]

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Payment",
        "sandbox": "Sandbox: no real money moves here.",
        "status": "Status",
        "card": "Card number",
        "pay": "Pay",
        "cards": "Test cards",
        "outcome": "What happens",
        "PENDING": "not paid yet",
        "SUCCESS": "paid",
        "FAILED": "not paid",
        "WORKING": "under way …",
        "EXPIRED": "the time to pay is over",
        "unknown_card": "This is none of the test cards.",
        "success": "paid at once",
        "refused": "refused",
        "slow": "paid after 5 seconds",
        "late": "paid 3 seconds after the time is over",
        "duplicate": "paid, told three times",
        "reordered": "paid, then older news arrives",
        "wrong_amount": "another amount is taken",
        "forged": "only a forged callback, nothing is paid",
        "silent": "paid, and nobody tells",
    },
    "vi": {
        "title": "Thanh toán",
        "sandbox": "Môi trường thử nghiệm: không có tiền thật.",
        "status": "Trạng thái",
        "card": "Số thẻ",
        "pay": "Thanh toán",
        "cards": "Thẻ thử nghiệm",
        "outcome": "Kết quả",
        "PENDING": "chưa thanh toán",
        "SUCCESS": "đã thanh toán",
        "FAILED": "không thành công",
        "WORKING": "đang xử lý …",
        "EXPIRED": "đã hết thời gian thanh toán",
        "unknown_card": "Đây không phải là thẻ thử nghiệm.",
        "success": "thanh toán ngay",
        "refused": "bị từ chối",
        "slow": "thanh toán sau 5 giây",
        "late": "thanh toán sau khi hết hạn 3 giây",
        "duplicate": "thanh toán, báo ba lần",
        "reordered": "thanh toán, sau đó có tin cũ hơn",
        "wrong_amount": "thu sai số tiền",
        "forged": "chỉ có thông báo giả, chưa thanh toán",
        "silent": "thanh toán nhưng không có thông báo",
    },
}


class ForgedCallback(Forbidden):
    """This is not signed by the provider. It was kept, and nothing follows from it."""


class UnreadableCallback(Invalid):
    """This is signed, and cannot be understood. It was kept."""


class OtherOrigin(Forbidden):
    """This form is sent from its own page only."""


async def callback(call: Call) -> Raw:
    """Kept first, answered afterwards, in the provider's own words."""
    name = call.params["provider"]
    payments = call.house.payments
    provider = payments.provider(name)
    command = payments.received(name, kept(call.headers.items()), call.body)
    # No deadline: nobody is turned away who tells of money.
    ticket = Ticket(command, principal=f"provider:{name}", key=None, request=call.request_id)
    outcome = await call.house.lanes.run(ticket)
    outcome.check()
    reply = outcome.reply
    assert isinstance(reply, CallbackKept), "without a key nothing is replayed"
    if reply.verdict == "forged":
        raise ForgedCallback()
    if reply.verdict == "malformed":
        raise UnreadableCallback()
    status, body = provider.acknowledge(reply.verdict)
    return Raw("application/json", body, status=status)


def kept(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of a callback as they are stored."""
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1").replace(NUL, "\ufffd"))
        for name, value in headers
        if name not in SECRETS
    )


async def show(call: Call) -> Raw:
    payment = await call.house.payments.payment(call.id("id"))
    if payment.redirect_url:
        return Raw("text/plain", b"", ((b"location", payment.redirect_url.encode()),), 303)
    return await page(call, payment)


async def pay(call: Call) -> Raw:
    """Pays with the card of the form, then shows the page again."""
    payments = call.house.payments
    payment = await payments.payment(call.id("id"))
    if payment.provider != payments.sandbox.name:
        raise NotFound()
    require_own_origin(call)
    if call.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != FORM:
        raise UnsupportedMediaType(f"Send {FORM.decode()}.")
    try:
        fields = dict(parse_qsl(call.body.decode("ascii"), max_num_fields=5))
    except ValueError:
        raise Malformed("The form cannot be read.") from None
    try:
        if is_open(payment):
            await payments.sandbox.decide(payment, fields.get("card", ""))
    except UnknownCard:
        return await page(call, payment, "unknown_card", fields.get("card", ""))
    except AlreadyDecided:
        pass  # a form that was sent twice: the page shows what the first one did
    return Raw("text/plain", b"", ((b"location", payment.path.encode()),), 303)


def is_open(payment: Payment) -> bool:
    return payment.status == "PENDING" and payment.expires_at > now()


def require_own_origin(call: Call) -> None:
    """A browser says where a form was sent from; whoever says nothing is no browser."""
    site = call.headers.get(b"sec-fetch-site", b"same-origin")
    origin = call.headers.get(b"origin")
    host = call.headers.get(b"host", b"").decode("latin-1")
    if site not in (b"same-origin", b"none") or (
        origin is not None and origin.decode("latin-1").partition("://")[2] != host
    ):
        raise OtherOrigin()


async def page(call: Call, payment: Payment, fault: str = "", given: str = "") -> Raw:
    language = preferred(call.headers.get(b"accept-language", b"").decode("latin-1"))
    say = WORDS[language]
    waits = is_open(payment) and await call.house.payments.sandbox.waits(payment.id)
    status: str = payment.status
    if status == "PENDING" and not waits:
        status = "WORKING" if is_open(payment) else "EXPIRED"
    shown = PAGE.render(
        language=language,
        say=say,
        style=STYLE,
        amount=f"{payment.amount:,} ₫".replace(",", "."),
        status=status,
        status_said=say[status],
        path=payment.path,
        fault=say.get(fault),
        given=given,
        refresh=REFRESH_S if status == "WORKING" else None,
        cards=[(spaced(number), say[plan]) for number, plan in CARDS.items()] if waits else [],
    )
    headers = (*PAGE_HEADERS, (b"content-language", language.encode()))
    return Raw("text/html; charset=utf-8", shown.encode(), headers, 422 if fault else 200)


def spaced(number: str) -> str:
    return " ".join(number[start : start + 4] for start in range(0, len(number), 4))


def preferred(accepted: str) -> Language:
    """The language of an Accept-Language header that the page speaks; English else."""
    weights: dict[Language, float] = {"en": 0.0, "vi": 0.0}
    for one in accepted.lower().split(","):
        name, _, parameter = one.partition(";")
        language = name.strip().partition("-")[0]
        try:
            weight = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        for known in weights:
            if language == known:
                weights[known] = max(weights[known], weight)
    return "vi" if weights["vi"] > weights["en"] else "en"


PAYMENTS: Routes = [
    Route(
        "POST",
        "/api/payments/{provider}/callbacks",
        "anyone",
        200,
        "Takes what a payment provider says, signed; keeps it, then answers as the provider wants.",
        bytes,
        None,
        read=callback,
        problems=("forged_callback", "unreadable_callback"),
        limited="never",
    ),
    Route(
        "GET",
        ROUTE,
        "anyone",
        200,
        "The page where a buyer pays; leads on to the provider's own, if it has one.",
        None,
        None,
        read=show,
    ),
    Route(
        "POST",
        ROUTE,
        "anyone",
        303,
        "Pays with a test card, in the sandbox.",
        bytes,
        None,
        read=pay,
        problems=("other_origin",),
    ),
]
