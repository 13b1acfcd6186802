"""Statements one by one, for who must stand between them: proofs that crash, fail or hold a program
before or after its k-th statement, and runs that a seed replays.

The program itself never asks for this; without a step a connection is the driver's own, and a
statement costs nothing more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

Step = Callable[[Any, str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`await step(connection, statement, run)` stands in for the statement: it awaits `run()` when it
pleases, before or after whatever else it does, or raises instead. `statement` is its SQL; of rows
appended it is `COPY schema.table`. What opens and ends a transaction is a statement too."""


class _Stepped(asyncpg.Connection):
    """A connection whose statements go through a step."""

    step: Step

    async def execute(self, query: str, *args: Any, **more: Any) -> Any:
        go = super().execute
        return await self.step(self, query, lambda: go(query, *args, **more))

    async def fetch(self, query: str, *args: Any, **more: Any) -> Any:
        go = super().fetch
        return await self.step(self, query, lambda: go(query, *args, **more))

    async def fetchrow(self, query: str, *args: Any, **more: Any) -> Any:
        go = super().fetchrow
        return await self.step(self, query, lambda: go(query, *args, **more))

    async def fetchval(self, query: str, *args: Any, **more: Any) -> Any:
        go = super().fetchval
        return await self.step(self, query, lambda: go(query, *args, **more))

    async def copy_to_table(self, table_name: str, **more: Any) -> Any:
        go = super().copy_to_table
        named = f"COPY {more['schema_name']}.{table_name}"
        return await self.step(self, named, lambda: go(table_name, **more))


def stepped(step: Step) -> type[asyncpg.Connection]:
    """The class of connections whose statements all go through this step."""
    return type("Stepped", (_Stepped,), {"step": staticmethod(step)})
