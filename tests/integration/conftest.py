"""Tests that make databases of their own find the run's server by its address."""

from __future__ import annotations

import os

import pytest

from serving import Server


@pytest.fixture(autouse=True, scope="session")
def server_address(server: Server) -> None:
    os.environ.setdefault("STRONGROOM_TEST_SERVER_URL", server.url)
