"""Limits that are changed at run time, paused queues, and who changed what."""

from strongroom.core.db.migrate import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql("0007_switches.sql")
