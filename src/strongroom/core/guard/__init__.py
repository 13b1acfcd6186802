"""The guard: what keeps load off the database. May be wiped at any moment, never decides about
money."""

from strongroom.core.guard.gather import Gather

__all__ = ["Gather"]
