"""Sending: spans wait in a queue that has an end, and a thread posts them over OTLP/HTTP.

OpenTelemetry's own exporter costs four times the processor, mostly for attributes and the highest
level of gzip. It may hold a stopping process up for half a minute, and writes headers that it cannot
read into the log, with the secrets in them.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, unquote, urlsplit

import structlog
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from strongroom.clock import monotonic
from strongroom.errors import Invalid

log = structlog.get_logger(__name__)

WAITING = 20_000
"""Spans that wait to be sent, some 4 MB; what comes beyond is dropped."""

EVERY_S = 1.0

TOGETHER = 2000
"""Spans in one request, some 300 kB: collectors take a few MB."""

ANSWER_S = 3.0
"""A collector that takes longer gets nothing more of this; a stopping process waits so long."""

SAY_AGAIN_S = 60.0
"""While spans are dropped, a line each minute says how many."""

RESOURCE, SCOPE, SPAN = b"\x0a", b"\x12", b"\x12"
"""The fields of a request for its resources, of these for their scopes, and of these for their
spans, as the wire has them."""

LATER = frozenset({408, 429, 502, 503, 504})
"""By these a collector says that it will take later what it does not take now."""

COMPRESSION = "OTEL_EXPORTER_OTLP_COMPRESSION"
HEADERS, CERTIFICATE = "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_CERTIFICATE"
CLIENT_CERTIFICATE = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
CLIENT_KEY = "OTEL_EXPORTER_OTLP_CLIENT_KEY"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[\x20-\x7e]*").fullmatch


class UnreadableHeaders(Invalid):
    """OTEL_EXPORTER_OTLP_HEADERS is not of the form name=value,name=value, its values written as
    in a URL."""


def headers_of(text: str) -> dict[str, str]:
    """Headers as OpenTelemetry's environment has them. What cannot be read is not told: the secret
    may stand anywhere in it."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, given, value = (unquote(one).strip() for one in part.partition("="))
        if not given or not _NAME(name) or not _VALUE(value):
            raise UnreadableHeaders()
        found[name.lower()] = value
    return found


class UnfitCollector(Invalid):
    """otlp_url is no address of a collector, as http://127.0.0.1:4318 is one."""


def endpoint_of(url: str) -> SplitResult:
    """Where spans are posted to. What no connection could be asked for is refused here: in the
    thread that sends it would be the end of the thread."""
    try:
        found = urlsplit(f"{url.rstrip('/')}/v1/traces")
        named = (found.hostname or "").encode("idna") and found.path.encode("ascii")
        if not named or found.port == 0:
            raise UnfitCollector()
    except ValueError as error:
        raise UnfitCollector() from error
    return found


class UnknownCompression(Invalid):
    """OTEL_EXPORTER_OTLP_COMPRESSION is neither none nor gzip."""


def compresses(text: str) -> bool:
    """Whether spans are packed, as the same environment says: a collector beside us gains nothing
    by it, one far away may."""
    said = text.strip().lower()
    if said not in ("", "none", "gzip"):
        raise UnknownCompression()
    return said == "gzip"


class UnreadableCertificate(Invalid):
    """A certificate that OTEL_EXPORTER_OTLP_… names cannot be read."""


class Sender:
    """Takes spans, encoded, at any moment, and holds nobody up."""

    def __init__(self, url: str, resource: Resource, scope: InstrumentationScope) -> None:
        self._url = endpoint_of(url)
        self._headers = {
            **headers_of(os.environ.get(HEADERS, "")),
            "content-type": "application/x-protobuf",
        }
        self._packed = compresses(os.environ.get(COMPRESSION, ""))
        if self._packed:
            self._headers["content-encoding"] = "gzip"
        self._tls = tls_of(os.environ) if self._url.scheme == "https" else None
        self._resource = ResourceSpans(resource=resource).SerializeToString()
        self._scope = ScopeSpans(scope=scope).SerializeToString()
        self._waiting: deque[bytes] = deque()
        self._dropped, self._said_at, self._failing = 0, 0.0, False
        self._connection: HTTPConnection | None = None
        self._ending = threading.Event()
        # A daemon, so that a collector that hangs does not keep a process from its end.
        self._thread = threading.Thread(target=self._forever, name="traces", daemon=True)
        self._thread.start()

    def put(self, span: bytes) -> None:
        if len(self._waiting) < WAITING:
            self._waiting.append(span)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Sends what is left, as long as a collector has to answer."""
        self._ending.set()
        self._thread.join(ANSWER_S)

    def _forever(self) -> None:
        while not self._ending.wait(EVERY_S):
            self._send_once()
        self._send_once()

    def _send_once(self) -> None:
        """All that waits, or as far as the collector takes it."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
            if not self._send(batch):
                break
        now = monotonic()
        if self._dropped and now - self._said_at >= SAY_AGAIN_S:
            log.warning("spans dropped", spans=self._dropped)
            self._dropped, self._said_at = 0, now

    def _send(self, batch: list[bytes]) -> bool:
        """Whether the collector lives. What it could not take now is tried again, as long as
        there is place; what it refuses is dropped."""
        try:
            status = self._post(self._encoded(batch))
            said = None if 200 <= status < 300 else f"status {status}"
            later = status in LATER
        except (OSError, HTTPException) as error:
            said, later = type(error).__name__, True
        if said is not None:
            self._disconnect()
            if later and len(self._waiting) + len(batch) <= WAITING:
                self._waiting.extendleft(reversed(batch))
            else:
                self._dropped += len(batch)
        if self._failing is not (said is not None):
            self._failing = not self._failing
            (log.warning if said else log.info)(
                "traces are not taken" if said else "traces are taken again", error=said
            )
        return said is None

    def _encoded(self, batch: list[bytes]) -> bytes:
        of_scope = self._scope + b"".join([SPAN + _sized(span) for span in batch])
        of_process = self._resource + SCOPE + _sized(of_scope)
        told = RESOURCE + _sized(of_process)
        # Spans repeat each other: the lowest level leaves as little of them as the highest does.
        return gzip.compress(told, compresslevel=1) if self._packed else told

    def _post(self, body: bytes) -> int:
        fresh = self._connection is None
        try:
            return self._ask(body)
        except (ConnectionError, HTTPException):
            # A connection that was kept may have been closed meanwhile: that says nothing.
            self._disconnect()
            if fresh:
                raise
            return self._ask(body)

    def _ask(self, body: bytes) -> int:
        if self._connection is None:
            host, port = self._url.hostname or "", self._url.port
            if self._tls is not None:
                self._connection = HTTPSConnection(host, port, timeout=ANSWER_S, context=self._tls)
            else:
                self._connection = HTTPConnection(host, port, timeout=ANSWER_S)
        # The connection's own patience begins anew with each byte that trickles in.
        late = threading.Timer(ANSWER_S, self._cut, [self._connection])
        late.daemon = True
        late.start()
        try:
            self._connection.request("POST", self._url.path, body, self._headers)
            with self._connection.getresponse() as answer:
                answer.read()
                return answer.status
        finally:
            late.cancel()

    @staticmethod
    def _cut(connection: HTTPConnection) -> None:
        with contextlib.suppress(OSError):
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _sized(message: bytes) -> bytes:
    """With its length before it, seven bits a byte, the lowest first."""
    length, left = len(message), bytearray()
    while length > 127:
        left.append(length & 127 | 128)
        length >>= 7
    left.append(length)
    return bytes(left) + message


def tls_of(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Whom a collector has to be, and who we are to it; by the names that OpenTelemetry uses."""
    try:
        context = ssl.create_default_context(cafile=environment.get(CERTIFICATE) or None)
        if certificate := environment.get(CLIENT_CERTIFICATE):
            context.load_cert_chain(certificate, environment.get(CLIENT_KEY) or None)
    except OSError as error:
        raise UnreadableCertificate() from error
    return context
