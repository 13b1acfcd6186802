"""C12: more is asked than can be done, by all or by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proofs.conftest import Scale
from strongroom.lab.chaos.bettors import LOOSE, STRICT
from strongroom.lab.chaos.overload import TIMES, overload, spam
from strongroom.lab.trial import Trial


@pytest.mark.alone
async def test_ten_times_the_load_gets_as_much_done(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    times = TIMES if scale.campaign else (1, 10)
    bounds = STRICT if scale.campaign else LOOSE
    held(await overload(scale.ask(2, 60), scale.seed, bounds, times))


@pytest.mark.alone
async def test_one_who_spams_does_not_slow_the_others(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    bounds = STRICT if scale.campaign else LOOSE
    held(await spam(scale.ask(3, 60), scale.seed, bounds))
