"""C2 and C3: a crash, and each SQLSTATE, at every statement of every command and worker step.

Each act runs once undisturbed; the books of its database are read after each statement. Then, for
each statement, a forked process does the act and dies there, and the books must be those that were
committed by then. A new house does the act again with the same key, and the books must be those of
the undisturbed run, its answer the first one. Dying after a statement is, to the database, dying
before the next: CI dies before each statement and after each COMMIT; a campaign's two parts die
before each and after each.

SQLSTATEs are raised by the server itself in the place of a statement, so that the transaction is
as broken as it says; where the connection is to be gone, it is. A state is raised once, so that a
retry meets no fault, or each time. CI raises one state at each statement of all acts, by turns, and
all of them, both ways, at each statement of two acts; a campaign's eleven parts raise one state each,
at all statements, once and each time. The whole reconciliation runs once an act, after its last crash;
equal books say as much after each single fault.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from time import monotonic
from typing import Any

import asyncpg
import pytest

from proofs.acts import ACTS, Act
from proofs.conftest import Scale
from proofs.scenes import Kind, Scene, opened
from serving import Clones, Server
from strongroom.core.commands import Command, Errand, Executor, Ticket
from strongroom.core.db import Database
from strongroom.core.db.database import LOST, RETRYABLE
from strongroom.core.events.log import Outbox
from strongroom.doors.worker.worker import Worker
from strongroom.lab.statements import Side, Statements, Strike
from strongroom.lab.trial import Trial
from strongroom.main import SUBSCRIBERS, Strongroom

Held = Callable[[Trial], None]

STATES = (
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "23505",  # unique_violation
    "57014",  # query_canceled, as by statement_timeout
    "57P01",  # admin_shutdown
    "53300",  # too_many_connections
    "08006",  # connection_failure
    "25006",  # read_only_sql_transaction, as on a replica
    "53100",  # disk_full
    "55P03",  # lock_not_available
    "58030",  # io_error: the disk is gone
)

GONE = ("57P01", "08006")
"""With these the connection is gone."""

UNIQUE = "23505"

THOROUGH = ("place_bet", "match")
"""Acts that meet all states in CI: a command, and a step of the worker."""

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{}'; END $$"


def error_of(state: str) -> asyncpg.PostgresError:
    """What the driver makes of a state."""
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(
        {"S": "ERROR", "C": state, "M": "planted"}
    )
    return error


def failing(state: str) -> Strike:
    """The statement fails with this state, and the transaction with it."""

    async def strike(connection: Any, statement: str) -> None:
        if state in GONE:
            connection.terminate()
            raise error_of(state)
        try:
            await connection.execute(RAISE.format(state))
        except asyncpg.PostgresError:
            if statement.startswith("COMMIT"):
                # The server ends a transaction that it could not commit.
                await connection.execute("ROLLBACK")
            raise

    return strike


def kind_of(state: str, side: Side, *, again: bool) -> Kind:
    """What may come of a state. Lost races and connections are tried again; whatever else is the
    server's own trouble, or a race that is lost each time, says: try again. Only a row that is
    there each time, whoever else may have made it, is a bug and comes out as it is."""
    passing = isinstance(error_of(state), (*RETRYABLE, *LOST))
    return Kind(
        overcome=passing and not again,
        bare=again and state == UNIQUE,
        in_doubt=side == "after",
    )


def is_commit(statement: str) -> bool:
    return statement.startswith("COMMIT")


@pytest.fixture(scope="module", params=list(ACTS))
def scene(
    request: pytest.FixtureRequest,
    server: Server,
    clones: Clones,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """An act in a database of its own, done once."""
    yield from scenes(ACTS[request.param], server, clones, tmp_path_factory)


def scenes(
    act: Act, server: Server, clones: Clones, places: pytest.TempPathFactory
) -> Iterator[Scene]:
    name = clones.take()
    scene = Scene.open(act, server.at(name), places.mktemp("house"))
    yield scene
    scene.close()
    clones.give_back(name)


@pytest.fixture
def staged(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Scene]]:
    """Opens scenes by the names of their acts."""
    open: list[Iterator[Scene]] = []

    def stage(name: str) -> Scene:
        made = scenes(ACTS[name], server, clones, tmp_path_factory)
        open.append(made)
        return next(made)

    yield stage
    for one in open:
        next(one, None)


# The list is complete ------------------------------------------------------------------------------


def kinds(root: type) -> set[str]:
    """All that the program can start: every concrete class below this one, by its whole name,
    because a dataclass with slots is two classes of one name."""
    found: set[str] = set()
    for kind in root.__subclasses__():
        found |= kinds(kind)
        ours = kind.__module__.startswith(("strongroom.apps", "strongroom.core"))
        if ours and not inspect.isabstract(kind) and not kind.__name__.startswith("_"):
            found.add(whole_name(kind))
    return found


def whole_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def name_of(work: Any) -> str:
    found: str = getattr(work, "func", work).__name__
    return found


async def test_every_command_errand_queue_and_chore_has_its_act(house: Strongroom) -> None:
    covered = set(chain.from_iterable(act.covers for act in ACTS.values()))
    classes = {whole_name(one) for one in covered if isinstance(one, type)}
    assert kinds(Command) | kinds(Errand) == classes
    assert {subscriber.queue for subscriber in SUBSCRIBERS} <= covered
    assert {f"chore {number}" for number in range(len(house.chores))} <= covered
    assert {name_of(work) for work in house.forgetting + house.tidying} <= covered


# Crashes -------------------------------------------------------------------------------------------


def crashes(scene: Scene, scale: Scale) -> list[tuple[int, Side]]:
    numbered = list(enumerate(scene.statements, 1))
    before: list[tuple[int, Side]] = [(at, "before") for at, _ in numbered]
    after: list[tuple[int, Side]] = [(at, "after") for at, _ in numbered]
    if scale.campaign:
        return after if scale.part % 2 else before
    last = len(numbered)
    return before + [(at, "after") for at, text in numbered if is_commit(text) or at == last]


def test_a_crash_at_any_statement_leaves_nothing_half_done(
    scene: Scene, scale: Scale, held: Held
) -> None:
    began = monotonic()
    declared = {one for one in scene.act.covers if isinstance(one, type)}
    violations = [] if scene.covered == declared else [f"covers {scene.covered}, not {declared}"]
    wanted = crashes(scene, scale)
    acknowledged = 0
    for at, side in wanted:
        scene.restore()
        wrong = scene.crash(at, side)
        acknowledged += not wrong
        violations += wrong
    violations += [f"violated: {name}" for name in scene.violations()]
    held(
        Trial(
            row="C2",
            name=scene.act.name,
            seed=scale.seed,
            faults=len(wanted),
            acknowledged=acknowledged,
            enough=len(wanted),
            violations=violations,
            what={"statements": len(scene.statements), "crashes": len(wanted)},
            seconds=monotonic() - began,
        )
    )


# States --------------------------------------------------------------------------------------------

Fault = tuple[int, Side, str, bool]
"""Which statement fails, whether it was run, with which state, and whether each time."""


def faults(scene: Scene, scale: Scale) -> list[Fault]:
    found: list[Fault] = []
    turn = 7 * list(ACTS).index(scene.act.name)
    for at, text in enumerate(scene.statements, 1):
        pairs = [(STATES[(turn + at) % len(STATES)], (turn + at) // len(STATES) % 2 > 0)]
        if scale.campaign:
            pairs = [(STATES[scale.part % len(STATES)], again) for again in (False, True)]
        elif scene.act.name in THOROUGH:
            pairs = [(state, again) for state in STATES for again in (False, True)]
        found += [(at, "before", state, again) for state, again in pairs]
        if is_commit(text):
            # It arrived, and nobody was told.
            found += [(at, "after", state, False) for state in GONE]
    return found


async def fail_all(scene: Scene, wanted: list[Fault]) -> tuple[int, list[str]]:
    """How many faults were delivered in one house, and what was wrong after them."""
    now: list[Statements] = [Statements()]

    async def step(connection: Any, statement: str, run: Any) -> Any:
        return await now[0](connection, statement, run)

    struck, wrong = 0, []
    async with opened(scene.settings, step) as house:
        for at, side, state, again in wanted:
            now[0] = fault = Statements(failing(state), at=at, side=side, again=again)
            found = await scene.fail(house, fault, kind_of(state, side, again=again))
            struck += fault.struck
            where = f"{scene.act.name}: {state} {side} statement {at}"
            often = "each time" if again else "once"
            text = scene.statements[at - 1][:60]
            wrong += [f"{where} ({text!r}), {often}: {one}" for one in found]
            scene.restore()
    return struck, wrong


def test_any_sqlstate_at_any_statement_has_the_right_answer_and_no_partial_effect(
    scene: Scene, scale: Scale, held: Held
) -> None:
    began = monotonic()
    wanted = faults(scene, scale)
    struck, violations = asyncio.run(fail_all(scene, wanted))
    held(
        Trial(
            row="C3",
            name=scene.act.name,
            seed=scale.seed,
            faults=struck,
            acknowledged=len(wanted),
            enough=len(wanted),
            violations=violations,
            what={"statements": len(scene.statements), "cases": len(wanted), "faults": struck},
            seconds=monotonic() - began,
        )
    )


# The checker can fail ------------------------------------------------------------------------------

Staged = Callable[[str], Scene]


def found_by_crashes(scene: Scene) -> list[str]:
    wrong = []
    for at in range(1, len(scene.statements) + 1):
        wrong += scene.crash(at, "before")
        scene.restore()
    return wrong


def found_by_faults(scene: Scene, state: str) -> list[str]:
    wanted: list[Fault] = [
        (at, "before", state, False) for at in range(1, len(scene.statements) + 1)
    ]
    return asyncio.run(fail_all(scene, wanted))[1]


def test_an_answer_before_the_commit_is_found(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = staged("place_bet")
    decide = Executor._decide

    async def hasty(self: Executor, *args: Any, **more: Any) -> Any:
        outcomes = await decide(self, *args, **more)
        for ticket, outcome in outcomes:
            ticket.end(outcome)
        return outcomes

    monkeypatch.setattr(Executor, "_decide", hasty)
    assert any("it had answered already" in one for one in found_by_crashes(scene))
    assert any("answered 'well'" in one for one in found_by_faults(scene, "53100"))


def test_a_message_that_is_deleted_before_its_work_is_committed_is_found(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = staged("match")

    async def hasty(self: Worker, queue: str, pairs: Any) -> None:
        await self._done(queue, [message for _, messages in pairs for message in messages])
        for command, messages in pairs:
            ticket = Ticket(command, principal="worker", key=None, cause=messages[0].event.id)
            await self._executor.run([ticket])

    monkeypatch.setattr(Worker, "_group", hasty)
    assert any("not the effect" in one for one in found_by_crashes(scene))
    assert any("not the effect" in one for one in found_by_faults(scene, "57014"))


def test_a_write_outside_of_the_transaction_is_found(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = staged("deposit")
    write = Outbox.write

    async def apart(self: Outbox, db: Any) -> None:
        url = scene.settings.database_url or ""
        async with Database(url) as other, other.transaction() as own:
            await write(self, own)

    monkeypatch.setattr(Outbox, "write", apart)
    assert any("something else than what was committed" in one for one in found_by_crashes(scene))
    assert any("in the world" in one for one in found_by_faults(scene, "53100"))


def test_a_connection_that_does_not_come_back_is_found(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = staged("place_bet")
    transaction = Database.transaction
    forgotten: list[Any] = []

    @asynccontextmanager
    async def forgetful(self: Database, **more: Any) -> Any:
        try:
            async with transaction(self, **more) as db:
                yield db
        except asyncpg.PostgresError:
            if not forgotten:
                forgotten.append(await self.pool.acquire())
            raise

    monkeypatch.setattr(Database, "transaction", forgetful)
    _, wrong = asyncio.run(fail_all(scene, [(3, "before", "53100", False)]))
    assert any("did not come back" in one for one in wrong)
