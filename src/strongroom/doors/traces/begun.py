"""Where tracing begins, if it does."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from strongroom.errors import Invalid

if TYPE_CHECKING:
    from strongroom.main import Strongroom
    from strongroom.settings import Settings

NEEDED = "opentelemetry.proto.trace.v1.trace_pb2"


class NoTracing(Invalid):
    """Traces need OpenTelemetry: install strongroom[otel], or leave otlp_url out."""


def _installed() -> bool:
    try:
        return find_spec(NEEDED) is not None
    except ModuleNotFoundError:
        return False


def check(settings: Settings) -> None:
    """NoTracing when the settings say to whom, and the extra is not installed; and what they and
    the environment say of sending is looked at, before any process begins."""
    if settings.otlp_url is None:
        return
    if not _installed():
        raise NoTracing()
    from strongroom.doors.traces.sending import (
        COMPRESSION,
        HEADERS,
        compresses,
        endpoint_of,
        headers_of,
        tls_of,
    )

    if endpoint_of(settings.otlp_url).scheme == "https":
        tls_of(os.environ)
    headers_of(os.environ.get(HEADERS, ""))
    compresses(os.environ.get(COMPRESSION, ""))


def begin(house: Strongroom, process: str) -> None:
    """From here on what this process does is traced, where the settings say to whom; the house
    ends it."""
    settings = house.settings
    check(settings)
    if settings.otlp_url is None:
        return
    from strongroom.doors.traces.spans import Traces

    traces = Traces(settings.otlp_url, settings.trace_share, process)
    house.executor.tracing = traces
    house.database.spent.heard = traces.statement
