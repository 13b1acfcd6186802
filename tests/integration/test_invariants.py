"""Reconciliation against real history: silent when all is well, and not when it is not."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from itertools import count, pairwise
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from corruptions import SPOILED, TOOLS
from strongroom.apps.betting import (
    INVARIANTS,
    SUBSCRIBERS,
    CancelBet,
    CloseRound,
    CreateRound,
    PlaceBet,
    RecordResult,
    VoidRound,
)
from strongroom.apps.wallets import (
    BatchItem,
    Deposit,
    ReverseTransfer,
    Transfer,
    TransferBatch,
    Withdraw,
)
from strongroom.core.audit import (
    PausePayouts,
    Reconciler,
    RecordReconciliation,
    Report,
    ResumePayouts,
    payouts_status,
)
from strongroom.core.audit.reconcile import CORE
from strongroom.core.audit.reconcile import sql as audit_sql
from strongroom.core.audit.switches import PayoutsPaused
from strongroom.core.commands import Command, Executor, Ticket
from strongroom.core.db import Database
from strongroom.core.db.migrate import migrate
from strongroom.core.events import DeadLetters, PgmqTransport, bind
from strongroom.core.ledger import open_accounts, stake, wallet
from strongroom.doors.worker import Worker
from strongroom.errors import NotFound, StoredRefusal
from wishes import Wish

pytestmark = pytest.mark.asyncio

ANN, BOB, CEM, DAO = users = [uuid4() for _ in range(4)]
OPERATOR = "user:operator"


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """The DSN of a fresh migrated database."""
    server = os.environ.get("STRONGROOM_TEST_SERVER_URL")
    if server is None:
        pytest.skip("STRONGROOM_TEST_SERVER_URL names no server")
    name = f"invariants_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{name}"')
        dsn = _named(server, name)
        migrate(dsn)
        yield dsn
        db.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class House:
    """The program on one database, as far as these tests need it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        transport = PgmqTransport(database)
        self.executor = Executor(database, transport.publish)
        self.worker = Worker(database, self.executor, transport, SUBSCRIBERS)
        self._keys = count(1)

    async def ask(self, command: Command, by: str = OPERATOR, key: str | None = None) -> Any:
        """Runs a command and returns its reply; raises what refused it."""
        ticket = Ticket(command, principal=by, key=key or f"key-{next(self._keys)}")
        await self.executor.run([ticket])
        outcome = await ticket.future
        outcome.check()
        return outcome.reply

    async def bet(self, user: UUID, round: UUID, side: Any, amount: int) -> UUID:
        placed = await self.ask(PlaceBet(user, round, side, amount), by=f"user:{user}")
        bet: UUID = placed.bet_id
        return bet

    async def work(self) -> None:
        """Until no queue has anything left that is due."""
        while sum([await self.worker.work_once(s.queue) for s in SUBSCRIBERS]):
            pass

    async def reconcile(self) -> Report:
        return await Reconciler(self.database, [INVARIANTS]).run()


async def live(house: House) -> None:
    """A little of everything: settled, drawn, called off, closed and open rounds, partial fills,
    refunds, a batch, a pause, a reversal, a refusal."""
    async with house.database.transaction() as db:
        await open_accounts(db, [of(user) for user in users for of in (wallet, stake)])
    for user in users:
        await house.ask(Deposit(user, 100_000))
    settled, called_off, closed, open_ = [
        (await house.ask(CreateRound(name, "oracle", None, 250))).round_id
        for name in ("settled", "called off", "closed", "open")
    ]
    drawn = (await house.ask(CreateRound("drawn", "coinflip"))).round_id
    for round in (settled, called_off, closed, drawn):
        await house.bet(ANN, round, "A", 1_000)
        await house.bet(BOB, round, "A", 700)
        await house.work()
        await house.bet(ANN, round, "B", 900)
        await house.bet(CEM, round, "B", 1_300)
        await house.bet(DAO, round, "B", 333)
        await house.bet(BOB, round, "A", 5_000)
        await house.work()
        gone = await house.bet(DAO, round, "A", 250)
        await house.ask(CancelBet(DAO, gone), by=f"user:{DAO}")
    await house.ask(VoidRound(called_off))
    for round in (settled, drawn, closed):
        await house.ask(CloseRound(round))
    await house.work()
    await house.ask(RecordResult(settled, "B"))
    await house.work()
    for user, side, amount in (
        (ANN, "A", 400), (ANN, "B", 500), (BOB, "B", 150), (ANN, "A", 120), (ANN, "B", 80),
    ):  # fmt: skip
        await house.bet(user, open_, side, amount)
    await house.work()
    moved = await house.ask(Transfer(ANN, BOB, 10))
    await house.ask(ReverseTransfer(moved.transfer_id, "a slip"))
    items = [BatchItem(f"item-{n}", *pair, 5) for n, pair in enumerate(pairwise(users))]
    await house.ask(TransferBatch("independent", tuple(items)))
    await house.ask(Withdraw(CEM, 50), by=f"user:{CEM}")
    with pytest.raises(Exception, match="are needed"):
        await house.ask(Withdraw(CEM, 10**9), by=f"user:{CEM}")
    await house.ask(PausePayouts("a drill"))
    await house.ask(RecordReconciliation(await house.reconcile()))
    await house.ask(ResumePayouts("the drill is over"))
    await house.ask(Withdraw(DAO, 50), by=f"user:{DAO}")


@pytest.fixture(scope="session")
def history(database_url: str) -> Iterator[str]:
    """A database in which all that has happened; only to be copied."""
    name = f"history_{uuid4().hex[:12]}"
    dsn = _named(database_url, name)
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrate(dsn)

        async def write() -> None:
            async with Database(dsn) as owner:
                await bind(owner, SUBSCRIBERS)
            async with Database(dsn, role="strongroom_app") as database:
                await live(House(database))

        asyncio.run(write())
        yield dsn
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def copy(database_url: str, history: str) -> Iterator[str]:
    """The history again, to be spoiled."""
    name = f"copy_{uuid4().hex[:12]}"
    template = sql.Identifier(urlsplit(history).path[1:])
    with psycopg.connect(database_url, autocommit=True) as db:
        made = sql.Identifier(name)
        db.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(made, template))
        yield _named(history, name)
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(made))


@pytest_asyncio.fixture
async def house(copy: str) -> AsyncIterator[House]:
    async with Database(copy, role="strongroom_app") as database:
        yield House(database)


def _named(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def spoil(dsn: str, statements: str) -> None:
    """Does to the tables what only their owner can: the triggers are off while it is at work, and
    on again before anybody looks."""
    guarded = ("ledger.entries", "ledger.transfers", "events.log")
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(TOOLS)
        for table in guarded:
            db.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        db.execute(statements)
        for table in guarded:
            db.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only")


async def test_a_consistent_history_has_no_findings(house: House) -> None:
    asked: list[str] = []
    async with Database(house.database.dsn, role="strongroom_audit") as database:
        report = await Reconciler(database, [INVARIANTS]).run(lambda name, *_: asked.append(name))
    assert report.findings == []
    assert report.clean
    assert len(asked) == len(set(asked)) >= 40


@pytest.mark.parametrize("corruption", SPOILED)
async def test_a_corruption_is_found_by_its_invariant(house: House, corruption: str) -> None:
    invariant, statements = SPOILED[corruption]
    spoil(house.database.dsn, statements)
    report = await house.reconcile()
    found = {finding.invariant: finding for finding in report.findings}
    assert not report.clean
    assert invariant in found, f"only {list(found)}"
    rows = found[invariant].rows
    assert 1 <= len(rows) <= 10
    assert "error" not in rows[0], rows[0]


async def test_every_invariant_has_a_corruption_that_it_finds() -> None:
    asked = {name for queries in (*CORE, INVARIANTS) for name in queries.sql}
    assert {invariant for invariant, _ in SPOILED.values()} == asked


async def test_the_first_wrong_entry_comes_first(house: House) -> None:
    with psycopg.connect(house.database.dsn) as db:
        wallets = db.execute(
            "SELECT id FROM ledger.accounts WHERE purpose = 'wallet' ORDER BY id"
        ).fetchall()
    first, second = wallets[1][0], wallets[2][0]
    spoil(
        house.database.dsn,
        "UPDATE ledger.entries SET balance_after = balance_after + 1"
        f" WHERE (account_id, seq) IN (({second}, 1), ({first}, 4), ({first}, 3))",
    )
    (finding,) = [f for f in (await house.reconcile()).findings if f.invariant == "entries_chain"]
    assert (finding.rows[0]["accountId"], finding.rows[0]["seq"]) == (first, 3)
    assert finding.rows[0]["found"] == finding.rows[0]["expected"] + 1
    assert finding.why.startswith("L5:")


GUARD = "append_only_triggers_stand"

AGED = """
UPDATE ledger.transfers SET created_at = created_at - interval '40 days';
UPDATE ledger.accounts SET created_at = created_at - interval '40 days';
UPDATE betting.bets SET created_at = created_at - interval '40 days';
UPDATE betting.rounds SET created_at = created_at - interval '40 days';
UPDATE events.log SET created_at = created_at - interval '40 days';
UPDATE commands.answers SET created_at = created_at - interval '40 days';
"""

MIDDLE = "(SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY created_at) FROM commands.answers)"


async def test_answers_that_were_forgotten_in_time_are_not_missed(house: House) -> None:
    spoil(house.database.dsn, f"{AGED}DELETE FROM commands.answers WHERE created_at <= {MIDDLE}")
    assert (await house.reconcile()).findings == []


async def test_an_answer_is_missed_as_far_back_as_answers_are_kept(house: House) -> None:
    youngest = "SELECT id FROM commands.answers WHERE command = '{}' ORDER BY created_at DESC"
    gone = [youngest.format(command) for command in ("PlaceBet", "Transfer", "CreateRound")]
    deleted = " OR ".join(f"id = ({one} LIMIT 1)" for one in gone)
    spoil(house.database.dsn, f"{AGED}DELETE FROM commands.answers WHERE {deleted}")
    assert [finding.invariant for finding in (await house.reconcile()).findings] == [
        "effects_have_one_answer",
        "bets_have_one_answer",
        "rounds_have_one_answer",
    ]


async def test_what_was_damaged_comes_before_the_guard_that_let_it_be(house: House) -> None:
    spoil(house.database.dsn, SPOILED["a doubled payout"][1])
    with psycopg.connect(house.database.dsn, autocommit=True) as db:
        db.execute("ALTER TABLE ledger.entries DISABLE TRIGGER append_only")
    report = await house.reconcile()
    assert [finding.invariant for finding in report.findings][-1] == GUARD
    assert report.findings[0].invariant != GUARD


@pytest.mark.parametrize(
    "harm",
    [
        "ALTER TABLE ledger.entries ENABLE TRIGGER append_only",
        "ALTER TABLE events.log DISABLE TRIGGER ALL",
        "DROP TRIGGER not_emptied ON ledger.transfers",
        "DROP TRIGGER append_only ON events.log; CREATE TRIGGER append_only"
        " BEFORE DELETE ON events.log FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()",
    ],
)
async def test_a_guard_is_put_back_by_the_statement_that_its_finding_shows(
    house: House, harm: str
) -> None:
    with psycopg.connect(house.database.dsn, autocommit=True) as db:
        db.execute(harm)
        [finding] = (await house.reconcile()).findings
        assert finding.invariant == GUARD
        for row in finding.rows:
            assert "ENABLE ALWAYS TRIGGER" in row["repair"]
            db.execute(row["repair"])
    assert (await house.reconcile()).findings == []


async def test_a_command_of_ones_own_is_no_finding_while_it_keeps_to_wallets(house: House) -> None:
    before = await house.reconcile()
    wish = await house.ask(Wish(ANN, BOB, 3))
    assert before.clean and wish.subject
    assert (await house.reconcile()).findings == []


async def test_an_invariant_that_cannot_be_asked_is_not_taken_for_kept(house: House) -> None:
    spoil(house.database.dsn, "DROP TABLE commands.answers")
    report = await house.reconcile()
    broken = {finding.invariant: finding.rows for finding in report.findings}
    assert broken.keys() == {
        "answers_have_their_effect",
        "effects_have_one_answer",
        "answers_say_what_was_done",
        "answers_belong_to_who_asked",
        "bets_have_one_answer",
        "rounds_have_one_answer",
        "unique_indexes_stand",
    }
    assert broken["bets_have_one_answer"][0]["sqlstate"] == "42P01"


async def test_what_waits_or_died_is_accounted_for(house: House) -> None:
    round = (await house.ask(CreateRound("busy", "oracle"))).round_id
    for _ in range(4):
        await house.bet(ANN, round, "A", 10)
    transport, letters = PgmqTransport(house.database), DeadLetters(house.database)
    for message in await transport.receive("betting_match", 3, 0):
        await transport.bury("betting_match", message, "poisonous")
    ids = [row["id"] for row in await letters.list()]
    await letters.end(ids[0], "retried")
    await letters.end(ids[1], "discarded")
    assert (await house.reconcile()).findings == []
    with psycopg.connect(house.database.dsn, autocommit=True) as db:
        db.execute("DELETE FROM pgmq.q_betting_match WHERE msg_id = (SELECT max(msg_id) FROM"
                   " pgmq.q_betting_match)")  # fmt: skip
    (finding,) = (await house.reconcile()).findings
    assert finding.invariant == "queues_balance"
    row = finding.rows[0]
    assert (row["waiting"], row["dead"], row["discarded"]) == (1, 1, 1)
    assert row["expected"] == row["found"] + 1


async def test_paused_payouts_do_not_happen_and_go_on_after_a_clean_reconciliation(
    house: House,
) -> None:
    before = await house.reconcile()
    paused = await house.ask(PausePayouts("a doubt"))
    assert (paused.payouts_paused, paused.by, paused.reason) == (True, OPERATOR, "a doubt")
    with pytest.raises(PayoutsPaused):
        await house.ask(Withdraw(ANN, 1), key="again")
    closed = await _round(house, "closed")
    await house.ask(RecordResult(closed, "A"))
    await house.work()
    assert await _unpaid(house, closed) == 5
    await house.ask(RecordReconciliation(before))
    with pytest.raises(StoredRefusal, match="full reconciliation") as refusal:
        await house.ask(ResumePayouts("no doubt"))
    assert refusal.value.code == "reconciliation_needed"
    await house.ask(RecordReconciliation(await house.reconcile()))
    resumed = await house.ask(ResumePayouts("no doubt"))
    assert (resumed.payouts_paused, resumed.reason) == (False, "no doubt")
    assert await payouts_status(house.database) == resumed
    await house.ask(Withdraw(ANN, 1), key="again")
    # What was put off comes again when its time comes; here that is at once.
    with psycopg.connect(house.database.dsn, autocommit=True) as db:
        db.execute("UPDATE pgmq.q_betting_settle SET vt = now()")
    await house.work()
    assert await _unpaid(house, closed) == 0
    assert (await house.reconcile()).findings == []


async def test_the_first_pause_is_kept_and_resuming_what_runs_changes_nothing(
    house: House,
) -> None:
    running = await payouts_status(house.database)
    assert await house.ask(ResumePayouts("why not")) == running
    first = await house.ask(PausePayouts("first"), by="user:one")
    assert await house.ask(PausePayouts("second"), by="user:two") == first
    events = await house.database.fetch(
        "SELECT type FROM events.log WHERE type LIKE 'audit.Payouts%' ORDER BY position"
    )
    assert [row["type"].removeprefix("audit.Payouts") for row in events[2:]] == ["Paused"]


async def test_a_mismatch_pauses_payouts_with_its_record_and_a_later_one_keeps_them_so(
    house: House,
) -> None:
    clean = await house.reconcile()
    spoil(house.database.dsn, SPOILED["a doubled payout"][1])
    report = await house.reconcile()
    recorded = await house.ask(RecordReconciliation(report), by="worker:daily", key="daily")
    status = await payouts_status(house.database)
    assert status.payouts_paused
    assert status.by == "worker:daily"
    assert status.reason.startswith("entries_fit_their_keys: accountId ")
    reconciler = Reconciler(house.database, [INVARIANTS])
    assert await reconciler.find(report.id) == recorded
    assert "matches_are_paid_once" in {finding.invariant for finding in recorded.findings}
    # Asked again with the same key, it has run again, and gets the first answer all the same.
    again = Ticket(RecordReconciliation(clean), principal="worker:daily", key="daily")
    await house.executor.run([again])
    outcome = await again.future
    assert outcome.replayed
    assert json.loads(outcome.body)["reconciliationId"] == str(report.id)
    with pytest.raises(NotFound):
        await reconciler.find(clean.id)


async def test_a_clean_run_proves_nothing_when_a_later_one_was_not(house: House) -> None:
    await house.ask(PausePayouts("a doubt"))
    await house.ask(RecordReconciliation(await house.reconcile()))
    spoil(house.database.dsn, SPOILED["a doubled payout"][1])
    await house.ask(RecordReconciliation(await house.reconcile()))
    with pytest.raises(StoredRefusal) as refusal:
        await house.ask(ResumePayouts("hopeful"))
    assert refusal.value.code == "reconciliation_needed"


@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM audit.switches",
        "REVOKE SELECT ON audit.switches FROM strongroom_app",
        "ALTER TABLE audit.switches RENAME TO lost",
    ],
)
async def test_a_switch_that_cannot_be_read_means_paused(house: House, loss: str) -> None:
    await house.ask(Withdraw(ANN, 1))
    with psycopg.connect(house.database.dsn, autocommit=True) as db:
        db.execute(loss)
    with pytest.raises(PayoutsPaused):
        await house.ask(Withdraw(ANN, 1))


async def test_a_lost_switch_comes_back_by_pausing_and_resuming(house: House) -> None:
    with psycopg.connect(house.database.dsn, autocommit=True) as db:
        db.execute("DELETE FROM audit.switches")
    assert (await payouts_status(house.database)).payouts_paused
    with pytest.raises(StoredRefusal):
        await house.ask(ResumePayouts("without a pause there is nothing to prove"))
    await house.ask(PausePayouts("found again"))
    await house.ask(RecordReconciliation(await house.reconcile()))
    assert not (await house.ask(ResumePayouts("proved"))).payouts_paused
    await house.ask(Withdraw(ANN, 1))


async def test_a_pause_waits_for_who_pays_and_overtakes_who_comes_after(house: House) -> None:
    async with house.database.transaction() as paying:
        assert await paying.fetchval(audit_sql.share_switch, "payouts") is False
        pause = asyncio.create_task(house.ask(PausePayouts("now")))
        await _blocked(house, 1)
        late = asyncio.create_task(house.ask(Withdraw(ANN, 1)))
        # A bare row lock would let it pass, and then the next, while the pause starves.
        await _blocked(house, 2)
        assert not pause.done()
    assert (await pause).payouts_paused
    with pytest.raises(PayoutsPaused):
        await late


async def test_a_payout_that_ignores_the_pause_is_found_and_its_neighbours_are_not(
    house: House,
) -> None:
    settled = "INSERT INTO events.log (key, seq, id, type, payload) VALUES"
    settled += " (gen_random_uuid(), 1, gen_random_uuid(), 'wallets.FundsWithdrawn', '{}')"
    with psycopg.connect(house.database.dsn) as early, psycopg.connect(house.database.dsn) as late:
        # Begun before the pause and committed in it: times and numbers would not tell.
        early.execute(settled)
        await house.ask(PausePayouts("a doubt"))
        early.commit()
        report = await house.reconcile()
        late.execute(settled)
        await house.ask(RecordReconciliation(msgspec.structs.replace(report, clean=True)))
        await house.ask(ResumePayouts("no doubt"))
        late.commit()
    report = await house.reconcile()
    (finding,) = [f for f in report.findings if f.invariant == "nothing_is_paid_while_paused"]
    assert len(finding.rows) == 1


async def _round(house: House, name: str) -> UUID:
    row = await house.database.fetchrow("SELECT id FROM betting.rounds WHERE name = $1", name)
    assert row is not None
    id: UUID = row["id"]
    return id


async def _unpaid(house: House, round: UUID) -> int:
    query = "SELECT count(*) FROM betting.matches WHERE round_id = $1 AND winner IS NULL"
    unpaid: int = await house.database.fetchval(query, round)
    return unpaid


async def _blocked(house: House, wanted: int) -> None:
    """Until that many transactions of this database wait at the gate."""
    query = (
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted"
    )
    async with asyncio.timeout(10):
        while await house.database.fetchval(query) != wanted:
            await asyncio.sleep(0)
