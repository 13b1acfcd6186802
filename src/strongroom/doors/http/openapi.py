"""The OpenAPI document and its page, made from the routes' table."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, select_autoescape
from msgspec import inspect

from strongroom import __version__
from strongroom.doors.http.problems import Problem, status_of_code
from strongroom.doors.http.routing import Route, Routes

REF = "#/components/schemas/{name}"

HEADERS = {
    "RateLimit-Policy": "The limits that the request counts against: `q` requests in `w` seconds.",
    "RateLimit": "What is left of them: `r` requests, and no more than that for `t` seconds.",
    "Retry-After": "Seconds after which to come again.",
}

ANY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}

COMMON = {
    "400": "The body is not JSON, the Idempotency-Key is missing, or a wallet holds too little.",
    "401": "No valid token.",
    "403": "Another role is needed.",
    "404": "Not there, or not yours.",
    "409": "A rule or the state says no; `code` says which.",
    "413": "The body is too large.",
    "415": "Not application/json.",
    "422": "Does not fit the schema, or the key was used with another body.",
    "429": "Too much is asked; Retry-After says when to come again.",
    "503": "Stopping, paused, or the database is down; retry with the same key.",
}


def document(routes: Routes) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    types: list[Any] = [Problem]
    for route in routes:
        shapes = [kind for kind in (route.body, route.answer) if kind and kind is not bytes]
        types += [kind for kind in shapes if kind not in types]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Strongroom",
            "version": __version__,
            "description": "Amounts are integers in minor units, ids UUIDs, times RFC 3339 UTC.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {
                name: {"description": told, "schema": {"type": "string"}}
                for name, told in HEADERS.items()
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_")
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": route.summary,
        "tags": [route.path.removeprefix("/api").split("/")[1]],
        "parameters": _parameters(route),
        "responses": _responses(route, schema_of),
    }
    if route.role != "anyone":
        operation["security"] = [{"bearer": []}, *([{}] if route.role == "public" else [])]
        operation["x-role"] = route.role
    if route.problems:
        operation["x-problem-codes"] = list(route.problems)
    if route.body:
        operation["requestBody"] = {
            "required": not route.steps,
            "content": ANY if route.body is bytes else _json(schema_of[route.body]),
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    found += [{"name": name, "in": "query", "schema": {"type": "string"}} for name in route.query]
    if route.command:
        schema = {"type": "string", "pattern": r"^[A-Za-z0-9_\-:.]{1,255}$"}
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": not route.keyless,
                "schema": schema,
            }
        )
    return found


def _responses(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": route.summary}
    if route.answer:
        done["content"] = ANY if route.answer is bytes else _json(schema_of[route.answer])
    responses = {str(route.status): done}
    likely = {"422", "503"} | {str(status_of_code(code)) for code in route.problems}
    likely |= {"401"} if route.role != "anyone" else set()
    likely |= {"403"} if route.role == "operator" else set()
    likely |= {"404"} if "{" in route.path or names_things(route.body) else set()
    likely |= {"400", "409", "429"} if route.command else set()
    likely |= {"400", "413", "415"} if route.body else set()
    likely |= {"429"} if route.limited != "never" else set()
    for status in sorted(likely):
        responses[status] = {
            "description": COMMON[status],
            "content": {"application/problem+json": {"schema": schema_of[Problem]}},
        }
    for status, response in responses.items():
        names = ["RateLimit-Policy", "RateLimit"] if route.limited != "never" else []
        names += ["Retry-After"] if status in ("429", "503") else []
        if names:
            response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return responses


def names_things(kind: Any) -> bool:
    """Whether a body can name what is not there: by an id, also deeper inside."""
    waiting = [inspect.type_info(kind)] if kind and kind is not bytes else []
    while waiting:
        one = waiting.pop()
        if isinstance(one, inspect.UUIDType):
            return True
        if isinstance(one, inspect.StructType):
            waiting += [field.type for field in one.fields]
        elif isinstance(one, inspect.UnionType):
            waiting += one.types
        elif isinstance(one, inspect.ListType):
            waiting.append(one.item_type)
    return False


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def page(found: dict[str, Any]) -> bytes:
    """The document as a page that needs nothing from elsewhere."""
    pages = Environment(
        loader=PackageLoader("strongroom.doors.http"), autoescape=select_autoescape()
    )
    return pages.get_template("reference.html").render(doc=found).encode()
