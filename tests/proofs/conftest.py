"""Proofs run at one of two scales: CI's, and a campaign's, which asks for more of each.

A campaign sets STRONGROOM_CAMPAIGN to the folder for its evidence, STRONGROOM_PART to the number
of the part that it wants, and gets another seed for each part; see `strongroom.lab.campaign`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from strongroom.lab.trial import Evidence, Trial

SEED = 20_260_101


class Scale(NamedTuple):
    """How much is asked. `ask(ci, campaign)` chooses; `part` counts from 0."""

    folder: Path | None
    part: int

    @property
    def campaign(self) -> bool:
        return self.folder is not None

    @property
    def seed(self) -> int:
        return SEED + self.part

    def ask(self, ci: int, campaign: int) -> int:
        """The quantity of one part: CI has one part."""
        return campaign if self.campaign else ci


@pytest.fixture(scope="session")
def scale() -> Scale:
    folder = os.environ.get("STRONGROOM_CAMPAIGN")
    return Scale(Path(folder) if folder else None, int(os.environ.get("STRONGROOM_PART", "0")))


@pytest.fixture(scope="session")
def held(scale: Scale) -> Callable[[Trial], None]:
    """Keeps the evidence of a trial where a campaign asks for it, and asserts that it held."""

    def held(trial: Trial) -> None:
        if scale.folder is not None:
            name = f"{trial.row}-{trial.name}-{scale.part:03}.json"
            Evidence.of(trial).keep(scale.folder / name)
        trial.assert_held()

    return held
