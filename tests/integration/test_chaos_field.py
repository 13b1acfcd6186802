"""The field under fire when its database cannot stand up again: the reason must be heard."""

from __future__ import annotations

import pytest

from strongroom.core.db.embedded_config import OtherMajorVersion
from strongroom.lab.chaos.field import Field


async def test_leaving_a_field_whose_postgres_cannot_start_says_why() -> None:
    field = Field(apis=0, workers=0)
    await field.__aenter__()
    await field.kill_postgres()
    versions = field.folder.rglob("PG_VERSION")
    min(versions, key=lambda one: len(one.parts)).write_text("9")
    with pytest.raises(OtherMajorVersion):
        await field.start_postgres()
    with pytest.raises(OtherMajorVersion):
        await field.__aexit__()
    assert not field.folder.exists()
