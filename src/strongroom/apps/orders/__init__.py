"""Orders and inventory: products and their stock, customers, orders.

Promises O1 to O6 of `docs/concepts/invariants.md`: pieces are free, held or sold and never more
than were received and adjusted; an order's total is its lines'; it takes only allowed steps, one at
a time, and is cancelled or shipped, never both; codes are unique; rollups equal the orders that
they summarise. Moves stock and money through the ledger alone, knows no HTTP, calls no provider.
"""

from strongroom.apps.orders.flow import SUBSCRIBERS, commands_due
from strongroom.core.db import Queries

INVARIANTS = Queries(__package__, "invariants.sql")

__all__ = ["INVARIANTS", "SUBSCRIBERS", "commands_due"]
