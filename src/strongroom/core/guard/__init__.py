"""The guard: what keeps load off the database. May be wiped at any moment, never decides about
money."""

from strongroom.core.guard.cache import Cache, Version
from strongroom.core.guard.gather import Gather, Overloaded
from strongroom.core.guard.limits import RateLimited, RateLimits, Standing, network

__all__ = [
    "Cache",
    "Gather",
    "Overloaded",
    "RateLimited",
    "RateLimits",
    "Standing",
    "Version",
    "network",
]
