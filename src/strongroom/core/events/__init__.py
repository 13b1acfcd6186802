"""Events: what happened, and who hears of it.

Promises: an event is there exactly when its change is (E1); each subscriber gets each event at
least once or it lies in the dead letters (E2); numbers per key have no gap (E3); a poisonous
event stops only itself (E5). Does not run commands: the worker door does.
"""

from strongroom.core.events.log import Event, Outbox, Position, Publish, Tail
from strongroom.core.events.subscribers import DeadLetters, Subscriber, bind, depths
from strongroom.core.events.transport import NOTIFY_CHANNEL, Message, PgmqTransport, Transport

__all__ = [
    "NOTIFY_CHANNEL",
    "DeadLetters",
    "Event",
    "Message",
    "Outbox",
    "PgmqTransport",
    "Position",
    "Publish",
    "Subscriber",
    "Tail",
    "Transport",
    "bind",
    "depths",
]
