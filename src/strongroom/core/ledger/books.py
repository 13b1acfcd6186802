"""The accounts that one group of commands has locked, and what it posts against them.

Nothing here waits or reads: `lock` and `write` are the room's two trips to the database, all
between them is arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

from strongroom.core.db import Connection, Queries, Table
from strongroom.core.db.held import Locking, Locks
from strongroom.errors import NotFound, Refused
from strongroom.ids import HOUSE
from strongroom.money import MAX_BALANCE, VND

sql = Queries(__package__, "ledger.sql")

EntryType = Literal[
    "DEBIT",
    "CREDIT",
    "DEPOSIT",
    "WITHDRAWAL",
    "STAKE",
    "PAYOUT",
    "FEE",
    "REFUND",
    "REVERSAL",
    "PAYMENT",
    "SUPPLY",
    "HOLD",
    "RELEASE",
    "EXPIRY",
    "SALE",
    "RETURN",
    "ADJUSTMENT",
]

TRANSFERS = Table(
    "ledger.transfers",
    {
        "id": "uuid",
        "key": "text",
        "unit": "text",
        "reference": "text",
        "reverses": "uuid?",
        "created_by": "text",
    },
)
ENTRIES = Table(
    "ledger.entries",
    {
        "account_id": "bigint",
        "seq": "bigint",
        "transfer_id": "uuid",
        "amount": "bigint",
        "balance_after": "bigint",
        "type": "text",
    },
)


class InsufficientFunds(Refused):
    """The account does not hold enough."""


class BalanceLimit(Refused):
    """The account would hold more than fits."""


HOUSE_PURPOSES = frozenset({"fees", "revenue", "world"})
CLEARING = "clearing:"


class AccountKey(NamedTuple):
    """What names an account: whose it is, what it is for, what it counts."""

    owner_id: UUID
    purpose: str
    unit: str


def wallet(user_id: UUID, unit: str = VND) -> AccountKey:
    return AccountKey(user_id, "wallet", unit)


def stake(user_id: UUID, unit: str = VND) -> AccountKey:
    return AccountKey(user_id, "stake", unit)


def fees(unit: str = VND) -> AccountKey:
    """`house:fees`, what the house has earned."""
    return AccountKey(HOUSE, "fees", unit)


def revenue(unit: str = VND) -> AccountKey:
    """`house:revenue`, what the shop's orders have brought in."""
    return AccountKey(HOUSE, "revenue", unit)


def world(unit: str = VND) -> AccountKey:
    """Where deposits come from and withdrawals go: the negative of all that is inside."""
    return AccountKey(HOUSE, "world", unit)


def clearing(provider: str, unit: str = VND) -> AccountKey:
    """What a payment provider has taken for us and not paid out yet, as a negative balance."""
    return AccountKey(HOUSE, CLEARING + provider, unit)


def _is_house(key: AccountKey) -> bool:
    """The house's own accounts; its id names no user, so it has no wallet to spend from."""
    own = key.purpose in HOUSE_PURPOSES or key.purpose.startswith(CLEARING)
    return own and key.owner_id == HOUSE


def floor_of(key: AccountKey) -> int | None:
    """Zero, but for the house and the world, which have none."""
    return None if _is_house(key) else 0


class Posted(NamedTuple):
    """A transfer that is there already: its id, and the signed amount of each account."""

    id: UUID
    legs: dict[AccountKey, int]


class Account:
    """A locked account: `balance` and `seq` follow the transfers posted so far."""

    __slots__ = ("balance", "floor", "id", "key", "seq")

    def __init__(self, id: int, key: AccountKey, floor: int | None, balance: int, seq: int) -> None:
        self.id, self.key, self.floor, self.balance, self.seq = id, key, floor, balance, seq


async def open_accounts(db: Connection, keys: Iterable[AccountKey]) -> None:
    """Opens those of the accounts that are not there yet, empty."""
    ordered = sorted(set(keys))
    columns = [list(column) for column in zip(*ordered, strict=True)]
    await db.execute(sql.open_accounts, *columns, [floor_of(key) for key in ordered])


def _columns(keys: Sequence[AccountKey]) -> list[list[str]]:
    return [list(column) for column in zip(*keys, strict=True)]


def accounts_locking() -> Locking:
    return Locking(sql.lock_accounts, _columns)


Leg = tuple[Account, int, EntryType]
"""One entry to be: the account, the signed amount, the type."""


def _too_little(account: Account, amount: int) -> str:
    return f"The {account.key.purpose} holds {account.balance}; {amount} are needed."


class Books:
    """Locked accounts by key, and the transfers posted against them in memory.

    Accounts that somebody holds are left out by `locks`: who needs one is told RowHeld.
    """

    def __init__(self, locks: Locks | None = None) -> None:
        self._locks = locks or Locks()
        self._accounts: dict[AccountKey, Account] = {}
        self._touched: dict[int, Account] = {}
        self._transfers: list[tuple[Any, ...]] = []
        self._entries: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        """How many transfers are posted: the mark a refusal is checked against."""
        return len(self._transfers)

    @property
    def entries(self) -> int:
        """How many entries are posted."""
        return len(self._entries)

    def __getitem__(self, key: AccountKey) -> Account:
        """The account; NotFound when its owner never had one."""
        account = self.find(key)
        if account is None:
            raise NotFound()
        return account

    def find(self, key: AccountKey) -> Account | None:
        account = self._accounts.get(key)
        if account is None and self._locks.left_out:
            self._locks.check(accounts_locking(), key)
        return account

    async def lock(self, db: Connection, keys: Iterable[AccountKey]) -> None:
        """Locks the accounts until the transaction ends; the house's own open when first needed.

        One call a transaction: a second one could wait for a lock in the wrong order.
        """
        assert not self._accounts, "all accounts of a group are locked at once"
        wanted = set(keys)
        if not wanted:
            return
        await self._lock(db, wanted)
        missing = {key for key in wanted - self._accounts.keys() if _is_house(key)}
        missing -= {key for _, key in self._locks.left_out}
        if missing:
            await open_accounts(db, missing)
            self._accounts.clear()
            await self._lock(db, wanted)

    async def _lock(self, db: Connection, keys: Iterable[AccountKey]) -> None:
        for row in await self._locks.fetch(db, accounts_locking(), list(keys)):
            key = AccountKey(row[1], row[2], row[3])
            self._accounts[key] = Account(row[0], key, row[4], row[5], row[6])

    async def find_keys(self, db: Connection, keys: list[str]) -> dict[str, Posted]:
        """The transfers that these keys have made before."""
        found: dict[str, Posted] = {}
        for key, id, unit, amount, owner, purpose in await db.fetch(sql.find_transfers, keys):
            posted = found.setdefault(key, Posted(id, {}))
            posted.legs[AccountKey(owner, purpose, unit)] = amount
        return found

    async def legs_of(self, db: Connection, id: UUID) -> list[tuple[AccountKey, int]]:
        """What a transfer moved; empty when there is no such transfer."""
        rows = await db.fetch(sql.legs_of, id)
        return [(AccountKey(row[0], row[1], row[2]), row[3]) for row in rows]

    def post(
        self,
        id: UUID,
        key: str,
        legs: Sequence[Leg],
        *,
        by: str,
        reference: str | None = None,
        reverses: UUID | None = None,
    ) -> UUID:
        """Posts a transfer: two legs or more, of one unit, of different accounts, summing to zero.

        Refuses with InsufficientFunds when an account would fall below its floor, BalanceLimit
        when it would not fit; then nothing has changed. `key` is unique for ever.
        """
        unit = legs[0][0].key.unit
        total = 0
        for account, amount, _ in legs:
            assert account.key.unit == unit and amount
            total += amount
            after = account.balance + amount
            if amount < 0 and account.floor is not None and after < account.floor:
                raise InsufficientFunds(_too_little(account, -amount))
            if not -MAX_BALANCE <= after <= MAX_BALANCE:
                raise BalanceLimit()
        assert total == 0 and len(legs) >= 2
        for account, amount, kind in legs:
            account.balance += amount
            account.seq += 1
            self._touched[account.id] = account
            self._entries.append((account.id, account.seq, id, amount, account.balance, kind))
        self._transfers.append((id, key, unit, reference, reverses, by))
        return id

    def move(
        self,
        id: UUID,
        key: str,
        source: Account,
        target: Account,
        amount: int,
        types: tuple[EntryType, EntryType] = ("DEBIT", "CREDIT"),
        *,
        by: str,
        reference: str | None = None,
    ) -> UUID:
        """The common transfer: `amount` from one account to another.

        The same as `post` with two legs, written out: batches of thousands come through here.
        """
        assert source is not target and amount > 0
        if source.floor is not None and source.balance - amount < source.floor:
            raise InsufficientFunds(_too_little(source, amount))
        if target.balance + amount > MAX_BALANCE or source.balance - amount < -MAX_BALANCE:
            raise BalanceLimit()
        for account, signed, kind in ((source, -amount, types[0]), (target, amount, types[1])):
            account.balance += signed
            account.seq += 1
            self._touched[account.id] = account
            self._entries.append((account.id, account.seq, id, signed, account.balance, kind))
        self._transfers.append((id, key, source.key.unit, reference, None, by))
        return id

    async def write(self, db: Connection) -> None:
        """Stores all that was posted: three statements, however much it is."""
        if not self._transfers:
            return
        await TRANSFERS.append(db, self._transfers)
        await ENTRIES.append(db, self._entries)
        accounts = sorted(self._touched.values(), key=lambda account: account.id)
        await db.execute(
            sql.update_accounts,
            [account.id for account in accounts],
            [account.balance for account in accounts],
            [account.seq for account in accounts],
        )
