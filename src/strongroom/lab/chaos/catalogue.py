"""The scenarios of `strongroom chaos`, by name: what each does, and what must hold.

A module registers its own, and is named in MODULES:

    @scenario("kills", "API and worker processes are killed …: nothing acknowledged is lost …",
              takes=("faults", "acknowledged"))
    async def kills(wanted: Wanted, say: Say) -> Trial: ...
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from strongroom.errors import Invalid
from strongroom.lab.trial import Trial

MODULES = (
    "kills",
    "commit_cuts",
    "postgres_kills",
    "power_cuts",
    "hanging",
    "duplicates",
    "soak",
    "slow",
    "overload",
    "herd",
)
"""Modules of this room that register scenarios, one a line."""

SEED = 4711


class Wanted(NamedTuple):
    """How much of a scenario is wanted; None leaves it to the scenario."""

    seed: int = SEED
    faults: int | None = None
    acknowledged: int | None = None
    seconds: float | None = None


Say = Callable[[str], None]
"""Told how it goes, as a short line, again and again."""

Run = Callable[[Wanted, Say], Awaitable[Trial]]


class Scenario(NamedTuple):
    """One of them; `holds` is a sentence, `takes` what of `Wanted` it goes by beside the seed."""

    name: str
    holds: str
    run: Run
    takes: tuple[str, ...] = ()

    def check(self, wanted: Wanted) -> None:
        """WantedUnfit when something is asked that would have no effect."""
        given = wanted._asdict()
        for name in ("faults", "acknowledged", "seconds"):
            if given[name] is not None and name not in self.takes:
                takes = ", ".join(f"--{one}" for one in self.takes)
                raise WantedUnfit(f"{self.name} does not go by --{name}; it takes {takes}.")


class WantedUnfit(Invalid):
    """The scenario does not go by this."""


class NoSuchScenario(Invalid):
    """There is no scenario of this name."""


_registered: dict[str, Scenario] = {}


def scenario(name: str, holds: str, *, takes: tuple[str, ...] = ()) -> Callable[[Run], Run]:
    """Registers a function as the scenario of this name."""

    def register(run: Run) -> Run:
        assert name not in _registered, f"two scenarios named {name}"
        _registered[name] = Scenario(name, holds, run, takes)
        return run

    return register


def scenarios() -> dict[str, Scenario]:
    """All of them, in the order of their modules."""
    for module in MODULES:
        importlib.import_module(f"strongroom.lab.chaos.{module}")
    return dict(_registered)


def scenario_of(name: str) -> Scenario:
    """NoSuchScenario when there is none of this name."""
    found = scenarios()
    if name not in found:
        raise NoSuchScenario(f"No scenario {name!r}; there are {', '.join(found)}.")
    return found[name]
