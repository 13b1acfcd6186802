"""C11: statements that sleep, and a row that somebody holds, under three times the load."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proofs.conftest import Scale
from strongroom.lab.chaos.bettors import LOOSE, STRICT
from strongroom.lab.chaos.slow import PRESSURE, hot_row, slow_database
from strongroom.lab.trial import Trial

CI_S, CAMPAIGN_S = 3, 60

HELD_S = 30
"""As long as somebody may hold a row in a campaign."""

HELD_CI_S = 6
"""More than a second goes by until it is known which row is held."""

SOUND = LOOSE._replace(goodput=0, refusal_ms=float("inf"), recovery_s=float("inf"))
"""Nothing is lost, every refusal says so, and bets are taken as before when the load is over. How
much is done meanwhile, and how soon after, is asked of a campaign: a few seconds are chance."""

LEFT_OUT = SOUND._replace(goodput=0.4)
"""Of what does not need a row that is held. Where groups wait for it, a tenth of this is left."""

CI_PRESSURE = 0.8
"""As much as can be done, so that what is missing is missing for the row alone."""


@pytest.mark.alone
async def test_a_slow_database_is_used_as_well_as_it_can_be(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    bounds = STRICT if scale.campaign else SOUND
    held(await slow_database(scale.ask(CI_S, CAMPAIGN_S), scale.seed, bounds))


@pytest.mark.alone
async def test_who_does_not_need_a_row_that_is_held_goes_on(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    bounds = STRICT if scale.campaign else LEFT_OUT
    row = "wallet" if scale.part % 2 else "round"
    pressure = PRESSURE if scale.campaign else CI_PRESSURE
    seconds = scale.ask(HELD_CI_S, HELD_S)
    held(await hot_row(seconds, scale.seed, bounds, row=row, pressure=pressure))
