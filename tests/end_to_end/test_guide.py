"""The guide to ticketing is typed as it stands, into one shell, beside a running instance."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from end_to_end._cli import STRONGROOM, environment, scratch
from end_to_end.test_up import running

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "run-an-event.md"

TYPED_S = 120
"""Two dozen starts of the command line and of Python, and what workers do meanwhile."""

PLACE = "http://127.0.0.1:8000"


def typed() -> list[str]:
    """The blocks that are to be typed, without the one that starts the instance."""
    found = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text("utf8"), re.M | re.S)
    assert found[0] == "strongroom up\n"
    return found[1:]


@pytest.fixture(scope="module")
def said() -> Iterator[str]:
    """All that the guide's commands print; one that fails ends it."""
    with scratch() as room, running(room / "data", "--port", "0") as up:
        up.ready()
        path = room / "bin"
        path.mkdir()
        (path / "strongroom").write_text(f'#!/bin/sh\nexec {" ".join(STRONGROOM)} "$@"\n')
        (path / "strongroom").chmod(0o755)
        (path / "python3").symlink_to(sys.executable)
        script = "set -eu -o pipefail\n" + "".join(typed())
        ran = subprocess.run(
            ["bash", "-c", script.replace(PLACE, up.told["url"])],
            env=environment(
                PATH=f"{path}:{os.environ['PATH']}", STRONGROOM_DATA_DIR=str(room / "data")
            ),
            cwd=room,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TYPED_S,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        assert b"<svg" in (room / "ticket.html").read_bytes()
        assert (room / "ticket.png").read_bytes().startswith(b"\x89PNG")
        yield ran.stdout
        up.end()


def facts(text: str) -> set[str]:
    """What does not differ from run to run: words that programs say, and amounts."""
    states = r'"(?:status|code|result)": ?"\w+"|"(?:earned|amount|doubleEntries)": ?\d+'
    return {one.replace(" ", "") for one in re.findall(states, text)}


def test_the_guide_can_be_typed_as_it_stands(said: str) -> None:
    assert "Every invariant holds" in said
    assert "not valid" in said


def test_the_guide_shows_what_is_answered(said: str) -> None:
    shown = "".join(re.findall(r"^```text\n(.*?)^```", GUIDE.read_text("utf8"), re.M | re.S))
    assert len(facts(shown)) > 12
    assert facts(shown) == facts(said)
