"""A part of the load for a long time, and nothing grows (C24, in short)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proofs.conftest import Scale
from strongroom.lab.chaos.catalogue import Wanted
from strongroom.lab.chaos.soak import LIMITS, grown, soak
from strongroom.lab.trial import Trial

CI_S, PART_S = 15, 480
"""Fifteen parts of a campaign are two hours under load."""


@pytest.mark.alone
def test_under_a_part_of_its_load_nothing_grows(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    seconds = scale.ask(CI_S, PART_S)
    held(asyncio.run(soak(Wanted(seed=scale.seed, seconds=seconds), print)))


@pytest.mark.parametrize("name", LIMITS)
def test_what_grows_over_a_run_is_found(name: str) -> None:
    times, more = LIMITS[name]
    most = 1_000.0 * times + more
    assert grown({name: [1_000.0] * 15 + [most] * 15}) == []
    (said,) = grown({name: [1_000.0] * 15 + [most + 1] * 15})
    assert said.startswith(f"{name} grew from")


@pytest.mark.parametrize("name", LIMITS)
def test_one_moment_above_all_others_is_no_growth(name: str) -> None:
    for moment in (0, 15, 29):
        values = [1_000.0] * 30
        values[moment] = 10.0**12
        assert grown({name: values}) == []
