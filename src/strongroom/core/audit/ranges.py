"""Reading the ledger by ranges of its accounts' entries: what is new, and what was sealed, again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple

from strongroom.core.audit.findings import Findings, plain
from strongroom.core.audit.seals import Drafts, intervals, sql
from strongroom.core.db import Connection, Record

RANGE = 10_000
"""Entries to a range: their lines come to some 2 MB, far below what one value may be."""

PORTION = 200_000
"""Entries that one statement reads: its joins stay in memory, and a hot account is no exception."""

PORTION_RANGES = 20_000
PAGE = 20_000
"""Accounts or sealed ranges that are fetched at a time."""

NAMED = 10
"""Of ranges that are not as they were sealed, so many are searched for their first wrong entry."""

ENTRIES = (
    "accounts_equal_their_entries",
    "entries_chain",
    "entries_stay_above_the_floor",
    "entries_share_their_unit",
    "entries_fit_their_keys",
    "transfers_sum_to_zero",
    "transfers_have_their_entries",
    "reversals_negate",
    "transfers_are_reversed_once",
    "transfer_keys_are_unique",
)
"""What is asked of the entries of a range and of their transfers."""

STAND = "sealed_entries_stand"


class Range(NamedTuple):
    """Entries of one account, first and last included."""

    account_id: int
    from_seq: int
    to_seq: int


class Count:
    """How much was read."""

    def __init__(self) -> None:
        self.accounts = self.entries = self.again_ranges = self.again_entries = 0


def portions(ranges: Iterable[Range]) -> Iterator[list[Range]]:
    """As many ranges together as one statement reads."""
    portion: list[Range] = []
    entries = 0
    for one in ranges:
        size = one.to_seq - one.from_seq + 1
        if portion and (entries + size > PORTION or len(portion) == PORTION_RANGES):
            yield portion
            portion, entries = [], 0
        portion.append(one)
        entries += size
    if portion:
        yield portion


def columns(ranges: list[Range]) -> list[list[int]]:
    return [list(column) for column in zip(*ranges, strict=True)]


def _cut(tips: Iterable[Record]) -> Iterator[Range]:
    for tip in tips:
        for start in range(tip["sealed_seq"] + 1, tip["last_seq"] + 1, RANGE):
            yield Range(tip["id"], start, min(start + RANGE - 1, tip["last_seq"]))


class Reader:
    """Reads within one snapshot, by keys (`read_by`); what does not hold goes to `findings`."""

    def __init__(self, db: Connection, findings: Findings) -> None:
        self._db, self._findings = db, findings
        self.count = Count()

    async def fresh(self, drafts: Drafts | None, *, asking: bool) -> None:
        """What is behind the newest seal of each account; `asking` whether all is as it must be,
        or only reading it for a seal."""
        async for tips in self._pages(sql.read_tips):
            await self._read(tips, drafts, asking=asking)

    async def of(self, unit: str | None, account_id: int | None) -> None:
        """All entries of these accounts, from the first."""
        async for tips in self._pages(sql.read_tips_of, unit, account_id):
            await self._read(tips, None, asking=True)

    async def _pages(self, query: str, *scope: object) -> AsyncIterator[list[Record]]:
        after = 0
        while tips := await self._db.fetch(query, after, PAGE, *scope):
            yield tips
            after = tips[-1]["id"]

    async def _read(self, tips: list[Record], drafts: Drafts | None, *, asking: bool) -> None:
        found: dict[int, tuple[int, int]] = {}
        for portion in portions(_cut(tips)):
            rows = await self._db.fetch(sql.read_ranges, *columns(portion))
            for one, row in zip(portion, rows, strict=True):
                entries, amount = found.get(one.account_id, (0, 0))
                found[one.account_id] = entries + row["entries"], amount + int(row["amount"])
                if drafts is not None and row["balance"] is not None:
                    drafts.add(*one, row["balance"], row["digest"])
            if asking:
                await self._ask(portion)
        self.count.accounts += len(tips)
        self.count.entries += sum(entries for entries, _ in found.values())
        if asking:
            for tip in tips:
                self._compare(tip, *found.get(tip["id"], (0, 0)))

    def _compare(self, tip: Record, entries: int, amount: int) -> None:
        """L4, from the sealed balance on."""
        balance, seq = tip["sealed_balance"] + amount, tip["sealed_seq"] + entries
        if tip["last_seq"] < tip["sealed_seq"]:
            seq = tip["last_seq"]  # what was sealed last is gone, long before its turn comes
        if (balance, seq) != (tip["balance"], tip["seq"]):
            told = {
                "accountId": tip["id"],
                "ownerId": str(tip["owner_id"]),
                "purpose": tip["purpose"],
                "unit": tip["unit"],
                "expected": balance,
                "found": tip["balance"],
                "expectedSeq": seq,
                "foundSeq": tip["seq"],
            }
            self._findings.add("accounts_equal_their_entries", told)

    async def _ask(self, portion: list[Range]) -> None:
        for query in (sql.odd_entries, sql.odd_transfers):
            for row in await self._db.fetch(query, *columns(portion)):
                told = plain(row)
                self._findings.add(told.pop("invariant"), told)

    async def arrivals(self, since: object) -> None:
        """Transfers that were made since without any entry."""
        for row in await self._db.fetch(sql.arrivals, since):
            self._findings.add("transfers_have_their_entries", plain(row))

    async def again(self, begin: int, end: int) -> None:
        """The sealed ranges between two positions."""
        for start, until in intervals(begin, end):
            after = start
            while rows := await self._db.fetch(sql.sealed_again, after, until, PAGE):
                await self._compare_sealed(rows)
                after = rows[-1]["digest"]

    async def all_again(self) -> None:
        """Every sealed range, seal by seal: what was written together lies together."""
        after = (0, 0, 0)
        while rows := await self._db.fetch(sql.sealed_in_order, *after, PAGE):
            await self._compare_sealed(rows)
            last = rows[-1]
            after = last["seal"], last["account_id"], last["from_seq"]

    async def _compare_sealed(self, rows: list[Record]) -> None:
        sealed = {Range(row["account_id"], row["from_seq"], row["to_seq"]): row for row in rows}
        broken: list[Range] = []
        for portion in portions(sorted(sealed)):
            found = await self._db.fetch(sql.read_ranges, *columns(portion))
            for one, row in zip(portion, found, strict=True):
                was = sealed[one]
                stands = was["digest"] == row["digest"] and was["balance"] == row["balance"]
                if not stands or was["expected_from"] != one.from_seq:
                    self._findings.add(STAND, _broken(one, was, row))
                    broken.append(one)
                self.count.again_entries += row["entries"]
        self.count.again_ranges += len(rows)
        if broken:
            await self._ask(broken[:NAMED])


def _broken(one: Range, was: Record, row: Record) -> dict[str, object]:
    return {
        "accountId": one.account_id,
        "fromSeq": one.from_seq,
        "toSeq": one.to_seq,
        "seal": was["seal"],
        "expected": was["digest"].hex(),
        "found": row["digest"].hex(),
        "expectedBalance": was["balance"],
        "foundBalance": row["balance"],
        "entries": row["entries"],
        "expectedFrom": was["expected_from"],
    }
