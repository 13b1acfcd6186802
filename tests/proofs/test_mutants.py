"""Guards that are taken out one by one: each is missed by a test that has a name.

CI tries those that are marked `quick`, a campaign all of them in one part. The killers are tests of
this suite, so that each run of it is the control: they pass on the code as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving import Server
from strongroom.clock import monotonic
from strongroom.lab import mutants
from strongroom.lab.mutants import Mutant, copied, try_one
from strongroom.lab.trial import Trial

ROOT = Path(__file__).parent.parent.parent
MUTANTS = {one.name: one for one in mutants.read(ROOT / mutants.MUTANTS)}
TRIED = [one.name for one in MUTANTS.values() if one.quick or "STRONGROOM_CAMPAIGN" in os.environ]

PAGE = ROOT / "docs" / "reference" / "mutants.md"

PASSES = "tests/unit/test_ground.py::test_splitting_a_match_never_costs_more"


@pytest.fixture(scope="session")
def copy() -> Iterator[Path]:
    """A copy of the code that this process may spoil."""
    with copied(ROOT) as copy:
        yield copy


@pytest.mark.parametrize("name", TRIED)
def test_a_guard_that_is_gone_is_missed(
    name: str, copy: Path, server: Server, held: Callable[[Trial], None]
) -> None:
    began = monotonic()
    outcome = try_one(MUTANTS[name], copy, server.url)
    trial = Trial(
        row="M",
        name=name,
        seed=0,
        faults=1,
        acknowledged=len(outcome.mutant.killers),
        enough=1,
        violations=[] if outcome.killed else [f"{name} survived: {outcome.said}"],
        seconds=round(monotonic() - began, 2),
    )
    held(trial)


def test_enough_guards_are_tried() -> None:
    assert len(MUTANTS) >= 25
    assert sum(one.quick for one in MUTANTS.values()) >= 12


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fits_the_code_and_its_killers_are_there(name: str) -> None:
    one = MUTANTS[name]
    assert (ROOT / one.file).read_text("utf8").count(one.old) == 1
    assert one.killers
    for killer in one.killers:
        file, _, test = killer.partition("::")
        assert f"def {test.split('[')[0]}(" in (ROOT / file).read_text("utf8"), killer


def test_the_page_about_mutants_is_what_the_list_says() -> None:
    """Else: python -m strongroom.lab.mutants --table docs/reference/mutants.md"""
    assert PAGE.read_text("utf8") == mutants.table(list(MUTANTS.values()))


# The trial itself can fail ------------------------------------------------------------------------


def changed(new: str, killer: str) -> Mutant:
    """A change of the function that reckons fees."""
    old = "    return winnings * fee_bps // BPS"
    return Mutant("x", "x", "src/strongroom/money.py", old, new, [killer])


def test_a_change_that_nobody_notices_survives(copy: Path, server: Server) -> None:
    outcome = try_one(changed("    return fee_bps * winnings // BPS", PASSES), copy, server.url)
    assert not outcome.killed and "passed" in outcome.said


@pytest.mark.parametrize("new", ["    return winnings *", "    return winning * fee_bps // BPS"])
def test_a_mutant_that_does_not_run_is_no_kill(new: str, copy: Path, server: Server) -> None:
    assert not try_one(changed(new, PASSES), copy, server.url).killed


def test_a_test_that_is_not_there_kills_nothing(copy: Path, server: Server) -> None:
    there = changed("    return 0", "tests/unit/test_ground.py::test_that_nobody_wrote_yet")
    assert not try_one(there, copy, server.url).killed


def test_a_copy_is_whole_again_after_a_mutant(copy: Path) -> None:
    mutant = changed("    return 0", PASSES)
    before = (copy / mutant.file).read_text("utf8")
    with pytest.raises(ZeroDivisionError), mutant.applied(copy):
        assert (copy / mutant.file).read_text("utf8") != before
        raise ZeroDivisionError
    assert (copy / mutant.file).read_text("utf8") == before
