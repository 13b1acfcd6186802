"""An audit from outside: lives through a history over HTTP and asks whether it can have been.

Promises: it needs nothing but addresses and an operator's token; it touches only accounts that it
opens itself, and takes all money out of them again; what it calls a violation cannot be explained
by any order of the operations that agrees with real time. It also asks the house for its own
reconciliation. Not done: it does not look at accounts of others, and it cannot see what was wrong
before it came.
"""

from strongroom.lab.audit.history import Entry, History, Operation, Snapshot, violations
from strongroom.lab.audit.witness import Audit, Audited, audit

__all__ = [
    "Audit",
    "Audited",
    "Entry",
    "History",
    "Operation",
    "Snapshot",
    "audit",
    "violations",
]
