"""At the door: one ticket, one entry, and every scan kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from boxoffice import Bought, Show, bought, new_event, tickets_of, worked
from playing import PATIENCE_S, Houses, assert_clean, code_of, outcome_of, ticket
from strongroom.apps.ticketing.door import (
    CLOCK_SKEW,
    CheckIn,
    OfflineScan,
    RecordScans,
    ScanOutcome,
    ScansRecorded,
)
from strongroom.apps.ticketing.events import CancelEvent, EndEvent
from strongroom.clock import now
from strongroom.core.db import Database
from strongroom.errors import StoredRefusal
from strongroom.main import Strongroom

NOWHERE = "00041-06105-0R3GG2-8A1C6-0T3GF"
"""A code as they are written, of no ticket."""


async def admission(house: Strongroom, seats: int = 1) -> tuple[Show, Bought, list[str]]:
    """An event, and the codes of somebody's tickets."""
    show = await new_event(house, 50)
    one = await bought(house, (show.type, seats))
    return show, one, list(await tickets_of(house, one.order))


async def kept(house: Strongroom) -> Counter[str]:
    """The results of all scans that were kept."""
    rows = await house.database.fetch("SELECT result, count(*) FROM ticketing.scans GROUP BY 1")
    return Counter({row[0]: row[1] for row in rows})


async def upload(house: Strongroom, *scans: OfflineScan) -> ScansRecorded:
    recorded: ScansRecorded = await house.run(RecordScans(scans))
    return recorded


def results(recorded: ScansRecorded) -> list[str]:
    return [one.result for one in recorded.results]


# Online --------------------------------------------------------------------------------------------


async def test_a_pass_that_is_none_of_ours_is_refused_and_kept(house: Strongroom) -> None:
    forged = CheckIn("SR1.ABC", "A1", "bad_signature")
    assert await code_of(house.run(forged)) == "bad_signature"
    assert await kept(house) == {"FORGED": 1}


async def test_of_fifty_scans_at_two_houses_one_admits_and_the_others_name_it(
    houses: Houses, house: Strongroom
) -> None:
    pair = (house, await houses())
    _, _, [code] = await admission(house)

    async def scan(n: int) -> Any:
        try:
            return await pair[n % 2].run(CheckIn(code, f"gate {n}"), principal="gate")
        except StoredRefusal as refusal:
            return refusal

    said = await asyncio.gather(*(scan(n) for n in range(50)))
    [winner] = [one for one in said if not isinstance(one, StoredRefusal)]
    losers = [one for one in said if isinstance(one, StoredRefusal)]
    first = {"gate": winner.gate}
    assert winner.status == "CHECKED_IN"
    for one in losers:
        assert one.code == "already_checked_in"
        told = dict(one.facts["firstScan"])
        assert datetime.fromisoformat(told.pop("checkedInAt")) == winner.checked_in_at
        assert told == first
        assert winner.gate in one.detail
    assert await kept(house) == {"ADMITTED": 1, "ALREADY_CHECKED_IN": 49}
    events = "SELECT count(*) FROM events.log WHERE type = 'ticketing.TicketCheckedIn'"
    assert await house.database.fetchval(events) == 1
    await assert_clean(house)


async def test_of_two_scans_in_one_group_the_first_admits(house: Strongroom) -> None:
    _, _, codes = await admission(house, 2)
    scans = [ticket(CheckIn(code, gate), f"{code}{gate}") for gate in "AB" for code in codes]
    await house.executor.run(scans)
    refused = [(await one.future).refused for one in scans]
    assert refused == [None, None, "already_checked_in", "already_checked_in"]
    gates = await house.database.fetch("SELECT gate FROM ticketing.tickets")
    assert [row[0] for row in gates] == ["A", "A"]
    await assert_clean(house)


async def test_a_scan_whose_answer_was_lost_is_asked_again_and_admits(house: Strongroom) -> None:
    _, _, [code] = await admission(house)
    first = await outcome_of(house, ticket(CheckIn(code, "A"), "scan-1"))
    again = await outcome_of(house, ticket(CheckIn(code, "A"), "scan-1"))
    assert (again.body, again.refused, again.replayed) == (first.body, None, True)
    other = await outcome_of(house, ticket(CheckIn(code, "A"), "scan-2"))
    assert other.refused == "already_checked_in"
    repeated = await outcome_of(house, ticket(CheckIn(code, "A"), "scan-2"))
    assert repeated.body == other.body
    assert await kept(house) == {"ADMITTED": 1, "ALREADY_CHECKED_IN": 1}


async def test_refused_scans_are_kept_with_where_when_and_by_whom(house: Strongroom) -> None:
    show, _, [used, unused] = await admission(house, 2)
    await house.run(CheckIn(used, "A"), principal="gate:1")
    assert await code_of(house.run(CheckIn(NOWHERE, "B"), principal="gate:2")) == "not_found"
    await house.run(CancelEvent(show.id))
    await worked(house)
    for code in (used, unused):
        assert await code_of(house.run(CheckIn(code, "C"))) == "ticket_cancelled"
    rows = await house.database.fetch(
        "SELECT result, code, gate, scanned_by, event_id FROM ticketing.scans ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [
        ("ADMITTED", used, "A", "gate:1", show.id),
        ("UNKNOWN", NOWHERE, "B", "gate:2", None),
        ("CANCELLED", used, "C", "library", show.id),
        ("CANCELLED", unused, "C", "library", show.id),
    ]
    await assert_clean(house)


async def test_a_refused_scan_is_kept_beside_one_that_admits(house: Strongroom) -> None:
    """All in one group: what one refusal leaves behind does not depend on its neighbours."""
    _, _, [code] = await admission(house)
    group = [ticket(CheckIn(one, "A"), f"key-{n}") for n, one in enumerate((NOWHERE, code, code))]
    await house.executor.run(group)
    outcomes = [await one.future for one in group]
    assert [one.refused for one in outcomes] == [None, None, "already_checked_in"]
    assert outcomes[0].error is not None
    assert await kept(house) == {"UNKNOWN": 1, "ADMITTED": 1, "ALREADY_CHECKED_IN": 1}
    await assert_clean(house)


async def test_a_ticket_of_an_event_that_ended_still_admits(house: Strongroom) -> None:
    show, _, [code] = await admission(house)
    await house.run(EndEvent(show.id))
    assert (await house.run(CheckIn(code))).status == "CHECKED_IN"
    await assert_clean(house)


# Offline -------------------------------------------------------------------------------------------


def scan(key: str, code: str, minutes: float, gate: str = "A", **more: Any) -> OfflineScan:
    """A scan of so many minutes ago."""
    return OfflineScan(key, code, now() - timedelta(minutes=minutes), gate, **more)


async def test_the_earliest_scan_by_the_gates_clock_admits(house: Strongroom) -> None:
    _, _, [code] = await admission(house)
    late, early, later = scan("1", code, 5, "B"), scan("2", code, 9, "A"), scan("3", code, 4)
    recorded = await upload(house, late, early, later)
    assert results(recorded) == ["ALREADY_CHECKED_IN", "ADMITTED", "ALREADY_CHECKED_IN"]
    assert [one.scan_key for one in recorded.results] == ["1", "2", "3"]
    assert recorded.double_entries == 2
    first = recorded.results[0].first_scan
    assert first == {"checkedInAt": early.scanned_at, "gate": "A"}
    await assert_clean(house)


async def test_what_is_uploaded_twice_counts_once(houses: Houses, house: Strongroom) -> None:
    pair = (house, await houses())
    _, _, codes = await admission(house, 3)
    scans = tuple(scan(f"gate-A-{n}", code, 5) for n, code in enumerate([*codes, NOWHERE]))
    both = await asyncio.gather(*(upload(one, *scans) for one in pair))
    expected = ["ADMITTED"] * 3 + ["UNKNOWN"]
    assert [results(one) for one in both] == [expected, expected]
    replayed = [[each.replayed for each in one.results] for one in both]
    assert sorted(replayed) == [[False] * 4, [True] * 4]
    assert [one.double_entries for one in both] == [0, 0]
    assert await kept(house) == {"ADMITTED": 3, "UNKNOWN": 1}
    await assert_clean(house)


async def test_the_same_upload_twice_in_one_group_counts_once(house: Strongroom) -> None:
    _, _, [code] = await admission(house)
    wishes = [ticket(RecordScans((scan("1", code, 5),)), f"key-{n}") for n in range(3)]
    await house.executor.run(wishes)
    replies = [(await one.future).reply for one in wishes]
    assert [one.results[0].result for one in replies] == ["ADMITTED"] * 3  # type: ignore[union-attr]
    assert [one.results[0].replayed for one in replies] == [False, True, True]  # type: ignore[union-attr]
    assert await kept(house) == {"ADMITTED": 1}


async def test_one_scan_twice_in_one_upload_is_one_scan(house: Strongroom) -> None:
    _, _, [code] = await admission(house)
    one = scan("1", code, 5)
    recorded = await upload(house, one, one)
    assert sorted(each.replayed for each in recorded.results) == [False, True]
    assert recorded.double_entries == 0
    await assert_clean(house)


async def test_gates_that_count_from_one_do_not_take_each_others_scans_for_their_own(
    house: Strongroom,
) -> None:
    _, _, [code, other] = await admission(house, 2)
    recorded = await upload(house, scan("1", code, 9, "A"), scan("1", other, 8, "A"))
    assert results(recorded) == ["ADMITTED", "ADMITTED"]
    again = await upload(house, scan("1", code, 7, "B"))
    assert results(again) == ["ALREADY_CHECKED_IN"]
    assert (again.double_entries, again.results[0].replayed) == (1, False)
    assert await kept(house) == {"ADMITTED": 2, "ALREADY_CHECKED_IN": 1}
    await assert_clean(house)


async def test_offline_and_online_scans_of_one_ticket_know_of_each_other(
    house: Strongroom,
) -> None:
    _, _, [online, offline] = await admission(house, 2)
    entered = await house.run(CheckIn(online, "A"))
    recorded = await upload(house, scan("1", online, 30, "B"), scan("2", offline, 20, "B"))
    assert results(recorded) == ["ALREADY_CHECKED_IN", "ADMITTED"]
    assert recorded.results[0].first_scan == {"checkedInAt": entered.checked_in_at, "gate": "A"}
    with pytest.raises(StoredRefusal) as refusal:
        await house.run(CheckIn(offline, "A"))
    assert refusal.value.facts["firstScan"]["gate"] == "B"
    await assert_clean(house)


async def test_what_is_forged_cancelled_or_unknown_does_not_admit(house: Strongroom) -> None:
    show, _, [used, unused] = await admission(house, 2)
    forged = scan("1", used, 5, forged=True)
    assert results(await upload(house, forged)) == ["FORGED"]
    assert results(await upload(house, scan("2", used, 4))) == ["ADMITTED"]
    assert results(await upload(house, scan("3", "nonsense", 3))) == ["UNKNOWN"]
    await house.run(CancelEvent(show.id))
    await worked(house)
    again = await upload(house, scan("4", used, 2), scan("5", unused, 1))
    assert results(again) == ["CANCELLED", "CANCELLED"]
    assert again.double_entries == 0
    assert await kept(house) == {"FORGED": 1, "ADMITTED": 1, "UNKNOWN": 1, "CANCELLED": 2}
    await assert_clean(house)


@pytest.mark.parametrize(
    "spelled",
    [
        str.lower,
        lambda code: code.replace("-", ""),
        lambda code: f"  {code.replace('-', ' ')}\n",
        lambda code: code.replace("-", "\u2013"),
        lambda code: code.replace("0", "o").replace("1", "l"),
    ],
)
async def test_a_code_is_found_however_it_is_spelled(house: Strongroom, spelled: Any) -> None:
    _, _, [code] = await admission(house)
    assert results(await upload(house, scan("1", spelled(code), 1))) == ["ADMITTED"]
    stored = await house.database.fetchval("SELECT code FROM ticketing.scans")
    assert stored == code


async def test_a_gate_whose_clock_is_far_ahead_does_not_admit_in_the_future(
    house: Strongroom,
) -> None:
    _, _, [code] = await admission(house)
    await upload(house, scan("1", code, -60 * 24 * 365))
    at = await house.database.fetchval("SELECT checked_in_at FROM ticketing.tickets")
    assert now() < at <= now() + CLOCK_SKEW
    await assert_clean(house)


async def test_gates_that_upload_at_once_admit_each_ticket_once(
    houses: Houses, house: Strongroom
) -> None:
    """The same tickets in opposite order, some scanned online meanwhile."""
    pair = (house, await houses())
    _, _, codes = await admission(house, 20)
    gates = [
        tuple(scan(f"{gate}-{n}", code, 5, gate) for n, code in enumerate(order))
        for gate, order in (("A", codes), ("B", codes[::-1]), ("C", codes), ("D", codes[::-1]))
    ]
    uploads = [pair[n % 2].run(RecordScans(scans)) for n, scans in enumerate(gates)]
    online = [code_of(pair[n % 2].run(CheckIn(code, "E"))) for n, code in enumerate(codes)]
    async with asyncio.timeout(PATIENCE_S):
        *recorded, refused = await asyncio.gather(*uploads, asyncio.gather(*online))
    admitted: list[ScanOutcome] = [
        one for each in recorded for one in each.results if one.result == "ADMITTED"
    ]
    assert len(admitted) + refused.count(None) == len(codes)
    assert sum(one.double_entries for one in recorded) == 4 * len(codes) - len(admitted)
    assert sum((await kept(house)).values()) == 5 * len(codes)
    await assert_clean(house)


async def test_codes_are_unique_and_say_nothing_of_each_other(
    house: Strongroom, owner: Database
) -> None:
    _, _, codes = await admission(house, 50)
    assert len(set(codes)) == 50
    prefixes = {code[:5] for code in codes}
    assert len(prefixes) > 45, "what identifies a ticket is drawn, not counted"
    ids = await owner.fetch("SELECT id::text FROM ticketing.tickets")
    assert not any(row[0].replace("-", "").upper() in codes for row in ids)
