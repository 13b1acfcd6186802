"""What the OpenAPI document promises, asked of a running house by requests made from it: no answer
is an error of ours, and every one is of a status, a type and a shape that the document tells."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from end_to_end._house import Person
from end_to_end._spoiling import Scene, good_path, scene  # noqa: F401
from strongroom.doors.http import openapi
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.routing import Route

EXAMPLES = 15
"""Of each operation, besides one for each bound of each field: 60 s in all."""

PATIENCE_S = 60

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

LEFT_ALONE = {"/api/ops/limits/{name}": "all that follows would be told to come again"}

OF_ROUTE = {(route.method, route.path): route for route in ROUTES}

document = schemathesis.openapi.from_dict(openapi.document(ROUTES))


@pytest.fixture(scope="module")
def asking() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token}"}


def real_ids(scene: Scene, route: Route) -> dict[str, str]:
    """What the path of a good request names."""
    shaped, good = route.path.split("/"), good_path(scene, route).split("/")
    return {name[1:-1]: id for name, id in zip(shaped, good, strict=True) if name[:1] == "{"}


@document.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_tells_of(
    case: schemathesis.Case, scene: Scene, asking: requests.Session
) -> None:
    base = f"http://127.0.0.1:{scene.house.apis[0].port}"
    route = OF_ROUTE.get((case.method.upper(), case.operation.path))
    leaves = route is not None and route.path == "/api/auth/logout"
    for person in (scene.user, scene.operator):
        headers = {} if leaves else bearer(person)
        if "Idempotency-Key" in (case.headers or {}):
            headers["Idempotency-Key"] = uuid4().hex if person is scene.user else "one-for-all"
        case.call_and_validate(base, asking, headers, checks=CHECKS, timeout=PATIENCE_S)
    if route and "{" in route.path and route.path not in LEFT_ALONE and "." not in route.path:
        case.path_parameters = real_ids(scene, route)
        case.call_and_validate(
            base, asking, bearer(scene.operator), checks=CHECKS, timeout=PATIENCE_S
        )


@document.parametrize()
@settings(max_examples=1, derandomize=True, deadline=None, phases=[Phase.generate])
def test_who_proves_nothing_gets_nothing_where_the_document_asks_for_a_proof(
    case: schemathesis.Case, scene: Scene, asking: requests.Session
) -> None:
    base = f"http://127.0.0.1:{scene.house.apis[0].port}"
    case.call_and_validate(
        base, asking, bearer(scene.operator), checks=[ignored_auth], timeout=PATIENCE_S
    )
