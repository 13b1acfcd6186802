"""Seals over closed ranges of entries, and what a reconciliation asked."""

from strongroom.core.db.migrate import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql("0006_seals.sql")
