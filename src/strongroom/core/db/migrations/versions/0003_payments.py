"""The payments schema."""

from strongroom.core.db.migrate import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql("0003_payments.sql")
