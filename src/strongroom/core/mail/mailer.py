"""The two ways a mail leaves: over SMTP, or into a folder."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
import socket
import ssl
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import AddressHeader
from email.message import EmailMessage
from email.policy import SMTP as ON_THE_WIRE
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib

from strongroom.errors import Busy, Invalid, Refused

STEP_S = 15.0
"""A server that says nothing for this long is not there."""

WHOLE_S = 25.0
"""A mail takes at most this, however slowly the server goes on."""

PORTS = {"smtp": 587, "smtps": 465}
"""Submission (RFC 6409) and submission over TLS (RFC 8314)."""

TOO_LARGE = 552
"""The one refusal at MAIL FROM that is about the mail and not about who sends it."""


class BadMailSettings(Invalid):
    """smtp_url is smtp://user:password@host:587 or smtps://…, with everything but letters and
    digits percent-encoded; mail_from is an address, with or without a name before it."""


class MailNotTaken(Busy):
    """The mail was not taken; perhaps later."""

    retry_after_s = 30


class MailRefused(Refused):
    """The mail will not be taken, however often it is sent."""


@dataclass(frozen=True)
class Server:
    """An SMTP server, and how to speak to it."""

    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, context: ssl.SSLContext | None = None) -> Server:
        """The server that `url` names; BadMailSettings, which never quotes the password."""
        try:
            parts = urlsplit(url)
            port = parts.port or PORTS[parts.scheme]
        except (ValueError, KeyError):
            raise BadMailSettings() from None
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise BadMailSettings()
        if (parts.username is None) != (parts.password is None):
            raise BadMailSettings("smtp_url has a user without a password, or the reverse.")
        user, password = [one and unquote(one) for one in (parts.username, parts.password)]
        return cls(parts.hostname, port, parts.scheme == "smtps", user, password, context)

    @property
    def start_tls(self) -> bool | None:
        """Required where a password would go over a network; else whenever it is offered."""
        if self.tls:
            return False
        return True if self.password is not None and not _local(self.host) else None

    def connection(self, step_s: float) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            username=self.user,
            password=self.password,
            use_tls=self.tls,
            start_tls=self.start_tls,
            tls_context=self.context,
            local_hostname=_own_name(),
            timeout=step_s,
        )


class Mailer:
    """Sends messages from `sender`, by way of a server or into a folder."""

    def __init__(
        self, sender: str, way: Server | Path, *, step_s: float = STEP_S, whole_s: float = WHOLE_S
    ) -> None:
        self.sender, self.way = sender, way
        self._address = _address(sender)
        self._step_s, self._whole_s = step_s, whole_s

    @classmethod
    def of(cls, *, smtp_url: str | None, mail_from: str, mail_dir: Path) -> Mailer:
        """As the settings say: without a server the mails lie in `mail_dir`."""
        return cls(mail_from, Server.of(smtp_url) if smtp_url else mail_dir)

    async def send(self, mail_id: UUID, message: EmailMessage) -> None:
        """Sends a message to its one recipient; MailNotTaken or MailRefused.

        `mail_id` is the mail's for ever: in a folder it is written once.
        """
        try:
            to = _recipient(message)
            data = message.as_bytes(policy=ON_THE_WIRE)
        except (ValueError, UnicodeError, MessageError) as error:
            raise MailRefused("The message has not one recipient, or cannot be encoded.") from error
        if isinstance(self.way, Path):
            await asyncio.to_thread(_lay, self.way, mail_id, data)
        else:
            await self._post(self.way, to, data)

    async def _post(self, server: Server, to: str, data: bytes) -> None:
        place = f"{server.host}:{server.port}"
        try:
            async with asyncio.timeout(self._whole_s):
                async with server.connection(self._step_s) as connection:
                    await connection.sendmail(self._address, to, data)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _said(error.recipients[0], place) from error
        except (aiosmtplib.SMTPDataError, aiosmtplib.SMTPSenderRefused) as error:
            raise _said(error, place) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            # A login that fails is the operator's to mend: the mail itself is fine.
            raise MailNotTaken(f"{place} did not take the mail: {_short(error)}") from error


def _said(error: aiosmtplib.SMTPResponseException, place: str) -> Busy | Refused:
    """What a server's answer about this mail means (RFC 5321, 4.2.1: 5xx is for ever)."""
    detail = f"{place} says: {error.code} {_short(error)}"
    about_sender = isinstance(error, aiosmtplib.SMTPSenderRefused) and error.code != TOO_LARGE
    if error.code < 500 or about_sender:
        return MailNotTaken(detail)
    return MailRefused(detail)


def _short(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]


def _lay(folder: Path, mail_id: UUID, data: bytes) -> None:
    path = folder / f"{mail_id}.eml"
    if path.exists():
        return
    draft = folder / f".{mail_id}-{secrets.token_hex(4)}"
    try:
        # Tickets lie here: for nobody else's eyes.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync(folder)
    except OSError as error:
        raise MailNotTaken(f"{path} cannot be written: {error.strerror}.") from error


def _sync(folder: Path) -> None:
    """A name that a power cut takes back would be a mail that nobody got."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _recipient(message: EmailMessage) -> str:
    """The one address that the message is to; ValueError."""
    header = message["To"]
    (found,) = header.addresses if isinstance(header, AddressHeader) else ()
    if not (found.username and found.domain and found.addr_spec.isascii()):
        raise ValueError("no address of SMTP's")
    address: str = found.addr_spec
    return address


def _address(sender: str) -> str:
    message = EmailMessage()
    try:
        message["To"] = sender
        return _recipient(message)
    except (ValueError, IndexError, MessageError):
        raise BadMailSettings(f"mail_from is no address: {sender!r}.") from None


def _local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_name() -> str:
    """What this machine calls itself; asking DNS for it would take as long as DNS takes."""
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"
