"""A whole database as a text that two runs of the same act have in common.

Every row of every table, without what chance and the clock put into it: an id that was there before
stays itself, any other is only "an id"; so do times, secrets, codes and the numbers of the outbox.
Two databases with equal books have had the same effects, as often.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import psycopg

TABLES = """SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND n.nspname NOT IN ('public', 'information_schema') AND n.nspname !~ '^pg_' ORDER BY 1"""

COLUMNS = """SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"""

PARTITIONS = """SELECT 'partitions', jsonb_build_object('name', relid::text)::text
    FROM pg_partition_tree('orders.orders')"""

GUARDS = """SELECT format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', tgrelid::regclass, tgname)
    FROM pg_trigger WHERE tgname IN ('append_only', 'not_emptied')"""

OTHERS = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""

LEFT_OPEN = """SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%')
    + (SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE a.datname = current_database() AND l.pid <> pg_backend_pid()
    AND a.backend_type = 'client backend')"""

NOTES = "audit.actions"
"""What operators did, written by triggers of other tables."""

UNTOLD = {
    "": {"xid", "position", "vt", "read_ct", "msg_id", "enqueued_at", "last_read_at", "slot"},
    NOTES: {"id"},
    "audit.pauses": {"id", "began_snapshot", "ended_snapshot"},
    "audit.reconciliations": {"duration_ms"},
    "events.dead_letters": {"id", "attempts"},
    "events.queues": {"since"},
    "ledger.accounts": {"id"},
    "orders.codes": {"number"},
    "payments.payments": {"queries"},
    "ticketing.tickets": {"code"},
}
"""Columns that differ from run to run, by table; those of "" everywhere. How often a provider was
asked is no effect: a call that died is counted too."""

SAID_BY_ANY = {"betting.RoundSettled"}
"""Events that the last of several messages causes, whichever of them that is."""

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
SECRET = re.compile(r"\b[0-9a-f]{64}\b")
TOOK = re.compile(r'"durationMs":\d+')
CODE = re.compile(r"\bSON\d{6,}\b", re.IGNORECASE)

SAID = {
    "payments.callbacks",
    "events.log",
    "events.consumed",
    "ticketing.catalogue",
    "orders.catalogue",
}
"""Where it shows that something was said twice."""

Books = Counter[tuple[str, str]]
"""How often each row is in its table."""


class World:
    """One database, read and put back as it was when it was kept, as often as one likes.

    Putting rows back takes the guards of tables that are only ever appended to away for good: the
    program never needs them, its role has no such privilege.
    """

    def __init__(self, url: str) -> None:
        self._db = psycopg.connect(url, autocommit=True)
        self._known: frozenset[str] = frozenset()
        names = [row[0] for row in self._rows(TABLES)]
        parts = [f"SELECT '{name}', to_jsonb(t)::text FROM {name} t" for name in names]
        self._query = " UNION ALL ".join([*parts, PARTITIONS])
        self._again: dict[str, str] = {}
        self._names = names
        self.before: Books = Counter()

    def close(self) -> None:
        self._db.close()

    def _rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        return self._db.execute(query.encode(), args or None).fetchall()

    def count(self, query: str) -> int:
        return int(self._rows(query)[0][0])

    def alone(self) -> bool:
        """Whether all other sessions come to their end, and with them their locks."""
        return _soon(lambda: not self.count(OTHERS))

    def quiet(self) -> bool:
        """Whether the sessions that there are hold nothing."""
        return _soon(lambda: not self.count(LEFT_OPEN))

    def keep(self) -> None:
        """Remembers all rows as they are now."""
        rows = self._rows(self._query)
        self._known = frozenset(found for row in rows for found in ID.findall(_opened(row[1])))
        for (guard,) in self._rows(GUARDS):
            self._db.execute(guard)
        self._db.execute("CREATE SCHEMA kept")
        for number, name in enumerate(self._names):
            columns = self._rows(COLUMNS, name)[0][0]
            self._db.execute(f"CREATE TABLE kept.t{number} AS SELECT {columns} FROM {name}")
            self._again[name] = (
                f"DELETE FROM {name}; INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE"
                f" SELECT {columns} FROM kept.t{number};"
            )
        self.before = self.read()

    def read(self) -> Books:
        rows = [(table, json.loads(text)) for table, text in self._rows(self._query)]
        accounts = {
            row["id"]: f"{row['purpose']} of {row['owner_id']} in {row['unit']}"
            for table, row in rows
            if table == "ledger.accounts"
        }
        books: Books = Counter()
        for table, row in rows:
            if table == "events.consumed":
                # Of one queue in as many rows as there were workers.
                books[table, row["queue"]] += row["messages"]
                continue
            if "account_id" in row:
                row["account_id"] = accounts[row["account_id"]]
            books[table, self._plain(table, row)] += 1
        return books

    def restore(self, moved: Iterable[str]) -> None:
        """All is as it was kept; `moved` are the tables that may have changed."""
        self._put_back(moved)
        if self.read() != self.before:
            self._put_back(self._names)
            now = self.read()
            assert now == self.before, difference(now, self.before)

    def _put_back(self, tables: Iterable[str]) -> None:
        made = {name for table, name in self.read() - self.before if table == "partitions"}
        drops = "".join(f"DROP TABLE {json.loads(row)['name']};" for row in made)
        # Putting the others back is noted there too, since those triggers can never be passed by.
        ordered = [*(name for name in tables if name != NOTES), NOTES]
        script = "".join(self._again[name] for name in ordered if name in self._again)
        self._db.execute(f"{drops} SET session_replication_role = replica; {script}".encode())
        self._db.execute("SET session_replication_role = origin")

    def come_due(self) -> None:
        """What a dead worker had begun comes again: its leases end, its calls are due."""
        for name in self._names:
            if name.startswith("pgmq.q_"):
                self._db.execute(f"UPDATE {name} SET vt = now() - interval '1 s'".encode())
        self._db.execute(
            "UPDATE payments.payments SET next_query_at = now() - interval '1 s'"
            " WHERE next_query_at IS NOT NULL AND queries > 0"
        )

    def _plain(self, table: str, row: dict[str, Any]) -> str:
        untold = UNTOLD[""] | UNTOLD.get(table, set())
        if row.get("type") in SAID_BY_ANY:
            untold = untold | {"causation"}
        told = {name: value for name, value in row.items() if name not in untold}
        text = _opened(json.dumps(told, sort_keys=True, ensure_ascii=False))
        text = ID.sub(lambda found: found[0] if found[0] in self._known else "<id>", text)
        text = TOOK.sub("<took>", text)
        return CODE.sub("<code>", SECRET.sub("<secret>", TIME.sub("<time>", text)))


PATIENCE_S = 5.0


def _soon(told: Callable[[], bool]) -> bool:
    end = monotonic() + PATIENCE_S
    while monotonic() < end:
        if told():
            return True
    return False


HEX = re.compile(r"\\+x((?:[0-9a-f]{2})+)")


def _opened(text: str) -> str:
    """Stored bytes are mostly JSON: as such they are compared."""

    def open(found: re.Match[str]) -> str:
        try:
            return bytes.fromhex(found[1]).decode()
        except UnicodeDecodeError:
            return f"<{len(found[1]) // 2} bytes>"

    return HEX.sub(open, text)


def difference(found: Books, expected: Books) -> str:
    """What is there and should not be, and the reverse."""
    more, less = found - expected, expected - found
    lines = [f"+ {count} {table} {row}" for (table, row), count in more.items()]
    lines += [f"- {count} {table} {row}" for (table, row), count in less.items()]
    return "\n".join(line[:400] for line in lines[:12])


def but_for_what_is_said(books: Books) -> Books:
    """Without the tables in which a repeated saying shows, and the queues that carry it."""
    return Counter(
        {
            (table, row): count
            for (table, row), count in books.items()
            if table not in SAID and not table.startswith("pgmq.q_")
        }
    )
