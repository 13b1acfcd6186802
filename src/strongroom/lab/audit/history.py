"""A checker of histories: was what the clients saw possible in one order, and in real time?

Accounts are append-only lists, so their order needs no guessing: the statement of an account is
its history. What the clients saw is held against it:

- each statement counts from 1 without a gap, and its balances chain and never fall below zero;
- an acknowledged operation is there exactly once, on each of its sides, as it was answered;
- a refused one left no trace, and at some moment while it ran the money was indeed not there;
- all answers to one operation were the same bytes;
- a snapshot shows each transfer on both of its sides or on neither;
- there is one order of all operations and snapshots that agrees with every account and every
  snapshot, and with real time: who was answered before another began comes first (strict
  serializability; the graph of these "comes before" has no cycle).

Pure: it gets the history and the statements, and says what is wrong.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple


class Entry(NamedTuple):
    """A line of a statement."""

    seq: int
    amount: int
    balance_after: int
    key: str


@dataclass
class Operation:
    """A wish to move money, from its first request to its first definite answer.

    `giver` or `taker` is None when the money came from outside or went there. `seen` is what the
    answer told: the balance of each account after it.
    """

    key: str
    giver: str | None
    taker: str | None
    amount: int
    began: float
    ended: float = 0.0
    done: bool = False
    seen: dict[str, int] = field(default_factory=dict)
    answers: set[bytes] = field(default_factory=set)

    @property
    def sides(self) -> dict[str, int]:
        """The signed amount of each account."""
        pairs = ((self.giver, -self.amount), (self.taker, self.amount))
        return {account: amount for account, amount in pairs if account}


@dataclass
class Snapshot:
    """Several accounts read at once: (balance, seq) of each."""

    began: float
    ended: float
    read: Mapping[str, tuple[int, int]]


@dataclass
class History:
    """All that the clients did and saw, and the statements at the end."""

    operations: list[Operation]
    snapshots: list[Snapshot]
    statements: Mapping[str, Sequence[Entry]]


def violations(history: History) -> list[str]:
    """What cannot be; empty when the history is sound."""
    found = [*_statements(history), *_effects(history)]
    # Order is only asked of a history whose statements can be read.
    return found or [*_refusals(history), *_snapshots(history), *_order(history)]


def _statements(history: History) -> Iterator[str]:
    for account, entries in history.statements.items():
        balance = 0
        for number, entry in enumerate(entries, start=1):
            balance += entry.amount
            if entry.seq != number:
                yield f"{account}: entry {number} has seq {entry.seq}"
            if entry.balance_after != balance:
                told = entry.balance_after
                yield f"{account}: after entry {number} it shows {told}, not {balance}"
            if balance < 0:
                yield f"{account}: entry {number} takes it below zero"


def _effects(history: History) -> Iterator[str]:
    there: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
    for account, entries in history.statements.items():
        for entry in entries:
            there[entry.key].append((account, entry))
    for operation in history.operations:
        effects = there.pop(operation.key, [])
        if len(operation.answers) != 1:
            yield f"{operation.key}: {len(operation.answers)} different answers"
        wanted = sorted(operation.sides.items()) if operation.done else []
        if sorted((account, entry.amount) for account, entry in effects) != wanted:
            yield f"{operation.key}: answered {operation.done}, but its entries are {effects}"
        for account, entry in effects:
            told = operation.seen.get(account, entry.balance_after)
            if told != entry.balance_after:
                yield f"{operation.key}: told {told}, the entry says {entry.balance_after}"
    for key in there:
        yield f"{key}: nobody asked for it"


def _by_key(history: History) -> dict[str, Operation]:
    return {operation.key: operation for operation in history.operations}


def _refusals(history: History) -> Iterator[str]:
    by_key = _by_key(history)
    for operation in history.operations:
        if operation.done or operation.giver is None:
            continue
        entries = history.statements[operation.giver]
        for number in range(len(entries) + 1):
            # The account stood at `number` from its entry until the next one.
            since = by_key[entries[number - 1].key].began if number else 0.0
            until = by_key[entries[number].key].ended if number < len(entries) else float("inf")
            balance = entries[number - 1].balance_after if number else 0
            in_time = since <= operation.ended and until >= operation.began
            if in_time and balance < operation.amount:
                break
        else:
            yield f"{operation.key}: refused, but {operation.giver} held enough all the time"


def _snapshots(history: History) -> Iterator[str]:
    by_key = _by_key(history)
    for snapshot in history.snapshots:
        inside: dict[str, set[str]] = defaultdict(set)
        for account, (balance, seq) in snapshot.read.items():
            entries = history.statements[account]
            stood = entries[seq - 1].balance_after if 0 < seq <= len(entries) else 0
            if seq > len(entries) or balance != stood:
                yield f"snapshot: {account} at {seq} shows {balance}, it was {stood}"
            for entry in entries[:seq]:
                inside[entry.key].add(account)
        for key, accounts in inside.items():
            whole = set(by_key[key].sides) & set(snapshot.read)
            if accounts != whole:
                yield f"snapshot: {key} shows on {accounts} of {whole}"


def _order(history: History) -> Iterator[str]:
    """A cycle in "comes before": of accounts, of snapshots, of real time."""
    after: dict[object, list[object]] = defaultdict(list)
    for account, entries in history.statements.items():
        for earlier, later in pairwise(entries):
            after[earlier.key].append(later.key)
        for number, snapshot in enumerate(history.snapshots):
            if account in snapshot.read:
                seq = snapshot.read[account][1]
                if seq:
                    after[entries[seq - 1].key].append(number)
                if seq < len(entries):
                    after[number].append(entries[seq].key)
    spans: list[tuple[object, float, float]] = [
        (o.key, o.began, o.ended) for o in history.operations if o.done
    ]
    spans += [(i, s.began, s.ended) for i, s in enumerate(history.snapshots)]
    # One node for each moment at which something had ended: all that had ended comes before it,
    # all that began later comes after it. As strict as an edge for each pair, and far fewer.
    moments = sorted(ended for _, _, ended in spans)
    for node, began, ended in spans:
        after[node].append(("ended", bisect_left(moments, ended)))
        past = bisect_left(moments, began)
        if past:
            after["ended", past - 1].append(node)
    for number in range(1, len(moments)):
        after["ended", number - 1].append(("ended", number))
    stuck = _cyclic(after)
    if stuck:
        named = [str(node) for node in stuck if not isinstance(node, tuple)]
        yield f"no order fits: {len(named)} operations come before themselves, as {named[:4]}"


def _cyclic(after: Mapping[object, list[object]]) -> list[object]:
    """The nodes that no order can place."""
    waits: dict[object, int] = defaultdict(int)
    for node, laters in after.items():
        waits[node] += 0
        for later in laters:
            waits[later] += 1
    ready = deque(node for node, count in waits.items() if not count)
    placed = 0
    while ready:
        node = ready.popleft()
        placed += 1
        for later in after.get(node, ()):
            waits[later] -= 1
            if not waits[later]:
                ready.append(later)
    return [] if placed == len(waits) else [node for node, count in waits.items() if count]
