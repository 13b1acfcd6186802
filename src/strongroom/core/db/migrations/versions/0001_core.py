"""The ledger, commands, events, identity and audit schemas, on pgmq's functions."""

from strongroom.core.db.migrate import run_pgmq_sql, run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_pgmq_sql()
    run_sql("0001_core.sql")
