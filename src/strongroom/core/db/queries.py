"""Named queries: SQL lives in `<room>.sql`, Python names it.

A file is a row of queries, each opened by `-- name: <name>` and one sentence that says why:

    -- name: lock_rounds
    -- Whoever changes a round holds its row, so that a close excludes every bet.
    SELECT …;
"""

from __future__ import annotations

import re
from importlib import resources

_HEADER = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)\n(?P<why>(?:--.*\n)+)", re.MULTILINE)

_NAME = re.compile(r"^-- name: *(.*)$", re.MULTILINE)

loaded: dict[str, Queries] = {}
"""Every file that was loaded, by room: `test_sql` plans all of them."""


class Queries:
    """The queries of one file, as attributes."""

    def __init__(self, package: str, file: str) -> None:
        text = resources.files(package).joinpath(file).read_text("utf8")
        heads = list(_HEADER.finditer(text))
        complete = [head["name"] for head in heads]
        for name in _NAME.findall(text):
            if name not in complete:
                raise ValueError(f"{package}/{file}: {name!r} has no reason, or is not lower_case")
        if not heads:
            raise ValueError(f"{package}/{file}: no query")
        if text[: heads[0].start()].strip():
            raise ValueError(f"{package}/{file}: text before the first query")
        ends = [head.start() for head in heads[1:]] + [len(text)]
        self.why: dict[str, str] = {}
        self.sql: dict[str, str] = {}
        for head, end in zip(heads, ends, strict=True):
            name = head["name"]
            if name in self.sql:
                raise ValueError(f"{package}/{file}: two queries named {name}")
            self.why[name] = " ".join(line.strip("- ") for line in head["why"].splitlines())
            self.sql[name] = text[head.end() : end].strip().rstrip(";")
        loaded[f"{package}/{file}"] = self

    def __getattr__(self, name: str) -> str:
        try:
            return self.sql[name]
        except KeyError:
            raise AttributeError(f"no query named {name}") from None
