"""What a buyer holds in the hand: tickets as HTML and PDF, a calendar entry, and the mails.

Everything is made from plain values, without a database or a network, and the same values give
the same bytes: a mail that is made twice is recognised by its Message-ID. Names come from people:
HTML is escaped, and what goes into a header is one line.
"""

from __future__ import annotations

import io
import logging
import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from importlib import resources
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import segno
from babel.dates import format_date, format_time
from babel.numbers import format_currency, get_currency_precision
from icalendar import Calendar
from icalendar import Event as CalendarEvent
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from strongroom.errors import Invalid, Refused
from strongroom.money import VND

Language = Literal["vi", "en"]
Kind = Literal["tickets", "cancelled", "refunded"]

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")

QR_LEVEL = "m"
"""15 % of a QR may be lost: a crease, a greasy thumb. More would only make the squares smaller."""

QR_BORDER = 4
"""The quiet zone that ISO/IEC 18004 asks for."""

QR_SCALE = 8
"""Pixels a square: sharp on a dense screen at the size of the mail."""

LONG = 80
"""Letters; a longer name is set smaller, so that a ticket stays on one page."""

WORDS: dict[str, dict[str, Any]] = tomllib.loads(
    resources.files(__package__).joinpath("templates/words.toml").read_text("utf8")
)

_pages = Environment(
    loader=PackageLoader(__package__),
    autoescape=select_autoescape(("html",)),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)

# Whatever ends a line somewhere, shows nothing, or turns the direction of what follows.
_UNPRINTED = re.compile(
    "[\x00-\x20\x7f-\xa0\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]+"
)


class PdfMissing(Refused):
    """PDF tickets need WeasyPrint: pip install 'strongroom[pdf]', and the system's Pango
    (apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0)."""


class BadMailAddress(Invalid):
    """A mail cannot be sent to this address."""


@dataclass(frozen=True, slots=True)
class Admission:
    """One ticket. `qr` is the signed text of its QR, `price` is in minor units; a ticket without
    an owner's name has an empty one."""

    code: str
    qr: str
    owner_name: str
    type_name: str
    price: int


@dataclass(frozen=True, slots=True)
class Booking:
    """An order with its tickets. Times are aware; amounts are in minor units of `currency`."""

    order_id: UUID
    event_id: UUID
    event_name: str
    location: str
    starts_at: datetime
    ends_at: datetime
    banner_url: str | None
    total: int
    language: Language
    buyer_name: str
    buyer_email: str
    admissions: tuple[Admission, ...]
    currency: str = VND


@dataclass(frozen=True, slots=True)
class Envelope:
    """Which mail this is: its id for ever, whom it is from, and since when it should be sent."""

    mail_id: UUID
    sender: str
    written_at: datetime


# Words ------------------------------------------------------------------------------------------


def money_text(amount: int, language: Language, currency: str = VND) -> str:
    """An amount as people write it.

    >>> money_text(1_500_000, "vi"), money_text(0, "vi")
    ('1.500.000\\xa0₫', 'Miễn phí')
    """
    if amount == 0:
        return str(WORDS[language]["free"])
    units = Decimal(amount).scaleb(-get_currency_precision(currency))
    return format_currency(units, currency, locale=language)


def time_text(starts_at: datetime, ends_at: datetime, language: Language) -> str:
    """From when to when, by the clocks of Vietnam.

    >>> time_text(datetime(2026, 9, 12, 12, tzinfo=UTC), datetime(2026, 9, 12, 15, tzinfo=UTC), "vi")
    '19:00–22:00, Thứ Bảy, 12 tháng 9, 2026'
    """
    start, end = starts_at.astimezone(ZONE), ends_at.astimezone(ZONE)
    clock = format_time(start, "HH:mm", locale=language)
    until = format_time(end, "HH:mm", locale=language)
    date = format_date(start, "full", locale=language)
    if start.date() == end.date():
        return f"{clock}–{until}, {date}"
    last = format_date(end, "full", locale=language)
    whole = str(WORDS[language]["until"])
    return whole.format(start=f"{clock}, {date}", end=f"{until}, {last}")


def one_line(text: str) -> str:
    """`text` without anything that could end a header or hide what it says."""
    return _UNPRINTED.sub(" ", text).strip()


def _tidy(booking: Booking) -> Booking:
    """The booking with every text of people on one line."""
    return replace(
        booking,
        event_name=one_line(booking.event_name),
        location=one_line(booking.location),
        buyer_name=one_line(booking.buyer_name),
        admissions=tuple(
            replace(one, owner_name=one_line(one.owner_name), type_name=one_line(one.type_name))
            for one in booking.admissions
        ),
    )


# QR ---------------------------------------------------------------------------------------------


def qr_svg(text: str) -> str:
    """The QR as an SVG element that fills what it is put into."""
    return _qr(text).svg_inline(
        border=QR_BORDER, omitsize=True, light="#fff", draw_transparent=True
    )


def qr_png(text: str) -> bytes:
    """The QR as a PNG, black on white."""
    image = io.BytesIO()
    _qr(text).save(image, kind="png", scale=QR_SCALE, border=QR_BORDER)
    return image.getvalue()


def _qr(text: str) -> segno.QRCode:
    return segno.make(text, error=QR_LEVEL, micro=False)


# Tickets ----------------------------------------------------------------------------------------


def html_tickets(booking: Booking) -> str:
    """A page for each ticket, for the screen and for paper. Loads nothing but the banner."""
    booking = _tidy(booking)
    words = WORDS[booking.language]
    return _pages.get_template("tickets.html").render(
        booking=booking,
        words=words,
        title=words["tickets_of"].format(event=booking.event_name),
        when=_when(booking),
        banner=_banner(booking.banner_url),
        price=lambda amount: money_text(amount, booking.language, booking.currency),
        qr=lambda text: Markup(qr_svg(text)),  # noqa: S704 - made of numbers alone
        long=lambda text: _if_long(text, ' class="long"'),
        wide=lambda text: _if_long(text, ' class="wide"'),
    )


def pdf_tickets(booking: Booking) -> bytes:
    """The same pages as a PDF; PdfMissing. Takes a core for a second: not for an event loop."""
    try:
        import weasyprint
    except (ImportError, OSError) as error:  # OSError: a library of the system is missing
        raise PdfMissing() from error

    # It warns of each property that only browsers know.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    # Whoever names a banner must not make this machine ask for it.
    page = html_tickets(replace(booking, banner_url=None))
    document = weasyprint.HTML(string=page, url_fetcher=_nothing)
    made: bytes = document.write_pdf(pdf_identifier=booking.order_id.bytes)
    return made


def _nothing(url: str) -> Any:
    raise ValueError("a ticket loads nothing")


def pdf_if_possible(booking: Booking) -> bytes | None:
    """The PDF, or None where PDFs cannot be made."""
    with suppress(PdfMissing):
        return pdf_tickets(booking)
    return None


def _when(booking: Booking) -> str:
    return time_text(booking.starts_at, booking.ends_at, booking.language)


def _if_long(text: str, attribute: str) -> Markup:
    return Markup(attribute if len(text) > LONG else "")  # noqa: S704 - an attribute of ours


def _banner(url: str | None) -> str | None:
    """Only over TLS: anything else is blocked on a page that is itself served over TLS."""
    return url if url and url.lower().startswith("https://") else None


# The calendar -----------------------------------------------------------------------------------


def calendar_entry(booking: Booking, written_at: datetime, *, cancelled: bool = False) -> bytes:
    """An iCalendar file (RFC 5545). Its UID is the event's: a later one replaces an earlier one in
    the buyer's calendar, a cancelled one crosses it out. Names no ticket: calendars are shared."""
    booking = _tidy(booking)
    calendar = Calendar()
    calendar.add("prodid", "-//Strongroom//Ticketing//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "CANCEL" if cancelled else "PUBLISH")
    calendar.add("x-wr-timezone", ZONE.key)
    entry = CalendarEvent()
    entry.add("uid", f"{booking.event_id}@strongroom")
    entry.add("dtstamp", written_at.astimezone(UTC))
    # Seconds since 2000: an entry that was written later is the newer one.
    entry.add("sequence", max(0, int(written_at.timestamp()) - 946_684_800))
    entry.add("dtstart", booking.starts_at.astimezone(UTC))
    entry.add("dtend", booking.ends_at.astimezone(UTC))
    entry.add("summary", booking.event_name)
    entry.add("location", booking.location)
    entry.add("status", "CANCELLED" if cancelled else "CONFIRMED")
    entry.add("transp", "TRANSPARENT" if cancelled else "OPAQUE")
    calendar.add_component(entry)
    made: bytes = calendar.to_ical()
    return made


# Mails ------------------------------------------------------------------------------------------


def tickets_mail(booking: Booking, envelope: Envelope, pdf: bytes | None = None) -> EmailMessage:
    """The tickets, each with its QR in the text; the calendar entry and the PDF are attached."""
    words = WORDS[booking.language]
    own = words["tickets"]
    paragraphs = [own["lead"].format(event=one_line(booking.event_name)), own["calendar"]]
    mail = _mail("tickets", booking, envelope, paragraphs)
    _attach_calendar(mail, booking, envelope, cancelled=False)
    if pdf is not None:
        name = f"{words['tickets_file']}-{booking.order_id}.pdf"
        mail.add_attachment(pdf, maintype="application", subtype="pdf", filename=name)
    return _sealed(mail, booking, envelope)


def cancelled_mail(booking: Booking, envelope: Envelope) -> EmailMessage:
    """The event will not be, and what was paid goes back; the calendar entry is crossed out."""
    mail = _mail("cancelled", booking, envelope, _refund("cancelled", booking))
    _attach_calendar(mail, booking, envelope, cancelled=True)
    return _sealed(mail, booking, envelope)


def refunded_mail(booking: Booking, envelope: Envelope) -> EmailMessage:
    """The payment came when the seats were gone, and goes back."""
    mail = _mail("refunded", booking, envelope, _refund("refunded", booking))
    return _sealed(mail, booking, envelope)


def _refund(kind: Kind, booking: Booking) -> list[str]:
    own = WORDS[booking.language][kind]
    total = money_text(booking.total, booking.language, booking.currency)
    return [
        own["lead"].format(event=one_line(booking.event_name), when=_when(booking)),
        own["refund"].format(total=total) if booking.total else own["nothing"],
        own["void"],
    ]


def _mail(
    kind: Kind, booking: Booking, envelope: Envelope, paragraphs: Sequence[str]
) -> EmailMessage:
    booking = _tidy(booking)
    words = WORDS[booking.language]
    own = words[kind]
    shows = booking.admissions if kind == "tickets" else ()
    cids = [f"qr{at}.{envelope.mail_id}@strongroom" for at in range(1, len(shows) + 1)]
    mail = EmailMessage()
    subject = own["subject"].format(event=booking.event_name)
    mail["Subject"] = _unencoded(subject)
    _address(mail, booking, envelope)
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notes in return
    filled = {
        "booking": booking,
        "words": words,
        "own": own,
        "subject": subject,
        "greeting": words["greeting"].format(name=booking.buyer_name),
        "regards": own.get("regards", words["regards"]),
        "paragraphs": paragraphs,
        "facts": _facts(booking),
        "admissions": shows,
        "cids": cids,
        "price": lambda amount: money_text(amount, booking.language, booking.currency),
    }
    mail.set_content(_pages.get_template("mail.txt").render(filled))
    mail.add_alternative(_pages.get_template("mail.html").render(filled), subtype="html")
    _, page = mail.iter_parts()
    assert isinstance(page, EmailMessage)
    for cid, ticket in zip(cids, shows, strict=True):
        image = qr_png(ticket.qr)
        name = f"{ticket.code}.png"
        page.add_related(image, "image", "png", cid=f"<{cid}>", filename=name, disposition="inline")
    return mail


def _facts(booking: Booking) -> list[tuple[str, str]]:
    words = WORDS[booking.language]
    return [
        (words["when"], f"{_when(booking)} ({words['zone']})"),
        (words["where"], booking.location),
        (words["total"], money_text(booking.total, booking.language, booking.currency)),
        (words["order"], str(booking.order_id)),
    ]


def _address(mail: EmailMessage, booking: Booking, envelope: Envelope) -> None:
    try:
        buyer = Address(_unencoded(booking.buyer_name), addr_spec=booking.buyer_email)
        mail["To"] = buyer
        mail["From"] = envelope.sender
        (sender,) = mail["From"].addresses
    except (ValueError, IndexError, MessageError) as error:
        raise BadMailAddress() from error
    if not buyer.addr_spec.isascii() or not buyer.domain:
        raise BadMailAddress()
    mail["Message-ID"] = f"<{envelope.mail_id}@{sender.domain}>"
    mail["Date"] = format_datetime(envelope.written_at.astimezone(ZONE))


def _unencoded(text: str) -> str:
    """Text in which no encoded word (RFC 2047) begins: the library would decode what somebody
    chose as a name, and write the line breaks that it finds there into the header."""
    return text.replace("=?", "= ?")


def _attach_calendar(
    mail: EmailMessage, booking: Booking, envelope: Envelope, *, cancelled: bool
) -> None:
    mail.add_attachment(
        calendar_entry(booking, envelope.written_at, cancelled=cancelled),
        maintype="text",
        subtype="calendar",
        filename=str(WORDS[booking.language]["calendar_file"]),
        params={"charset": "utf-8", "method": "CANCEL" if cancelled else "PUBLISH"},
    )


def _sealed(mail: EmailMessage, booking: Booking, envelope: Envelope) -> EmailMessage:
    """The mail with boundaries of its own id, where the library would draw lots."""
    mail["Content-Language"] = booking.language  # earlier it would move into the first part
    parts = [part for part in mail.walk() if part.is_multipart()]
    for number, part in enumerate(parts):
        part.set_boundary(f"=_{envelope.mail_id.hex}_{number}")
    return mail
