"""Phone numbers: however one is written it is the same customer, and nonsense is nobody's."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.apps.orders.customers import normalise
from strongroom.doors.http.orders_bodies import CustomerBody
from strongroom.errors import Invalid

SAME = [
    ("0912345678", "+84912345678"),
    ("0912 345 678", "+84912345678"),
    ("0912.345.678", "+84912345678"),
    ("0912-345-678", "+84912345678"),
    ("(0912) 345 678", "+84912345678"),
    ("091/234/5678", "+84912345678"),
    (" 0912345678 ", "+84912345678"),
    ("84912345678", "+84912345678"),
    ("84 912 345 678", "+84912345678"),
    ("+84912345678", "+84912345678"),
    ("+84 912 345 678", "+84912345678"),
    ("(+84) 912 345 678", "+84912345678"),
    ("+84 (0)912 345 678", "+84912345678"),
    ("+84 0912345678", "+84912345678"),
    ("0084912345678", "+84912345678"),
    ("00 84 0912 345 678", "+84912345678"),
    ("840912345678", "+84912345678"),
    # Every beginning that mobiles have, also that which looks like the country's own code.
    ("0321234567", "+84321234567"),
    ("0521234567", "+84521234567"),
    ("0721234567", "+84721234567"),
    ("0841234567", "+84841234567"),
    ("84841234567", "+84841234567"),
    ("+84841234567", "+84841234567"),
    # Fixed lines: Hanoi and Ho Chi Minh City, and a province.
    ("024 3825 1234", "+842438251234"),
    ("(028) 3829 5678", "+842838295678"),
    ("84 24 3825 1234", "+842438251234"),
    ("0236 382 1234", "+842363821234"),
    ("0220 385 123", "+84220385123"),
    # Abroad.
    ("+1 (202) 555-0123", "+12025550123"),
    ("001 202 555 0123", "+12025550123"),
    ("+886 912 345 678", "+886912345678"),
    ("+44 20 7946 0000", "+442079460000"),
    ("+49 1512 3456789", "+4915123456789"),
    ("+85 291234567", "+85291234567"),
]

NONSENSE = [
    "",
    " ",
    "+",
    "-",
    "0",
    "00",
    "+84",
    "113",
    "1900 1234",
    "912345678",
    "091234567",
    "09123456789",
    "0112345678",
    "0612345678",
    "02412345",
    "024123456789",
    "8491234567",
    "849123456789",
    "+8491234567",
    "+849123456789",
    "+84 1 234 567 890",
    "+84 00912345678",
    "00084912345678",
    "084912345678",
    "++84912345678",
    "+84+912345678",
    "0912345678+",
    "+0912345678",
    "+00912345678",
    "+1234",
    "+123456",
    "+1234567890123456",
    "2025550123",
    "0912345678 x12",
    "0912345678;",
    "0912345678,0912345679",
    "tel:0912345678",
    "0912_345_678",
    "0x912345678",
    "1e9",
    "abc",
    "091234567\0",
    "0912345678\u200b",
    "\uff10\uff19\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18",
    "\u0660\u0669\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
    "+84\u0669\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
    "091234567\u0968",
    "\u00b91234567890",
    "\uff0b84912345678",
]


@pytest.mark.parametrize(("written", "number"), SAME)
def test_a_number_is_the_same_however_it_is_written(written: str, number: str) -> None:
    assert normalise(written) == number


@pytest.mark.parametrize("written", NONSENSE)
def test_what_is_no_number_is_refused_by_its_field(written: str) -> None:
    with pytest.raises(Invalid) as refused:
        normalise(written)
    assert [error["field"] for error in refused.value.errors] == ["phone"]


@pytest.mark.parametrize("written", [written for written, _ in SAME])
def test_the_door_takes_a_number_in_each_of_these_forms(written: str) -> None:
    body = msgspec.json.encode({"name": "Chị Hai", "phone": written.strip()})
    assert msgspec.json.decode(body, type=CustomerBody).phone == written.strip()


@given(st.text(st.sampled_from("+0123456789 .-()/x\u0661\u00a0\n"), max_size=20))
def test_whatever_is_accepted_is_a_number_that_stays_itself(written: str) -> None:
    try:
        number = normalise(written)
    except Invalid:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{6,14}", number, re.ASCII)
    assert normalise(number) == number
    # No digit is added or lost but those that say from where one dials.
    dialled = re.sub(r"\D", "", written, flags=re.ASCII)
    assert dialled.endswith((number[3:], number[1:]))


@given(
    st.from_regex(r"0(3|5|7|8|9)[0-9]{8}", fullmatch=True),
    st.lists(st.sampled_from(["", " ", ".", "-", "  "]), min_size=10, max_size=10),
    st.sampled_from(["0", "+84", "84", "0084", "+840"]),
)
def test_separators_and_ways_to_dial_a_mobile_do_not_matter(
    mobile: str, between: list[str], dialled: str
) -> None:
    written = dialled + "".join(
        digit + gap for digit, gap in zip(mobile[1:], between, strict=False)
    )
    assert normalise(written) == f"+84{mobile[1:]}"
