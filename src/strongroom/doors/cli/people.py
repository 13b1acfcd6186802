"""`users` and `api-keys`: who may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from strongroom.doors.cli.flags import (
    PRINCIPAL,
    AsJson,
    DataDir,
    say,
    settings_of,
    shown,
    tell,
)
from strongroom.errors import Busy, Forbidden
from strongroom.money import MAX_AMOUNT

if TYPE_CHECKING:
    from strongroom.main import Strongroom
    from strongroom.settings import Settings

TOGETHER = 500
"""One group of deposits: with more, those behind would wait past their deadline."""

TRIES = 10
"""A busy instance makes room within a few seconds, a restarting database too."""

MOST_USERS = 1_000_000


class Role(StrEnum):
    """What a token may do."""

    user = "user"
    operator = "operator"


class NotInProduction(Forbidden):
    """Users for trials are not created where STRONGROOM_ENVIRONMENT is production. Register users
    over HTTP instead."""


def create_users(
    count: Annotated[int, typer.Option(min=1, max=MOST_USERS, help="How many.")] = 1,
    fund: Annotated[
        int, typer.Option(min=0, max=MAX_AMOUNT, help="Deposit into each wallet, minor units.")
    ] = 0,
    role: Annotated[Role, typer.Option(help="What their tokens may do.")] = Role.user,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Creates users for trials and prints their access tokens, valid for 12 hours."""
    settings = settings_of(data_dir=data_dir)
    if settings.environment == "production":
        raise NotInProduction()
    for user_id, token in asyncio.run(_create(settings, count, fund, role)):
        if as_json:
            tell({"userId": user_id, "accessToken": token})
        else:
            typer.echo(f"{user_id} {token}")


async def _create(settings: Settings, count: int, fund: int, role: Role) -> list[tuple[UUID, str]]:
    from strongroom.doors.cli.reach import house_of

    async with house_of(settings) as house:
        made = await house.identity.create_users(count, role.value, by=PRINCIPAL)
        if fund:
            await fund_wallets(house, [user_id for user_id, _ in made], fund)
        return made


async def fund_wallets(house: Strongroom, users: Sequence[UUID], amount: int) -> None:
    """Deposits `amount` for each, once, in groups; tries again while the instance is busy."""
    import stamina

    from strongroom.apps.wallets import Deposit

    async def deposit(user: UUID) -> None:
        command = Deposit(user, amount, "trial")
        async for attempt in stamina.retry_context(on=Busy, attempts=TRIES, timeout=None):
            with attempt:
                await house.run(command, key=f"fund:{user}", principal=PRINCIPAL)

    for start in range(0, len(users), TOGETHER):
        async with asyncio.TaskGroup() as tasks:
            for user in users[start : start + TOGETHER]:
                tasks.create_task(deposit(user))


def create_key(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.operator,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Creates an API key and prints its secret, which is shown only once."""

    async def create(settings: Settings) -> tuple[UUID, str]:
        from strongroom.doors.cli.reach import house_of

        async with house_of(settings) as house:
            return await house.identity.create_api_key(name, role.value, by=PRINCIPAL)

    key_id, secret = asyncio.run(create(settings_of(data_dir=data_dir)))
    if as_json:
        tell({"keyId": key_id, "name": name, "role": role.value, "secret": secret})
        return
    shown.print(f"{key_id} {secret}", markup=False, highlight=False, soft_wrap=True)
    say("Keep the secret now: it cannot be shown again. Use it as a bearer token.")


def revoke_key(
    key_id: Annotated[UUID, typer.Argument(help="The key's id.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revokes an API key, at once and on every process."""

    async def revoke(settings: Settings) -> None:
        from strongroom.doors.cli.reach import house_of

        async with house_of(settings) as house:
            await house.identity.revoke_api_key(key_id, by=PRINCIPAL)

    asyncio.run(revoke(settings_of(data_dir=data_dir)))
    if as_json:
        tell({"keyId": key_id, "revoked": True})
    else:
        say(f"API key {key_id} is revoked.")
