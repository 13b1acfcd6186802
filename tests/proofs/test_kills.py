"""API and worker processes are killed at random instants under mixed load (C1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proofs.conftest import Scale
from strongroom.lab.chaos.catalogue import Wanted
from strongroom.lab.chaos.kills import kills
from strongroom.lab.trial import Trial

CI_KILLS, CI_ACKNOWLEDGED = 60, 5_000

PART_KILLS, PART_ACKNOWLEDGED = 50, 5_000
"""Of a campaign: twenty parts make a thousand kills and a hundred thousand answers."""

ENOUGH_KILLED = 5
"""Of each kind, or the run says nothing about it."""


@pytest.fixture(scope="module")
def trial(scale: Scale) -> Trial:
    """The run itself; what came of it is asked by the tests."""
    wanted = Wanted(
        seed=scale.seed,
        faults=scale.ask(CI_KILLS, PART_KILLS),
        acknowledged=scale.ask(CI_ACKNOWLEDGED, PART_ACKNOWLEDGED),
    )
    return asyncio.run(kills(wanted, print))


def test_what_was_acknowledged_is_there_once_whoever_was_killed(
    trial: Trial, held: Callable[[Trial], None]
) -> None:
    held(trial)


def test_the_run_was_a_trial_of_every_kind_of_process_and_of_every_application(
    trial: Trial, scale: Scale
) -> None:
    assert trial.faults >= scale.ask(CI_KILLS, PART_KILLS)
    assert min(trial.what["api"], trial.what["worker"]) >= ENOUGH_KILLED, trial.what
    assert trial.unknown, "invalid: no request was under way when its process died"
    for kind in ("bet", "transfer", "reserve", "complete", "callback", "order", "ship", "result"):
        assert trial.what[f"done: {kind}"], f"invalid: no {kind}"
    assert trial.what["refused"], "invalid: nothing was ever refused"


def test_every_process_that_was_killed_was_at_work_again(trial: Trial) -> None:
    """Only what nobody asks any more, at the very end, is not heard of."""
    assert len(trial.recovery_ms) >= trial.what["api"] - 3
