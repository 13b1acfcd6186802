"""Commands: what may change anything, and how many of them commit together.

Promises: an answer is given after COMMIT, and only then; the same key gives the same answer, byte
for byte, also after a crash (I1 to I3); one refused or poisonous command never hurts its
neighbours. Does not retry what a rule refused, and knows no HTTP.
"""

from strongroom.core.commands.command import Command, Nothing, Reply
from strongroom.core.commands.errand import Errand, Performed, Performer
from strongroom.core.commands.executor import Executor
from strongroom.core.commands.lanes import Lanes
from strongroom.core.commands.ticket import Outcome, Ticket
from strongroom.core.commands.work import Kept, Work

__all__ = [
    "Command",
    "Errand",
    "Executor",
    "Kept",
    "Lanes",
    "Nothing",
    "Outcome",
    "Performed",
    "Performer",
    "Reply",
    "Ticket",
    "Work",
]
