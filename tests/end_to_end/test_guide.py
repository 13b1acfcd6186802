"""What the README and the guides say to type is typed, as it stands, into one shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from end_to_end._cli import STRONGROOM, environment, scratch
from end_to_end.test_up import Up, running

ROOT = Path(__file__).parents[2]
README, GUIDES = ROOT / "README.md", ROOT / "docs" / "guides"

TYPED_S = 120
"""Two dozen starts of the command line and of Python, and what workers do meanwhile."""

PLACE = "http://127.0.0.1:8000"

PREPARES = re.compile(r"^(make |\. \.venv/|strongroom up$).*\n", re.M)
"""What was done before: an environment, and an instance in another terminal."""


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """For what does not care what was typed before."""
    yield from _up()


@pytest.fixture
def empty_up() -> Iterator[Up]:
    """For what begins with an empty shelf."""
    yield from _up()


def _up() -> Iterator[Up]:
    with scratch() as room, running(room / ".strongroom", "--port", "0") as instance:
        yield instance.ready()


def typed(page: Path, up: Up) -> str:
    """All that the page's commands print; one that fails ends it."""
    room = up.folder.parent
    path = room / "bin"
    path.mkdir(exist_ok=True)
    program = path / "strongroom"
    program.write_text(f'#!/bin/sh\nexec {" ".join(STRONGROOM)} "$@"\n')
    program.chmod(0o755)
    (path / "python3").unlink(missing_ok=True)
    (path / "python3").symlink_to(sys.executable)
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text("utf8"), re.M | re.S)
    script = PREPARES.sub("", "set -eu -o pipefail\n" + "".join(blocks))
    ran = subprocess.run(
        ["bash", "-c", script.replace(PLACE, up.told["url"])],
        env=environment(PATH=f"{path}:{os.environ['PATH']}"),
        cwd=room,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TYPED_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def facts(text: str) -> set[str]:
    """What does not differ from run to run: words that programs say, and amounts."""
    states = r'"(?:status|code|result)": ?"\w+"|"(?:earned|amount|doubleEntries)": ?\d+'
    return {one.replace(" ", "") for one in re.findall(states, text)}


def test_the_readme_can_be_typed_as_it_stands(up: Up) -> None:
    said = typed(README, up)
    assert '"balance":1048750' in said
    assert '"status":"PAID"' in said and ".eml" in said
    assert "Every invariant holds" in said


def shown_in(guide: Path) -> str:
    """What the guide says is answered."""
    return "".join(re.findall(r"^```text\n(.*?)^```", guide.read_text("utf8"), re.M | re.S))


def test_the_guide_to_events_can_be_typed_and_shows_what_is_answered(up: Up) -> None:
    guide = GUIDES / "run-an-event.md"
    said, shown = typed(guide, up), shown_in(guide)
    assert len(facts(shown)) > 12
    assert facts(shown) == facts(said)
    assert "not valid" in said and "Every invariant holds" in said
    room = up.folder.parent
    assert b"<svg" in (room / "ticket.html").read_bytes()
    assert (room / "ticket.png").read_bytes().startswith(b"\x89PNG")


def plain_lines(text: str) -> list[str]:
    """Lines without ids or times; those of one answer that was broken to fit are one again."""
    whole = text.replace("\n ", " ").replace(", ", ",").replace(": ", ":")
    return [line for line in whole.splitlines() if "01a1" not in line and len(line) < 300]


def test_the_guide_to_the_shop_can_be_typed_and_shows_what_is_answered(empty_up: Up) -> None:
    guide = GUIDES / "from-empty-shelf-to-report.md"
    said, shown = typed(guide, empty_up), shown_in(guide)
    told = said.replace(", ", ",").replace(": ", ":").replace("\ufeff", "").splitlines()
    missing = [line for line in plain_lines(shown) if line not in told]
    assert missing == []
    assert len(plain_lines(shown)) > 15
    assert '"code":"out_of_stock"' in said
    assert "Every invariant holds" in said
