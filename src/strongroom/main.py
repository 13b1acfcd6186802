"""Reads the settings, builds the house, hands it to a door.

As a library:

    async with Strongroom(database_url="postgresql://…") as house:
        bet = await house.run(PlaceBet(user_id, round_id, "A", 50_000), key="order-17")
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec

from strongroom import __version__
from strongroom.apps import betting, orders, ticketing
from strongroom.apps.ticketing.codes import (
    Signer,
    Verifier,
    load_or_make_ticket_key,
    public_key_of,
)
from strongroom.clock import monotonic
from strongroom.core.audit import PausePayouts, Reconciler, Report
from strongroom.core.audit.evidence import kept
from strongroom.core.audit.limits import DEADLINE, LANE, Limits, Value
from strongroom.core.audit.reconcile import (
    Mode,
    Progress,
    ReconciliationsUnderWay,
    Run,
    Scope,
)
from strongroom.core.commands import Command, Errand, Executor, Lanes, Reply, Ticket
from strongroom.core.commands.admission import Admission
from strongroom.core.commands.errand import Performer
from strongroom.core.commands.work import Sources, forget_answers
from strongroom.core.db import Database, DatabaseDown
from strongroom.core.db.places import Place, place_of
from strongroom.core.db.schema import newest
from strongroom.core.db.steps import Step
from strongroom.core.events import PgmqTransport, Subscriber, bind
from strongroom.core.guard import Cache, Gather, RateLimits
from strongroom.core.identity import Identity, load_or_make_secret
from strongroom.core.ledger import Statements
from strongroom.core.ledger.statements import Balance
from strongroom.core.mail import Mailer
from strongroom.core.payments import Payments
from strongroom.core.payments import flow as payments
from strongroom.cursors import Cursors
from strongroom.settings import Settings

SUBSCRIBERS: Sequence[Subscriber] = (
    *betting.SUBSCRIBERS,
    *payments.SUBSCRIBERS,
    *ticketing.SUBSCRIBERS,
    *orders.SUBSCRIBERS,
)

INVARIANTS = (betting.INVARIANTS, ticketing.INVARIANTS, orders.INVARIANTS)

MOST_LOOKS = 4
"""Reconciliations that one process has under way and waiting."""

DRAIN_S = 20.0
"""How long a stopping process finishes what it accepted."""


class Strongroom:
    """The house: one process's rooms on one database. Also the library's entry.

    Takes the same names as the settings (`database_url=…`, `data_dir=…`); without a database it
    joins the instance that runs on the data folder. A `step` stands between its statements, and
    `sources` give its commands what chance and the clock give: for proofs and replays, see
    `core.db.steps` and `core.commands.work`.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        step: Step | None = None,
        sources: Sources | None = None,
        **overrides: Any,
    ) -> None:
        self._configured = settings or Settings(**overrides)
        self.settings = self._configured.model_copy()  # what operators change is changed in it
        self.place: Place = place_of(self.settings)
        self.database = Database(
            self.place.app,
            role=self.place.app_role,
            pool_size=self.settings.pool_size,
            step=step,
        )
        self.audit = Database(self.place.audit, role=self.place.audit_role, pool_size=3)
        self.reconciler = Reconciler(self.audit, INVARIANTS, self.settings.reseal_days)
        self.transport = PgmqTransport(self.database)
        self.executor = Executor(self.database, self.transport.publish, sources=sources)
        self.statements = Statements(self.database)
        self.betting = betting.Reading(self.database)
        token_secret = self.settings.token_secret or load_or_make_secret(self.settings.data_dir)
        self.identity = Identity(
            self.database,
            token_secret=token_secret,
            access_ttl_s=self.settings.access_token_ttl_s,
            refresh_ttl_s=self.settings.refresh_token_ttl_s,
            rate_limits=self.settings.rate_limits == "on",
            failed_logins=self.settings.rate_limit_auth,
        )
        self.rate_limits = _rate_limits(self.settings)
        self.admission, self.limits = Admission(), Limits(self.audit, self._adopt)
        self.payments = Payments(
            self.database,
            self.executor,
            sandbox_secret=self.settings.sandbox_secret
            or load_or_make_secret(self.settings.data_dir, "sandbox_secret"),
            sandbox_pays=self.settings.environment != "production",
        )
        self.signer, self.verifier = _ticket_keys(self.settings)
        self.post = ticketing.Post(
            self.database,
            self.identity.users,
            Mailer.of(
                smtp_url=self.settings.smtp_url,
                mail_from=self.settings.mail_from,
                mail_dir=self.settings.mail_dir or self.settings.data_dir / "mail",
            ),
            self.signer,
            attach_pdf=self.settings.mail_pdf,
        )
        deadline_s = self.settings.read_deadline_ms / 1000
        self.ticketing = ticketing.Reading(
            self.database, self.identity.users, self.signer, deadline_s=deadline_s
        )
        self.orders = orders.Reading(self.database, Cursors(token_secret), deadline_s=deadline_s)
        self.order_reports = orders.Reports(self.database)
        self.order_exports = orders.Exports(self.database)
        self.performers: dict[type[Errand], Performer[Any]] = {
            **self.payments.performers,
            ticketing.SendMail: self.post.send,
        }
        self._looking, self._looks = asyncio.Lock(), 0
        self.draining = False
        self.lanes: Lanes
        self.wallets: Gather[UUID, Balance]

    async def __aenter__(self) -> Strongroom:
        self.executor.slow_s = self.settings.slow_group_ms / 1000
        await self.database.open()
        await self.audit.open()
        await self.identity.open()
        await self.limits.start()
        self.lanes = Lanes(
            self.executor, group_limit=self.settings.group_limit, admission=self.admission
        )
        self.wallets = Gather(
            self.statements.wallets, deadline_s=self.settings.read_deadline_ms / 1000
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.lanes.drain(DRAIN_S)
        self.post.close()
        self.ticketing.close()
        await self.limits.stop()
        await self.identity.close()
        await self.audit.close()
        await self.database.close()
        if self.executor.tracing is not None:
            await asyncio.to_thread(self.executor.tracing.close)

    async def run(
        self, command: Command, *, key: str | None = None, principal: str = "library"
    ) -> Any:
        """Runs a command in its lane's next group; its reply, the first one when `key` was used
        before. Raises Refused and its kin. Without a key each call is a new wish."""
        if key is None and not command.idempotent:
            key = str(uuid4())
        deadline = monotonic() + self.settings.write_deadline_ms / 1000
        ticket = Ticket(command, principal=principal, key=key, deadline=deadline)
        outcome = await self.lanes.run(ticket)
        outcome.check()
        reply: type[Reply] = command.reply
        return outcome.reply or msgspec.json.decode(outcome.body, type=reply)

    @property
    def chores(self) -> list[Callable[[], Awaitable[Sequence[Command | Errand]]]]:
        """What the clock makes due, asked by the worker that leads."""
        pending_s = self.settings.bet_pending_timeout_s
        return [
            partial(betting.commands_due, self.database, pending_s),
            partial(ticketing.commands_due, self.database),
            partial(orders.commands_due, self.database),
            *self.payments.chores,
        ]

    @property
    def forgetting(self) -> list[Callable[[int], Awaitable[int]]]:
        """What is past keeping, deleted up to a limit at a time: how much that was."""
        return [
            partial(forget_answers, self.database, self.settings.key_retention_days),
            self.identity.forget_used_once,
            partial(ticketing.forget_reservations, self.database),
        ]

    @property
    def tidying(self) -> list[Callable[[], Awaitable[object]]]:
        """What else is done every half minute by the worker that leads: months made ahead, days
        summed up."""
        return [
            partial(orders.make_partitions, self.database),
            partial(orders.roll_up, self.database),
        ]

    @property
    def caches(self) -> dict[str, Cache[Any]]:
        """What is kept in this process, by name."""
        return {
            **self.ticketing.catalogue.caches,
            **self.orders.caches,
            **self.order_reports.caches,
        }

    @property
    def configured_limits(self) -> dict[str, Value]:
        """What holds where no operator has changed it."""
        rates = {} if self.rate_limits is None else _rates(self._configured)
        held: dict[str, Value] = {f"rate.{name}": rate for name, rate in rates.items()}
        return {**held, DEADLINE: self._configured.write_deadline_ms}

    def _adopt(self, changed: Mapping[str, Value]) -> None:
        """Takes on the limits that operators changed; all others are as the settings say."""
        held = {**self.configured_limits, **changed}
        self.settings.write_deadline_ms = int(held[DEADLINE])
        if self.rate_limits is not None:
            for name in _rates(self._configured):
                self.rate_limits.change(name, str(held[f"rate.{name}"]))
        lanes = {found[1] for name in held if (found := LANE(name))}
        closed = {one for one in lanes if held.get(f"lane.{one}.open") is False}
        per_s = {
            one: int(held[f"lane.{one}.per_s"]) for one in lanes if f"lane.{one}.per_s" in held
        }
        self.admission.change(frozenset(closed), per_s)

    async def reconcile(self, progress: Progress | None = None) -> Report:
        """Checks all invariants, as the role that can only read."""
        return (await self.look(progress=progress, drafting=False)).report

    async def look(
        self,
        mode: Mode = "full",
        *,
        scope: Scope | None = None,
        progress: Progress | None = None,
        drafting: bool = True,
    ) -> Run:
        """One run; what it finds is kept as evidence in the data folder, and it says where. One at
        a time: each holds a connection for minutes, and limits and metrics need them as well.
        ReconciliationsUnderWay when several wait already: who gives up and asks again would make
        the next one wait for them all."""
        if self._looks == MOST_LOOKS:
            raise ReconciliationsUnderWay()
        self._looks += 1
        try:
            async with self._looking:
                run = await self.reconciler.read(
                    mode, scope=scope, on_progress=progress, drafting=drafting
                )
        finally:
            self._looks -= 1
        return run._replace(report=kept(self.settings.data_dir, run, __version__))

    async def pause_if_wrong(self, report: Report, by: str) -> None:
        """Pauses payouts when a run has found something, before it is recorded: what is too damaged
        for that is no reason to go on paying. Nor is it lost while the pause has to wait."""
        if report.clean:
            return
        pause = Ticket(PausePayouts(report.reason), principal=by, key=None)
        await self.executor.run([pause])
        (await pause.future).check()

    async def seal(self, run: Run) -> int:
        """Seals what a clean run has read, once its report is recorded; how many seals that made.
        Fewer when another run sealed meanwhile: the next one goes on there."""
        for made, command in enumerate(run.seals()):
            ticket = Ticket(command, principal="reconciliation", key=None)
            await self.executor.run([ticket])
            if (outcome := await ticket.future).refused:
                return made
            outcome.check()
        return len(run.seals())

    async def readiness(self, within_s: float, needed: str) -> dict[str, str]:
        """Whether this process can serve: not stopping, a connection in time, a known schema."""
        if self.draining:
            return {"status": "draining"}
        # Waited for, not cancelled: a connection whose server hangs takes seconds to give up.
        asking = asyncio.ensure_future(self.database.revision())
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            found = await asyncio.wait_for(asyncio.shield(asking), within_s)
        except (TimeoutError, DatabaseDown):
            return {"status": "database_down"}
        if found != needed:
            return {"status": "schema", "found": str(found), "needed": needed}
        return {"status": "ready"}


def _ticket_keys(settings: Settings) -> tuple[Signer, Verifier]:
    """Who signs tickets, and who knows those that were signed with the keys before, too."""
    signer = Signer(load_or_make_ticket_key(settings.data_dir, settings.ticket_key))
    before = (settings.ticket_keys_before or "").split(",")
    return signer, Verifier([signer.public_key, *(public_key_of(one) for one in before if one)])


def _rate_limits(settings: Settings) -> RateLimits | None:
    """How often one principal may ask, by kind of route; None when nobody counts."""
    return RateLimits(_rates(settings)) if settings.rate_limits == "on" else None


def _rates(settings: Settings) -> dict[str, str]:
    return {
        "global": settings.rate_limit_global,
        "orders": settings.rate_limit_orders,
        "reports": settings.rate_limit_reports,
    }


async def prepare(place: Place) -> tuple[str | None, str]:
    """Migrates and binds the queues, as the owner; answers the revision (before, after).
    DatabaseDown when nobody answers."""
    async with Database(place.owner, pool_size=1) as owner:
        before, needed = await owner.revision(), newest()
        if before != needed:
            # Alembic is a quarter of what a process loads, and few have to migrate.
            from strongroom.core.db.migrate import migrate

            before, needed = await asyncio.to_thread(migrate, place.owner)
        await bind(owner, SUBSCRIBERS)
    return before, needed


__all__ = ["SUBSCRIBERS", "Strongroom", "prepare"]
