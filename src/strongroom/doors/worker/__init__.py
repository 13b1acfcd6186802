"""The worker's door: events come in as messages, leave as commands; chores come by the clock.

Promises: a message is deleted in the transaction of its effect; a failing one comes back later
each time and is buried after its last attempt, alone; what is paused waits without being counted;
calls outside are made between two transactions; of many workers one, the leader, does the chores.
"""

from strongroom.doors.worker.worker import Worker, worker_of

__all__ = ["Worker", "worker_of"]
