"""The API as one ASGI application: the routes' table, health, metrics, the reference."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec
import structlog
from litestar import Litestar, Response, get
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from strongroom.core.db.migrate import newest
from strongroom.doors.http import openapi
from strongroom.doors.http.betting_routes import BETTING
from strongroom.doors.http.money_routes import MONEY
from strongroom.doors.http.ops_routes import OPS
from strongroom.doors.http.problems import problem
from strongroom.doors.http.routing import NoSuchPath, Routes, doors
from strongroom.doors.http.seen import Seen
from strongroom.doors.http.user_routes import USERS
from strongroom.errors import Invalid, StrongroomError
from strongroom.ids import uuid7
from strongroom.main import Strongroom

ROUTES: Routes = [*USERS, *MONEY, *BETTING, *OPS]

log = structlog.get_logger(__name__)

READY_S = 0.25
"""A pool that cannot lend a connection within this is saturated or cut off."""


def application(house: Strongroom) -> Litestar:
    """The ASGI application of a house that is open already, or opens with the lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with house:
            yield

    seen = Seen(house.executor)
    app = Litestar(
        route_handlers=[doors(house, seen, ROUTES), *_plain(house, seen)],
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
        after_request=_named,
        exception_handlers={Exception: _elsewhere, HTTPException: _elsewhere},
    )
    return app


def _plain(house: Strongroom, seen: Seen) -> list[HTTPRouteHandler]:
    """What is asked without a token: health, metrics, the reference."""
    needed = newest()
    described = openapi.document(ROUTES)
    as_json = msgspec.json.encode(described)
    as_page = openapi.page(described)

    @get("/healthz", media_type="application/json", sync_to_thread=False)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @get("/readyz", media_type="application/json")
    async def readyz() -> Response[dict[str, str]]:
        stands = await house.readiness(READY_S, needed)
        return Response(stands, status_code=200 if stands["status"] == "ready" else 503)

    @get("/metrics", media_type="text/plain; version=0.0.4; charset=utf-8", sync_to_thread=False)
    def metrics() -> bytes:
        return seen.text()

    @get(
        "/schema/openapi.json", media_type="application/vnd.oai.openapi+json", sync_to_thread=False
    )
    def schema() -> bytes:
        return as_json

    @get("/schema", media_type="text/html; charset=utf-8", sync_to_thread=False)
    def reference() -> bytes:
        return as_page

    return [healthz, readyz, metrics, schema, reference]


def _named(response: Response[object]) -> Response[object]:
    """Every answer carries an id that a log line can be found by."""
    response.headers.setdefault("x-request-id", str(uuid7()))
    return response


def _elsewhere(_: object, error: Exception) -> Response[bytes]:
    """Errors outside the table: unknown paths, other methods, bugs."""
    request_id = str(uuid7())
    status = getattr(error, "status_code", 500)
    if isinstance(error, StrongroomError):
        pass
    elif status == 404:
        error = NoSuchPath()
    elif status == 405:
        return _problem_as(405, "method_not_allowed", request_id, dict(error.headers or {}))  # type: ignore[attr-defined]
    elif 400 <= status < 500:
        error = Invalid("The request cannot be read.")
    else:
        log.error("bug", request_id=request_id, exc_info=error)
    code, body, headers = problem(error, request_id)
    named = {name.decode(): value.decode() for name, value in headers}
    return Response(
        body,
        status_code=code,
        media_type="application/problem+json",
        headers={**named, "x-request-id": request_id},
    )


def _problem_as(
    status: int, code: str, request_id: str, headers: dict[str, str]
) -> Response[bytes]:
    said = {"type": f"/schema#{code}", "title": "Method Not Allowed", "status": status}
    said |= {"code": code, "detail": "This path does not take that method."}
    body = msgspec.json.encode(said | {"requestId": request_id})
    headers = {**headers, "x-request-id": request_id}
    return Response(
        body, status_code=status, media_type="application/problem+json", headers=headers
    )


__all__ = ["ROUTES", "application"]
