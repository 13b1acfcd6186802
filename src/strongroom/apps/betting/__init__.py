"""Betting between peers: rounds, bets, matching, settlement, refunds.

Promises B1 to B11 of `docs/concepts/invariants.md`: a stake is held exactly while its bet is open
or matched; first come is first served; a match is paid once; whatever is not matched goes back
once. Moves money through the ledger alone, knows no HTTP, and never calls another application.
"""

from strongroom.apps.betting.bets import CancelBet, PlaceBet
from strongroom.apps.betting.flow import SUBSCRIBERS, commands_due
from strongroom.apps.betting.reading import Reading
from strongroom.apps.betting.rounds import CloseRound, CreateRound, RecordResult, VoidRound
from strongroom.core.db import Queries

INVARIANTS = Queries(__package__, "invariants.sql")

__all__ = [
    "INVARIANTS",
    "SUBSCRIBERS",
    "CancelBet",
    "CloseRound",
    "CreateRound",
    "PlaceBet",
    "Reading",
    "RecordResult",
    "VoidRound",
    "commands_due",
]
