"""Orders and inventory: products, customers, orders by month, codes, rollups."""

from strongroom.core.db.migrate import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql("0005_orders.sql")
