"""One process of a crew: gets ready, says so, begins at the instant it is told, and reports each
second.

Lines of JSON: a plan comes in, `{"ready": true}` goes out, `{"begin": …}` comes in (a reading of
the system's monotonic clock), `{"at": …, "spell": …}` go out, `{"result": …}` is the last.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
import uvloop

from strongroom.errors import StrongroomError
from strongroom.lab.client_process import tell
from strongroom.lab.open_loop import OpenResult, Plan, Spell, carried_out, connected


class Told(msgspec.Struct, omit_defaults=True):
    """What a member says; one of these at a time."""

    ready: bool = False
    at: int | None = None
    spell: Spell | None = None
    result: OpenResult | None = None
    code: str = ""
    detail: str = ""


class Begin(msgspec.Struct):
    """When the measured time begins."""

    begin: float


async def _work(plan: Plan) -> OpenResult:
    load = await connected(plan, lambda at, spell: tell(Told(at=at, spell=spell)))
    tell(Told(ready=True))
    line = await asyncio.to_thread(sys.stdin.buffer.readline)
    if not line:
        # Whoever started us is gone.
        raise SystemExit(1)
    return await carried_out(load, msgspec.json.decode(line, type=Begin).begin)


def main() -> int:
    plan: Any = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    try:
        result = uvloop.run(_work(plan))
    except StrongroomError as error:
        tell(Told(code=error.code, detail=error.detail))
        return 1
    tell(Told(result=result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
