"""The reference pages of the documentation, made from the code that they describe.

    python -m strongroom.doors.cli.reference docs/reference

A test compares the pages with what this makes, so none can fall behind.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import typer

import strongroom
from strongroom.core.audit.reconcile import CORE
from strongroom.core.db.queries import loaded
from strongroom.doors.cli.app import app
from strongroom.doors.cli.event_types import EVENTS
from strongroom.doors.cli.flags import ending
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.problems import STATUS_OF_KIND, Problem, status_of
from strongroom.doors.http.routing import Route
from strongroom.doors.metrics.names import METRICS, Described
from strongroom.errors import Busy, Forbidden, Invalid, NotFound, Refused, StrongroomError
from strongroom.main import INVARIANTS, SUBSCRIBERS
from strongroom.settings import Settings

MADE = "<!-- Made by `python -m strongroom.doors.cli.reference`; do not edit. -->"

KINDS = (Invalid, NotFound, Forbidden, Refused, Busy)


NOT_PAGES = re.compile(r"__main__$|\.migrations\b")
"""Modules that do something when they are imported."""

ALSO = {
    "any request": (
        "invalid",
        "no_such_path",
        "method_not_allowed",
        "headers_too_large",
        "database_down",
    ),
    "more is asked than a [rate limit](../operating/running.md#rate-limits) allows": (
        "rate_limited",
    ),
    "a token is needed": ("unauthenticated", "operator_only", "user_only"),
    "an id stands in the path or the body": ("not_found",),
    "a body is taken": ("malformed", "unsupported_media_type", "body_too_large"),
    "an Idempotency-Key is needed": (
        "idempotency_key_missing",
        "idempotency_key_invalid",
        "idempotency_key_reused",
        "request_in_progress",
        "overloaded",
        "draining",
        "outcome_unknown",
        "already_done",
    ),
}
"""What routes answer beside the problems that are their own."""

PLAIN = {
    "/healthz": "Always 200: the process runs. Touches nothing.",
    "/readyz": "200 when it can serve; 503 while stopping, without a database connection within "
    "250 ms, or with another schema.",
    "/metrics": "Counters and times for Prometheus: [metrics](metrics.md).",
    "/schema": "The reference as a page that loads nothing from elsewhere.",
    "/schema/openapi.json": "The OpenAPI 3.1 document.",
}
"""Paths outside the table; they need no token."""


def every_module() -> None:
    """Imports all of the program: error classes and query files are known once imported."""
    for found in pkgutil.walk_packages(strongroom.__path__, "strongroom."):
        if not NOT_PAGES.search(found.name):
            importlib.import_module(found.name)


def errors_of(kind: type[StrongroomError]) -> Iterator[type[StrongroomError]]:
    """All subclasses that the program defines, each once, by name."""
    below: set[type[StrongroomError]] = set()
    waiting = [kind]
    while waiting:
        for one in waiting.pop().__subclasses__():
            if one not in below:
                below.add(one)
                waiting.append(one)
    ours = [one for one in below if one.__module__.startswith("strongroom.")]
    return iter(sorted(ours, key=lambda one: (one.__name__, one.__module__)))


def flat(text: str | None) -> str:
    """A docstring as one line that fits a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(str(cell) or " " for cell in row) + " |" for row in rows]


def code(text: object) -> str:
    return f"`{text}`"


# Settings -------------------------------------------------------------------------------------


def settings() -> list[str]:
    rows = []
    for name, field in Settings.model_fields.items():
        kind = re.sub(r"typing\.|pathlib\.|<class '|'>", "", str(field.annotation))
        kind = re.sub(r"Literal\[(.*)\]", lambda found: _choices(found[1]), kind)
        kind = kind.replace(" | None", "").replace("_local.", "").replace("|", "\\|")
        for bound in field.metadata:
            for sign, attribute in (("≥", "ge"), ("≤", "le"), ("length ≥", "min_length")):
                if getattr(bound, attribute, None) is not None:
                    kind += f" {sign} {getattr(bound, attribute)}"
        default = "none" if field.default is None else code(field.default)
        why = flat(field.description)
        rows.append((code(name), code(f"STRONGROOM_{name.upper()}"), kind, default, why))
    return [
        "# Settings",
        "",
        "Read from `strongroom.toml` in the working folder, then from the environment, then from",
        "flags; the last wins. As a library they are the arguments of `Strongroom`. Unknown names",
        "in the file are refused.",
        "",
        *table(("setting", "environment", "type", "default", "what it does"), rows),
    ]


def _choices(names: str) -> str:
    return " or ".join(code(name) for name in re.findall(r"'(\w+)'", names))


# Command line -----------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """(`strongroom users create`, its command), those of groups after the others."""
    top = typer.main.get_command(app)
    waiting = [("strongroom", top)]
    for name, one in waiting:
        inner = getattr(one, "commands", None)
        if inner is None:
            yield name, one
        else:
            waiting += [(f"{name} {word}", command) for word, command in inner.items()]


def cli() -> list[str]:
    lines = [
        "# Command line",
        "",
        "Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 refused or",
        "violated, 2 usage, 3 not reachable; 130 when Ctrl-C ended it. With `--json` an error is",
        "one object `{code, detail}` on stderr.",
    ]
    for name, command in commands():
        lines += ["", f"## {name}", "", *(command.help or "").splitlines(), ""]
        rows = [_parameter(one) for one in command.params if not getattr(one, "hidden", False)]
        lines += table(("argument or option", "type", "default", "what it does"), rows)
        example = (command.epilog or "").removeprefix("Example: ")
        lines += ["", "```sh", example, "```"]
    return lines


def _parameter(one: Any) -> tuple[str, str, str, str]:
    option = one.opts[0].startswith("-")
    names = ", ".join(map(code, [*one.opts, *one.secondary_opts]))
    names = names if option else code(one.metavar or one.name.upper())
    kind = getattr(one.type_descriptor.annotation, "__name__", "text")
    kind = {"str": "text", "bool": "flag", "list": "list", "int": "number", "float": "number"}.get(
        kind, kind.lower()
    )
    if one.min is not None and one.max is not None:
        kind = f"{one.min:,} to {one.max:,}"
    if not option:
        default = "required" if one.required else "none"
    else:
        default = _default(one)
    said = one.help or ""
    if one.envvar:
        said += f" Or {code(one.envvar)}."
    return names, kind, default, flat(said)


def _default(one: Any) -> str:
    if one.required:
        return "required"
    if isinstance(one.show_default, str):
        return code(one.show_default)
    if one.is_flag:
        return (
            code((one.opts if one.default else one.secondary_opts)[0])
            if (one.secondary_opts)
            else "off"
        )
    if one.default is None:
        return "none"
    return code(getattr(one.default, "value", one.default))


# HTTP -----------------------------------------------------------------------------------------


def http() -> list[str]:
    every_module()
    types: list[Any] = [Problem]
    for route in ROUTES:
        types += [kind for kind in (route.body, route.answer) if kind and kind not in types]
    _, components = msgspec.json.schema_components(types, ref_template="{name}")
    lines = [
        "# HTTP API",
        "",
        "JSON in camelCase; ids are UUIDs, times RFC 3339 in UTC, amounts integers in minor units.",
        "A token goes into `Authorization: Bearer …`. Where a key is needed, `Idempotency-Key` has",
        "1 to 255 of `A-Z a-z 0-9 _ - : .`. Lists answer `nextCursor`; it goes into `?cursor=`,",
        "beside `?limit=` from 1 to 200. Every answer carries `X-Request-Id`.",
        "",
        "Errors are `application/problem+json` as RFC 9457 has it: [Problem](#problem). `code` is",
        "stable, `detail` is for people. A 4xx or a 429 has moved nothing. Of all answers 503",
        "`outcome_unknown` alone may hide an effect, and the same key resolves it.",
        "",
        "## All routes",
        "",
        *table(
            ("route", "who", "key", "does"),
            (
                (
                    f"[{code(f'{one.method} {one.path}')}](#{slug(f'{one.method} {one.path}')})",
                    one.role,
                    "key" if one.command else "",
                    one.summary,
                )
                for one in ROUTES
            ),
        ),
        "",
        *table(("without a token", "answers"), ((code(f"GET {p}"), w) for p, w in PLAIN.items())),
    ]
    for route in ROUTES:
        lines += ["", f"## {route.method} {route.path}", "", *_route(route)]
    lines += ["", "## Problems of any route", "", *table(("when", "code", "status", ""), _also())]
    lines += ["", "500 `internal_error` is a bug of ours; the log has it under its request id."]
    for name, schema in sorted(components.items()):
        lines += ["", f"## {name}", "", *_component(schema)]
    return lines


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and Zensical make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _route(route: Route) -> list[str]:
    needs = {
        "anyone": "No token.",
        "public": "No token, or any.",
        "user": "Any token.",
        "operator": "An operator's token.",
    }
    said = [route.summary, needs[route.role]]
    if route.command:
        said.append(f"{'Takes' if route.keyless else 'Needs'} an Idempotency-Key.")
    if route.query:
        said.append("Query: " + ", ".join(map(code, route.query)) + ".")
    if route.body:
        said.append(f"Body: {_body(route.body)}" + (", or none." if route.steps else "."))
    page = "nothing" if route.status == HTTPStatus.NO_CONTENT else "a page or a file"
    answer = _body(route.answer) if route.answer else page
    said.append(f"Answers {route.status} with {answer}.")
    if route.limited == "never":
        said.append("Not rate limited.")
    elif route.limited != "global":
        said.append(f"Counts against the limit {code(route.limited)} beside the global one.")
    if route.problems:
        known = _by_code()
        own = [f"{status_of(known[one])} {code(one)}" for one in route.problems]
        said.append("Problems of its own: " + ", ".join(own) + ".")
    return ["\n".join(said)]


def _body(kind: type[object]) -> str:
    return "bytes as they are" if kind is bytes else _linked(kind.__name__)


def _linked(name: str) -> str:
    return f"[{name}](#{slug(name)})"


def _bare(kind: type[StrongroomError]) -> StrongroomError:
    """An error of this class as the doors judge it, without what its making may need."""
    made = kind.__new__(kind)
    made.detail = flat(inspect.getdoc(kind))
    if isinstance(made, Invalid):
        made.errors = []
    return made


def _by_code() -> dict[str, StrongroomError]:
    kinds: list[type[StrongroomError]] = [*KINDS, *errors_of(StrongroomError)]
    return {one.code: _bare(one) for one in reversed(kinds)}


def _also() -> Iterator[tuple[str, str, int, str]]:
    known = _by_code()
    for when, names in ALSO.items():
        for name in names:
            yield when, code(name), status_of(known[name]), known[name].detail


def _component(schema: dict[str, Any]) -> list[str]:
    said = flat(schema.get("description"))
    required = schema.get("required", ())
    rows = [
        (code(name), _timely(name, shape(inner)), "" if name in required else "may be left out")
        for name, inner in schema.get("properties", {}).items()
    ]
    if not rows:
        return [said or "No fields."]
    lines = table(("field", "type", ""), rows)
    return [said, "", *lines] if said else lines


TIMES = re.compile(r"At$|^asOf$|^since$|^before$").search


def _timely(name: str, shape: str) -> str:
    """A schema says date-time only where the zone is checked, and answers are not checked."""
    return shape.replace("string", "time") if TIMES(name) else shape


def shape(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return _linked(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(map(shape, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(code(f'"{one}"') for one in schema["enum"])
    if "prefixItems" in schema:
        return "(" + ", ".join(map(shape, schema["prefixItems"])) + ")"
    kind = schema.get("format") or schema.get("type") or "any"
    kind = {"date-time": "time", "boolean": "true or false"}.get(kind, kind)
    if kind == "array":
        kind = f"list of {shape(schema.get('items', {}))}"
    if kind == "object":
        kind = f"object of {shape(schema.get('additionalProperties') or {})}"
    low, high = (schema.get(f"{one}imum") for one in ("min", "max"))
    if low is not None and high is not None:
        return f"{kind} from {low:,} to {high:,}"
    least, most = (schema.get(f"{one}{_of(schema)}") for one in ("min", "max"))
    if most is not None:
        return (
            f"{kind}, {least or 0:,} to {most:,} {'items' if 'items' in schema else 'characters'}"
        )
    return str(kind)


def _of(schema: dict[str, Any]) -> str:
    return "Items" if schema.get("type") == "array" else "Length"


# Invariants, errors, events, queries ------------------------------------------------------------


def invariants() -> list[str]:
    every_module()
    lines = [
        "# Invariants",
        "",
        "Each is a named query that returns no rows while it holds. A reconciliation asks all of",
        "them in one snapshot; see [invariants and their proofs](../concepts/invariants.md).",
    ]
    for file, queries in loaded.items():
        if queries in CORE or queries in INVARIANTS:
            lines += ["", f"## {file}", ""]
            rows = []
            for name, why in queries.why.items():
                id, _, sentence = why.partition(": ")
                rows.append((id, code(name), flat(sentence)))
            lines += table(("id", "query", "what holds"), rows)
    return lines


def errors() -> list[str]:
    every_module()
    words = {kind.__name__: flat(inspect.getdoc(kind)) for kind in KINDS}
    lines = [
        "# Errors",
        "",
        "All are below `strongroom.errors.StrongroomError`. Five kinds say what a caller can do;",
        "a class's name in snake_case is its `code`, its docstring the message. `Refused` is stored",
        "with the idempotency key and replayed, the others are not. Whatever else is raised is a",
        "bug.",
        "",
        *table(
            ("kind", "message", "HTTP status", "exit code"),
            (
                (code(one.__name__), words[one.__name__], STATUS_OF_KIND[one], _exit(one))
                for one in KINDS
            ),
        ),
    ]
    for kind in KINDS:
        lines += ["", f"## {kind.__name__}", "", *table(_ERROR, map(_error, errors_of(kind)))]
    others = [one for one in errors_of(StrongroomError) if not issubclass(one, KINDS)]
    lines += ["", "## Of no kind", ""]
    rows = [
        (code(one.__name__), code(one.__module__.removeprefix("strongroom.")), flat(one.__doc__))
        for one in others
        if one.__module__ != "strongroom.errors"
    ]
    lines += ["Raised by programs around the core, shown as they are."]
    return [*lines, "", *table(("class", "module", "message"), rows)]


_ERROR = ("code", "HTTP status", "exit code", "raised in", "message")


def _error(one: type[StrongroomError]) -> tuple[object, ...]:
    where = code(one.__module__.removeprefix("strongroom."))
    # The lab and the command line are never asked over HTTP.
    asked = not re.search(r"\.(lab|cli)\.", one.__module__)
    status = status_of(_bare(one)) if asked else ""
    return code(one.code), status, _exit(one), where, flat(inspect.getdoc(one))


def _exit(kind: type[StrongroomError]) -> int:
    found = ending(_bare(kind))
    assert found is not None
    return found[0]


def events() -> list[str]:
    heard: dict[str, list[str]] = {}
    for subscriber in SUBSCRIBERS:
        for pattern in subscriber.patterns:
            heard.setdefault(pattern, []).append(code(subscriber.queue))
    payloads = list(dict.fromkeys(payload for _, payload in EVENTS.values()))
    _, components = msgspec.json.schema_components(payloads, ref_template="{name}")
    lines = [
        "# Events",
        "",
        "Each is written in the transaction of what it tells, with `id`, `type`, `key` (the",
        "aggregate), `seq` (1, 2, 3 … per key), `payload`, `causation` (the event that led here)",
        "and `correlation` (the request it all began with).",
        "",
        *table(
            ("type", "emitted by", "payload", "heard by"),
            (
                (
                    code(name),
                    ", ".join(map(code, by)),
                    _linked(payload.__name__),
                    ", ".join(heard.get(name, ())),
                )
                for name, (by, payload) in EVENTS.items()
            ),
        ),
    ]
    for name, schema in sorted(components.items()):
        lines += ["", f"## {name}", "", *_component(schema)]
    return lines


def queries() -> list[str]:
    every_module()
    lines = [
        "# Named queries",
        "",
        "All SQL of the program, by file, with why each is there. Rows are appended by",
        "[COPY](../internals/sql-and-copy.md); invariants have [a page of their own](invariants.md).",
    ]
    for file, found in sorted(loaded.items()):
        if not (found in CORE or found in INVARIANTS):
            lines += ["", f"## {file}", ""]
            rows = ((code(name), flat(why)) for name, why in found.why.items())
            lines += table(("query", "why"), rows)
    return lines


# Metrics ----------------------------------------------------------------------------------------

OF_WHOM = {
    "API": "Of an API process",
    "worker": "Of a worker",
    "every process": "Of every process",
    "every process, of the database": "Of the database",
}


def metrics() -> list[str]:
    lines = [
        "# Metrics",
        "",
        "What processes tell Prometheus, each at `/metrics` on a port of its own, the API on its",
        "port too; [monitoring](../operating/monitoring.md) says where. Counters begin at zero with",
        "their process. Labels have few values: route templates, command types, queues, codes.",
        "A process tells of a lane, a room or a code once it has met it.",
    ]
    for told, heading in OF_WHOM.items():
        found = {name: one for name, one in METRICS.items() if one.told == told}
        lines += ["", f"## {heading}", ""]
        if told == "every process, of the database":
            lines += [
                "Every process tells the same, so take `max by (…)`. It is asked once in 2 s at",
                "most; where it does not answer in half a second, all of this is left out.",
                "",
            ]
        rows = [
            (code(name), one.type, flat(one.meaning), code(_example(name, one)))
            for name, one in found.items()
        ]
        lines += table(("metric", "type", "what it means", "example"), rows)
    return lines


def _example(name: str, one: Described) -> str:
    """A line as it stands on the page, without its value."""
    labels = [f'{label}="{value}"' for label, value in zip(one.labels, one.example, strict=True)]
    shown = name + ("_bucket" if one.type == "histogram" else "")
    if one.type == "histogram":
        labels.append('le="0.5"' if name.endswith("_seconds") else 'le="100"')
    return f"{shown}{{{','.join(labels)}}}" if labels else shown


PAGES: dict[str, Callable[[], list[str]]] = {
    "settings.md": settings,
    "cli.md": cli,
    "http.md": http,
    "invariants.md": invariants,
    "errors.md": errors,
    "events.md": events,
    "metrics.md": metrics,
    "sql.md": queries,
}


def page(name: str) -> str:
    """The text of one page."""
    head, *rest = PAGES[name]()
    return "\n".join([head, "", MADE, *rest]) + "\n"


def write(folder: Path) -> None:
    """Writes all pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (folder / name).write_text(page(name), "utf8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
