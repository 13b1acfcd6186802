"""Orders and inventory: products and their stock, customers, orders.

Promises O1 to O7 of `docs/concepts/invariants.md`: pieces are free, held or sold and never more
than were received and adjusted; an order's total is its lines'; it takes only allowed steps, one at
a time, and is cancelled or shipped, never both; codes are unique; rollups equal the orders that
they summarise; what was paid has paid its order or goes back. Moves stock and money through the ledger alone, knows no HTTP, calls no provider.
"""

from strongroom.apps.orders.exports import Exports
from strongroom.apps.orders.flow import SUBSCRIBERS, commands_due
from strongroom.apps.orders.reading import Reading
from strongroom.apps.orders.reports import Reports
from strongroom.apps.orders.rollups import make_partitions, roll_up
from strongroom.core.db import Queries

INVARIANTS = Queries(__package__, "invariants.sql")

__all__ = [
    "INVARIANTS",
    "SUBSCRIBERS",
    "Exports",
    "Reading",
    "Reports",
    "commands_due",
    "make_partitions",
    "roll_up",
]
