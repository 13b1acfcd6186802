"""Strongroom: a transactional core for things that run out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strongroom.main import Strongroom

__version__ = "0.1.0"

__all__ = ["Strongroom", "__version__"]


def __getattr__(name: str) -> Any:
    # The ground is imported through this package too, and must not load the whole house.
    if name == "Strongroom":
        from strongroom.main import Strongroom

        return Strongroom
    raise AttributeError(name)
