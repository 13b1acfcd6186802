"""Tickets on paper, in the calendar and in the mail: right, readable, and safe to open."""

from __future__ import annotations

import email
import email.policy
import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from html.parser import HTMLParser
from importlib import util
from typing import Any
from uuid import UUID

import icalendar
import pytest
import zxingcpp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from strongroom.apps.ticketing import papers
from strongroom.apps.ticketing.codes import Signer, Verifier, code_of
from strongroom.apps.ticketing.papers import (
    WORDS,
    Admission,
    BadMailAddress,
    Booking,
    Envelope,
    PdfMissing,
    calendar_entry,
    cancelled_mail,
    html_tickets,
    money_text,
    one_line,
    pdf_if_possible,
    pdf_tickets,
    qr_png,
    qr_svg,
    refunded_mail,
    tickets_mail,
    time_text,
)

SIGNER = Signer(bytes(32))
EVENT = UUID("0198c0de-0000-7000-8000-000000000001")
KIND = UUID("0198c0de-0000-7000-8000-000000000002")
ORDER = UUID("0198c0de-0000-7000-8000-000000000003")
MAIL = UUID("0198c0de-0000-7000-8000-000000000004")


def admission(number: int, owner: str, kind: str, price: int) -> Admission:
    code = code_of(number.to_bytes(16))
    return Admission(code, SIGNER.sign(EVENT, KIND, code), owner, kind, price)


BOOKING = Booking(
    order_id=ORDER,
    event_id=EVENT,
    event_name="Đêm nhạc Trịnh Công Sơn",
    location="Nhà hát Lớn, 1 Tràng Tiền, Hà Nội",
    starts_at=datetime(2026, 9, 12, 12, 30, tzinfo=UTC),
    ends_at=datetime(2026, 9, 12, 15, tzinfo=UTC),
    banner_url="https://example.vn/banner.jpg?a=1&b=2",
    total=3_500_000,
    language="vi",
    buyer_name="Nguyễn Thị Ánh Tuyết",
    buyer_email="tuyet@example.vn",
    admissions=(
        admission(1, "Nguyễn Thị Ánh Tuyết", "Hạng nhất", 2_000_000),
        admission(2, "Trần Quốc Khánh", "Phổ thông", 1_500_000),
    ),
)
ENVELOPE = Envelope(MAIL, "Strongroom <ve@strongroom.example>", datetime(2026, 8, 1, tzinfo=UTC))
ENGLISH = replace(BOOKING, language="en")

MAKERS = {"tickets": tickets_mail, "cancelled": cancelled_mail, "refunded": refunded_mail}

needs_pdf = pytest.mark.skipif(
    util.find_spec("weasyprint") is None or pdf_if_possible(BOOKING) is None,
    reason="WeasyPrint or the system's Pango is not installed",
)

nasty = st.text(min_size=1, max_size=120) | st.sampled_from(
    [
        "a\r\nBcc: all@example.vn",
        "a\nSubject: other\n\nbody",
        '"quoted", <b@example.vn>',
        "=?utf-8?q?=0ABcc:_x?=",
        "<script>alert(1)</script>",
        "\u202eevil\u2066",
        "{total} {0} %s {{ 7*7 }}",
        "Ngô Bảo Châu " * 30,
        "🎫" * 60,
        "\ud800",
    ]
)


def with_names(name: str, booking: Booking = BOOKING) -> Booking:
    """The booking with one text wherever people choose it."""
    held = tuple(replace(one, owner_name=name, type_name=name) for one in booking.admissions)
    return replace(booking, event_name=name, location=name, buyer_name=name, admissions=held)


def on_the_wire(mail: EmailMessage) -> bytes:
    return mail.as_bytes(policy=email.policy.SMTP)


def received(mail: EmailMessage) -> Any:
    return email.message_from_bytes(on_the_wire(mail), policy=email.policy.default)


def text_of(mail: Any, kind: str = "plain") -> str:
    return mail.get_body((kind,)).get_content()


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.found}


# Words ------------------------------------------------------------------------------------------


def test_both_languages_say_the_same_things() -> None:
    def shape(words: dict[str, Any]) -> dict[str, Any]:
        return {
            key: shape(one) if isinstance(one, dict) else sorted(re.findall(r"{\w+}", one))
            for key, one in words.items()
        }

    assert shape(WORDS["vi"]) == shape(WORDS["en"])


@pytest.mark.parametrize(
    ("amount", "language", "currency", "text"),
    [
        (1_500_000, "vi", "VND", "1.500.000\u00a0₫"),
        (1_500_000, "en", "VND", "₫1,500,000"),
        (1, "vi", "VND", "1\u00a0₫"),
        (10_050, "en", "USD", "$100.50"),
        (0, "vi", "VND", "Miễn phí"),
        (0, "en", "VND", "Free"),
    ],
)
def test_money_is_written_as_people_write_it(
    amount: int, language: Any, currency: str, text: str
) -> None:
    assert money_text(amount, language, currency) == text


def test_times_are_those_of_vietnam() -> None:
    evening = datetime(2026, 9, 12, 12, 30, tzinfo=UTC)
    night = evening + timedelta(hours=6)
    assert time_text(evening, evening + timedelta(hours=2), "vi") == (
        "19:30–21:30, Thứ Bảy, 12 tháng 9, 2026"
    )
    assert time_text(evening, night, "vi") == (
        "19:30, Thứ Bảy, 12 tháng 9, 2026 đến 01:30, Chủ Nhật, 13 tháng 9, 2026"
    )
    assert time_text(evening, night, "en") == (
        "19:30, Saturday, September 12, 2026 to 01:30, Sunday, September 13, 2026"
    )


@given(nasty)
def test_one_line_is_one_line(text: str) -> None:
    made = one_line(text)
    assert len(made.splitlines()) <= 1
    assert made == made.strip()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", made)


# QR ---------------------------------------------------------------------------------------------


def read_qrs(image: Any) -> list[str]:
    return [one.text for one in zxingcpp.read_barcodes(image)]


def drawn(svg: str, scale: int = 6) -> memoryview:
    """The squares of an SVG of ours as grey pixels: lines one unit high, right or relative."""
    size = int(re.search(r'viewBox="0 0 (\d+) \1"', svg)[1])
    path = re.search(r'class="qrline"[^>]* d="([^"]+)"', svg)[1]
    rows = [bytearray(b"\xff" * size * scale) for _ in range(size)]
    x, y = 0.0, 0.0
    for kind, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?: ?(-?[\d.]+))?", path):
        if kind == "h":
            start, end = int(x) * scale, int(x + float(first)) * scale
            rows[int(y)][start:end] = bytes(end - start)
            x += float(first)
        else:
            back = (0, 0) if kind == "M" else (x, y)
            x, y = back[0] + float(first), back[1] + float(second)
    pixels = b"".join(bytes(row) * scale for row in rows)
    return memoryview(pixels).cast("B", (size * scale, size * scale))


def test_a_scanner_reads_the_qr_of_a_page() -> None:
    text = BOOKING.admissions[0].qr
    assert read_qrs(drawn(qr_svg(text))) == [text]


def test_a_scanner_reads_the_qr_of_a_mail() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow comes with WeasyPrint")
    text = BOOKING.admissions[0].qr
    assert read_qrs(image.open(io.BytesIO(qr_png(text)))) == [text]


def test_what_a_scanner_reads_verifies_offline() -> None:
    (text,) = read_qrs(drawn(qr_svg(BOOKING.admissions[1].qr)))
    found = Verifier([SIGNER.public_key]).verify(text)
    assert (found.event_id, found.ticket_type_id, found.code) == (
        EVENT,
        KIND,
        BOOKING.admissions[1].code,
    )


def test_a_pass_makes_a_qr_of_49_squares_a_side() -> None:
    """Version 8: more squares would be too small for a cheap scanner on a cracked screen."""
    assert 'viewBox="0 0 57 57"' in qr_svg(BOOKING.admissions[0].qr)


# The page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("booking", [BOOKING, ENGLISH], ids=["vi", "en"])
def test_a_ticket_says_all_that_its_holder_needs(booking: Booking) -> None:
    page = Elements(html_tickets(booking))
    for one in booking.admissions:
        wanted = [one.code, one.owner_name, one.type_name, booking.event_name, booking.location]
        wanted.append(money_text(one.price, booking.language))
        assert all(text in page.text for text in wanted)
    assert time_text(booking.starts_at, booking.ends_at, booking.language) in page.text
    assert [tag for tag, _ in page.found].count("article") == len(booking.admissions)
    assert dict(page.found)["html"] == {"lang": booking.language}
    assert dict(page.found)["meta"]


def test_a_ticket_without_a_name_shows_no_empty_one() -> None:
    nobody = tuple(replace(one, owner_name="") for one in BOOKING.admissions)
    booking = replace(BOOKING, admissions=nobody)
    assert WORDS["vi"]["owner"] not in html_tickets(booking)
    mail = received(tickets_mail(booking, ENVELOPE))
    for form in ("plain", "html"):
        assert "Hạng nhất · 2.000.000\u00a0₫" in text_of(mail, form)


def test_each_ticket_shows_its_own_qr() -> None:
    page = html_tickets(BOOKING)
    svgs = re.findall(r"<svg.*?</svg>", page, re.S)
    assert [read_qrs(drawn(one)) for one in svgs] == [[one.qr] for one in BOOKING.admissions]


def test_a_page_loads_nothing_but_its_banner() -> None:
    page = html_tickets(BOOKING)
    found = Elements(page)
    assert not found.tags() & {"script", "link", "iframe", "object"}
    loaded = [value for _, attrs in found.found for name, value in attrs.items() if name == "src"]
    assert loaded == [BOOKING.banner_url] * 2
    assert "url(" not in page and "@import" not in page


@pytest.mark.parametrize(
    "url", [None, "", "javascript:alert(1)", "http://example.vn/a", "file:///etc/passwd", "//x"]
)
def test_a_banner_comes_over_tls_or_not_at_all(url: str | None) -> None:
    assert "<img" not in html_tickets(replace(BOOKING, banner_url=url))


@given(nasty)
@settings(max_examples=40)
def test_names_cannot_change_the_page(name: str) -> None:
    assume(one_line(name))  # nobody's name is left out
    plain = Elements(html_tickets(with_names("Bình")))
    page = Elements(html_tickets(with_names(name)))
    assert [tag for tag, _ in page.found] == [tag for tag, _ in plain.found]
    # A parser may read a lone "&…" differently; what is shown is still the text.
    assert one_line(name) in page.text


def test_a_banner_cannot_leave_its_attribute() -> None:
    page = Elements(html_tickets(replace(BOOKING, banner_url='https://x/"><script>1</script>')))
    assert "script" not in page.tags()


# PDF --------------------------------------------------------------------------------------------


def pages_of(pdf: bytes) -> list[Any]:
    pdfium = pytest.importorskip("pypdfium2")
    return [page.render(scale=2).to_pil() for page in pdfium.PdfDocument(pdf)]


@needs_pdf
def test_a_pdf_has_a_page_for_each_ticket_that_a_scanner_reads() -> None:
    pages = pages_of(pdf_tickets(BOOKING))
    assert [read_qrs(page) for page in pages] == [[one.qr] for one in BOOKING.admissions]


@needs_pdf
def test_the_longest_names_leave_a_ticket_on_its_page() -> None:
    long = with_names(("Liên hoan nghệ thuật đường phố " * 7)[:200])
    assert len(pages_of(pdf_tickets(long))) == len(long.admissions)


@needs_pdf
def test_the_same_booking_makes_the_same_pdf() -> None:
    assert pdf_tickets(BOOKING) == pdf_tickets(BOOKING)


def test_without_weasyprint_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "weasyprint", None)
    with pytest.raises(PdfMissing, match=r"strongroom\[pdf\]"):
        pdf_tickets(BOOKING)
    assert pdf_if_possible(BOOKING) is None


# The calendar -----------------------------------------------------------------------------------


def entry_of(made: bytes) -> Any:
    calendar = icalendar.Calendar.from_ical(made)
    (entry,) = calendar.walk("VEVENT")
    return calendar, entry


def test_a_calendar_reads_the_event() -> None:
    calendar, entry = entry_of(calendar_entry(BOOKING, ENVELOPE.written_at))
    assert calendar["METHOD"] == "PUBLISH" and calendar["X-WR-TIMEZONE"] == "Asia/Ho_Chi_Minh"
    assert entry["SUMMARY"] == BOOKING.event_name and entry["LOCATION"] == BOOKING.location
    assert (entry.decoded("DTSTART"), entry.decoded("DTEND")) == (
        BOOKING.starts_at,
        BOOKING.ends_at,
    )
    assert b"DTSTART:20260912T123000Z" in calendar_entry(BOOKING, ENVELOPE.written_at)


def test_a_cancelled_event_crosses_out_the_entry_of_the_tickets() -> None:
    later = ENVELOPE.written_at + timedelta(days=3)
    _, first = entry_of(calendar_entry(BOOKING, ENVELOPE.written_at))
    calendar, second = entry_of(calendar_entry(BOOKING, later, cancelled=True))
    assert first["UID"] == second["UID"] and first["SEQUENCE"] < second["SEQUENCE"] < 2**31
    assert (calendar["METHOD"], second["STATUS"]) == ("CANCEL", "CANCELLED")


def test_a_shared_calendar_gives_no_ticket_away() -> None:
    made = calendar_entry(BOOKING, ENVELOPE.written_at)
    for one in BOOKING.admissions:
        assert one.code.encode() not in made and one.qr[:40].encode() not in made


@given(nasty)
def test_names_cannot_add_to_the_calendar(name: str) -> None:
    made = calendar_entry(with_names(name), ENVELOPE.written_at)
    calendar, entry = entry_of(made)
    plain, other = entry_of(calendar_entry(BOOKING, ENVELOPE.written_at))
    assert calendar.keys() == plain.keys() and entry.keys() == other.keys()
    assert entry["SUMMARY"] == one_line(name)
    assert all(len(line) <= 75 for line in made.split(b"\r\n"))


# Mails ------------------------------------------------------------------------------------------


def test_the_tickets_mail_has_the_tickets_in_every_form() -> None:
    mail = received(tickets_mail(BOOKING, ENVELOPE, b"%PDF-1.7 a trial"))
    for one in BOOKING.admissions:
        assert one.code in text_of(mail) and one.code in text_of(mail, "html")
    names = [part.get_filename() for part in mail.iter_attachments()]
    assert names == ["su-kien.ics", f"ve-{ORDER}.pdf"]
    calendar, pdf = mail.iter_attachments()
    assert calendar.get_content_type() == "text/calendar"
    assert calendar.get_param("method") == "PUBLISH"
    assert calendar.get_payload(decode=True) == calendar_entry(BOOKING, ENVELOPE.written_at)
    assert pdf.get_content() == b"%PDF-1.7 a trial"
    assert [part.get_filename() for part in received(tickets_mail(BOOKING, ENVELOPE)).iter_attachments()] == ["su-kien.ics"]  # fmt: skip


def test_every_picture_in_a_mail_travels_with_it() -> None:
    mail = received(tickets_mail(BOOKING, ENVELOPE))
    page = Elements(text_of(mail, "html"))
    shown = [str(attrs["src"]) for tag, attrs in page.found if tag == "img"]
    carried = {
        f"cid:{part['Content-ID'].strip('<>')}": part.get_content()
        for part in mail.walk()
        if part.get_content_type() == "image/png"
    }
    assert [carried[one] for one in shown] == [qr_png(one.qr) for one in BOOKING.admissions]
    assert len(carried) == len(shown) == 2


@pytest.mark.parametrize("language", ["vi", "en"])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_mail_is_addressed_and_speaks_the_buyers_language(kind: str, language: Any) -> None:
    booking = replace(BOOKING, language=language)
    mail = received(MAKERS[kind](booking, ENVELOPE))
    assert mail["Subject"] == WORDS[language][kind]["subject"].format(event=BOOKING.event_name)
    (to,), (sender,) = mail["To"].addresses, mail["From"].addresses
    assert (to.display_name, to.addr_spec) == (BOOKING.buyer_name, BOOKING.buyer_email)
    assert sender.addr_spec == "ve@strongroom.example"
    assert mail["Message-ID"] == f"<{MAIL}@strongroom.example>"
    assert mail["Date"].datetime == ENVELOPE.written_at
    assert mail["Content-Language"] == language
    greeting = WORDS[language]["greeting"].format(name=BOOKING.buyer_name)
    for form in ("plain", "html"):
        assert greeting in text_of(mail, form)
        assert BOOKING.event_name in text_of(mail, form)


@pytest.mark.parametrize("kind", ["cancelled", "refunded"])
def test_a_refund_names_what_goes_back_and_shows_no_ticket(kind: str) -> None:
    mail = received(MAKERS[kind](BOOKING, ENVELOPE))
    assert "3.500.000\u00a0₫" in text_of(mail)
    assert BOOKING.admissions[0].code not in on_the_wire(MAKERS[kind](BOOKING, ENVELOPE)).decode()
    free = received(MAKERS[kind](replace(BOOKING, total=0), ENVELOPE))
    assert WORDS["vi"][kind]["nothing"] in text_of(free)


def test_a_cancelled_event_leaves_the_calendar_with_its_mail() -> None:
    (calendar,) = received(cancelled_mail(BOOKING, ENVELOPE)).iter_attachments()
    assert calendar.get_param("method") == "CANCEL"


@pytest.mark.parametrize("kind", MAKERS)
def test_a_mail_that_is_made_twice_is_the_same_mail(kind: str) -> None:
    made = [on_the_wire(MAKERS[kind](BOOKING, ENVELOPE)) for _ in range(2)]
    assert made[0] == made[1]


@given(nasty, st.sampled_from(sorted(MAKERS)))
@settings(max_examples=60)
def test_names_cannot_add_to_a_mail(name: str, kind: str) -> None:
    booking = with_names(name)
    mail = received(MAKERS[kind](booking, ENVELOPE))
    plain = received(MAKERS[kind](BOOKING, ENVELOPE))
    assert mail.keys() == plain.keys()
    assert [one.get_content_type() for one in mail.walk()] == [
        one.get_content_type() for one in plain.walk()
    ]
    assert [one.addr_spec for one in mail["To"].addresses] == [BOOKING.buyer_email]
    assert all(not part.defects for part in mail.walk())
    assert one_line(name) in text_of(mail)


@given(nasty)
@settings(max_examples=60)
def test_a_subject_and_a_name_arrive_as_they_were_written(name: str) -> None:
    mail = received(tickets_mail(with_names(name), ENVELOPE))
    # A reader may fold blanks and join words that were encoded apart.
    bare = "".join(one_line(name).split())
    assert "".join(mail["Subject"].split()).endswith(bare)
    assert "".join(mail["To"].addresses[0].display_name.split()) == bare


def test_lines_of_a_mail_are_as_short_as_smtp_wants_them() -> None:
    made = on_the_wire(tickets_mail(with_names("Đêm nhạc " * 200), ENVELOPE))
    assert max(map(len, made.split(b"\r\n"))) <= 998
    assert b"\n" not in made.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "address",
    ["", "nobody", "@example.vn", "a@", "a b@example.vn", "a@example.vn\r\nBcc: x@y.vn", "é@x.vn"],
)
def test_a_mail_to_no_address_is_not_made(address: str) -> None:
    with pytest.raises(BadMailAddress):
        tickets_mail(replace(BOOKING, buyer_email=address), ENVELOPE)


def test_a_mail_from_no_address_is_not_made() -> None:
    for sender in ("", "nobody\r\nBcc: x@y.vn <a@b.vn>"):
        with pytest.raises(BadMailAddress):
            tickets_mail(BOOKING, replace(ENVELOPE, sender=sender))


def test_templates_refuse_a_name_that_is_not_there() -> None:
    with pytest.raises(Exception, match="undefined"):
        papers._pages.get_template("mail.txt").render({})
