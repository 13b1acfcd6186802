"""Gaps in who may do what: months of the history, the path of a function that is the owner's."""

from strongroom.core.db.migrate import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_sql("0008_privileges.sql")
