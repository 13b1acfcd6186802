"""C25: everybody at the same instant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proofs.conftest import Scale
from strongroom.lab.chaos.bettors import LOOSE, STRICT
from strongroom.lab.chaos.herd import expiring, hot_page, reconnecting
from strongroom.lab.trial import Trial


@pytest.mark.alone
async def test_ten_thousand_that_expire_at_one_instant_are_given_back_at_once(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    bounds = STRICT if scale.campaign else LOOSE._replace(recovery_s=10)
    held(await expiring(scale.ask(3_000, 10_000), scale.seed, bounds))


@pytest.mark.alone
async def test_a_page_that_all_read_is_loaded_by_one_of_them(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    bounds = STRICT if scale.campaign else LOOSE
    held(await hot_page(scale.ask(4, 60), scale.seed, bounds))


@pytest.mark.alone
async def test_all_clients_come_back_at_once_and_the_connections_stay_few(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    bounds = STRICT if scale.campaign else LOOSE
    held(await reconnecting(scale.ask(1_000, 4_000), scale.seed, bounds))
