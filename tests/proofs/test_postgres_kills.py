"""Postgres is killed at random instants under mixed load (C5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proofs.conftest import Scale
from strongroom.lab.chaos.catalogue import Wanted
from strongroom.lab.chaos.postgres_kills import postgres_kills
from strongroom.lab.trial import Trial

CI_KILLS, PART_KILLS = 10, 20
"""Ten parts of a campaign make two hundred."""


@pytest.fixture(scope="module")
def trial(scale: Scale) -> Trial:
    """The run itself; what came of it is asked by the tests."""
    wanted = Wanted(seed=scale.seed, faults=scale.ask(CI_KILLS, PART_KILLS))
    return asyncio.run(postgres_kills(wanted, print))


def test_what_was_acknowledged_is_there_once_after_postgres_was_killed(
    trial: Trial, held: Callable[[Trial], None]
) -> None:
    held(trial)


def test_the_run_was_a_trial_of_postmaster_and_children(trial: Trial, scale: Scale) -> None:
    assert trial.faults >= scale.ask(CI_KILLS, PART_KILLS) - 1
    assert trial.what["postmaster"] and trial.what["child"], trial.what
    # Who was waiting need not have noticed: the house asks its database again.
    assert trial.what["under way"], "invalid: no request was under way when Postgres died"


def test_work_went_on_after_every_death_of_the_postmaster(trial: Trial) -> None:
    assert len(trial.recovery_ms) == trial.what["postmaster"]
