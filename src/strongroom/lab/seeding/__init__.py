"""The seed: a shop with years behind it, for demos and benches.

Promises: as many orders as are wanted, over the months until now, by products that sell by a power
law, with the seasons of a Vietnamese year; with lines, history, payments, rollups, and every
movement of stock and money in the ledger, so that all invariants hold. It appears at one COMMIT or
not at all, and goes into an empty shop only. The same seed draws the same shop; hours depend on
when it is made.

What happened within an hour is imported at its end: history and transfers carry that moment, and
an event `orders.HourImported` tells of them.
"""

from strongroom.lab.seeding.loading import InUse, NotEmpty, Plan, Seeded, seed

__all__ = ["InUse", "NotEmpty", "Plan", "Seeded", "seed"]
