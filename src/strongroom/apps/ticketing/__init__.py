"""Event ticketing: events, reservations, orders, tickets, the door.

Promises T1 to T8 of `docs/concepts/invariants.md`: seats are free, held or sold and never more
than there are; a hold ends once; money that was taken has tickets or goes back whole; a ticket
admits once. Moves seats and money through the ledger alone, knows no HTTP, calls no provider.
"""

from strongroom.apps.ticketing.flow import SUBSCRIBERS, SendMail, commands_due, forget_reservations
from strongroom.apps.ticketing.post import Post
from strongroom.apps.ticketing.reading import Reading
from strongroom.core.db import Queries

INVARIANTS = Queries(__package__, "invariants.sql")

__all__ = [
    "INVARIANTS",
    "SUBSCRIBERS",
    "Post",
    "Reading",
    "SendMail",
    "commands_due",
    "forget_reservations",
]
