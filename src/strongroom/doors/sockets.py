"""Sockets that doors listen on; they outlive the processes that are handed them."""

from __future__ import annotations

import socket


def listening_at(host: str, port: int, backlog: int = socket.SOMAXCONN) -> socket.socket:
    """A listening socket, on any port when it is 0; OSError when the port is taken. `backlog` is
    how many may wait to be accepted."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Not to be shared with one that still listens, only with what is over.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(backlog)
    except BaseException:
        found.close()
        raise
    found.set_inheritable(True)
    return found
