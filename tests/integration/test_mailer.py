"""Mail over real sockets to a real SMTP server, and into a folder on a real disk."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import resource
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from strongroom.core.mail import BadMailSettings, Mailer, MailNotTaken, MailRefused
from strongroom.core.mail.mailer import Server
from strongroom.errors import Busy, Refused

# This server may be as careless as it likes: it listens to this machine alone.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

MAIL = UUID("0198c0de-0000-7000-8000-000000000004")
SENDER = "Nhà hát Lớn <ve@strongroom.example>"
PASSWORD = "p@ss:w/rd%"


def message(to: str = "Ngô Bảo Châu <chau@example.vn>", body: str = "Xin chào.\n") -> EmailMessage:
    made = EmailMessage()
    made["Subject"] = "Vé của bạn"
    made["From"] = SENDER
    made["To"] = to
    made["Message-ID"] = f"<{MAIL}@strongroom.example>"
    made.set_content(body)
    return made


class Inbox:
    """What a server does with a mail: it keeps it, or says what it was told to say."""

    def __init__(self) -> None:
        self.says: dict[str, str] = {}
        self.taken: list[Any] = []
        self.secured: list[bool] = []

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.says.get("MAIL", "250 OK")

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if "RCPT" in self.says:
            return self.says["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if "DATA" not in self.says:
            self.taken.append(envelope)
            self.secured.append(session.ssl is not None)
        return self.says.get("DATA", "250 taken")


@contextlib.asynccontextmanager
async def served(
    inbox: Inbox, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[int]:
    """A real SMTP server, on a port that it chose."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(inbox, hostname="here", loop=loop, **options), "127.0.0.1", 0, ssl=tls
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def mailer_at(port: int, *, user: str = "", step_s: float = 10, whole_s: float = 20) -> Mailer:
    server = Server.of(f"smtp://{user}127.0.0.1:{port}")
    return Mailer(SENDER, server, step_s=step_s, whole_s=whole_s)


# Over SMTP --------------------------------------------------------------------------------------


async def test_a_mail_arrives_as_it_was_sent(inbox: Inbox) -> None:
    async with served(inbox) as port:
        await mailer_at(port).send(MAIL, message(body="Xin chào.\n.\n.. dots\nend\n"))
    (envelope,) = inbox.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("ve@strongroom.example", ["chau@example.vn"])
    arrived = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert arrived["Subject"] == "Vé của bạn"
    assert arrived["Message-ID"] == f"<{MAIL}@strongroom.example>"
    assert arrived["To"].addresses[0].display_name == "Ngô Bảo Châu"
    assert arrived.get_content().replace("\r\n", "\n") == "Xin chào.\n.\n.. dots\nend\n"


@pytest.mark.parametrize("step", ["RCPT", "DATA"])
@pytest.mark.parametrize("code", ["550 no such mailbox", "554 we do not want this"])
async def test_what_is_refused_for_ever_is_not_worth_another_try(
    inbox: Inbox, step: str, code: str
) -> None:
    inbox.says[step] = code
    async with served(inbox) as port:
        with pytest.raises(MailRefused, match=code) as refused:
            await mailer_at(port).send(MAIL, message())
    assert isinstance(refused.value, Refused)
    assert inbox.taken == []


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("MAIL", "451 try later"),
        ("RCPT", "450 greylisted"),
        ("DATA", "452 no room"),
        ("MAIL", "550 not from you"),
    ],
)
async def test_what_may_be_taken_later_is_worth_another_try(
    inbox: Inbox, step: str, code: str
) -> None:
    mailer_says = code.partition(" ")[2]
    inbox.says[step] = code
    async with served(inbox) as port:
        mailer = mailer_at(port)
        with pytest.raises(MailNotTaken, match=mailer_says) as busy:
            await mailer.send(MAIL, message())
        assert isinstance(busy.value, Busy) and busy.value.retry_after_s > 1
        inbox.says.clear()
        await mailer.send(MAIL, message())
    assert len(inbox.taken) == 1


async def test_a_mail_that_is_too_large_is_refused_for_ever(inbox: Inbox) -> None:
    async with served(inbox, data_size_limit=1000) as port:
        with pytest.raises(MailRefused, match="552"):
            await mailer_at(port).send(MAIL, message(body="x" * 10_000))


@contextlib.asynccontextmanager
async def speaking(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server on a port that it chose, that says what it likes."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await speak(reader, writer)
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


GREETING = b"220 here\r\n"


@pytest.mark.parametrize("at", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "end"])
async def test_a_server_that_hangs_up_is_tried_again(at: str) -> None:
    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if at == "greeting":
            return
        writer.write(GREETING)
        while line := await reader.readline():
            verb = line[:4].decode().strip().upper()
            if verb == at:
                return
            writer.write(b"354 go on\r\n" if verb == "DATA" else b"250 OK\r\n")
            if verb == "DATA":
                await reader.readuntil(b"\r\n.\r\n")
                return

    async with speaking(hangs_up) as port:
        with pytest.raises(MailNotTaken, match=f"127.0.0.1:{port}"):
            await mailer_at(port).send(MAIL, message())


async def test_a_mail_that_was_taken_is_sent_though_the_farewell_fails() -> None:
    taken: list[bytes] = []

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"QUIT":
                return
            writer.write(b"354 go on\r\n" if verb == b"DATA" else b"250 OK\r\n")
            if verb == b"DATA":
                taken.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250 taken\r\n")

    async with speaking(rude) as port:
        await mailer_at(port).send(MAIL, message())
    assert len(taken) == 1


async def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with speaking(silent) as port:
        with pytest.raises(MailNotTaken):
            await mailer_at(port, step_s=0.1).send(MAIL, message())


async def test_a_server_that_never_ends_is_not_waited_for() -> None:
    """Each line comes within the time of a step."""

    async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            writer.write(b"220-and another thing\r\n")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.02)

    async with speaking(talkative) as port:
        with pytest.raises(MailNotTaken):
            await mailer_at(port, step_s=5, whole_s=0.3).send(MAIL, message())


async def test_a_port_where_nobody_listens_is_tried_again() -> None:
    async with speaking(lambda reader, writer: asyncio.sleep(0)) as port:
        pass
    with pytest.raises(MailNotTaken):
        await mailer_at(port).send(MAIL, message())


@pytest.mark.parametrize("to", ["a@example.vn, b@example.vn", "", "é@example.vn", "nobody"])
async def test_a_mail_without_one_address_is_refused_before_it_travels(
    inbox: Inbox, to: str
) -> None:
    async with served(inbox) as port:
        with pytest.raises(MailRefused):
            await mailer_at(port).send(MAIL, message(to))
    assert inbox.taken == []


# Passwords and TLS ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signed itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + made.public_bytes(Encoding.PEM))
    return path


def own_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def knows(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
    right = isinstance(given, LoginPassword) and given.password == PASSWORD.encode()
    return AuthResult(success=right, handled=right)


@pytest.mark.parametrize("scheme", ["smtps", "smtp"])
async def test_a_password_travels_under_tls(inbox: Inbox, certificate: Path, scheme: str) -> None:
    own = own_context(certificate)
    tls = {"tls": own} if scheme == "smtps" else {"tls_context": own}
    trusting = ssl.create_default_context(cafile=certificate)
    url = f"{scheme}://till%40house:p%40ss%3Aw%2Frd%25@localhost"
    async with served(
        inbox,
        authenticator=knows,
        auth_required=True,
        auth_require_tls=scheme == "smtp",
        **tls,
    ) as port:
        server = Server.of(f"{url}:{port}", trusting)
        assert (server.user, server.password) == ("till@house", PASSWORD)
        await Mailer(SENDER, server).send(MAIL, message())
    assert len(inbox.taken) == 1
    assert scheme == "smtps" or inbox.secured == [True]


@pytest.mark.parametrize("scheme", ["smtps", "smtp"])
async def test_a_server_with_an_unknown_certificate_gets_nothing(
    inbox: Inbox, certificate: Path, scheme: str
) -> None:
    own = own_context(certificate)
    tls = {"tls": own} if scheme == "smtps" else {"tls_context": own}
    async with served(inbox, **tls) as port:
        with pytest.raises(MailNotTaken, match=r"(?i)certificate"):
            await Mailer(SENDER, Server.of(f"{scheme}://localhost:{port}")).send(MAIL, message())
    assert inbox.taken == []


async def test_a_wrong_password_is_for_the_operator_to_mend(inbox: Inbox) -> None:
    rules = {"auth_required": True, "auth_require_tls": False}
    async with served(inbox, authenticator=knows, **rules) as port:
        with pytest.raises(MailNotTaken) as error:
            await mailer_at(port, user="till:wrong@").send(MAIL, message())
    assert "535" in str(error.value.__cause__.args) and "wrong" not in error.value.detail
    assert inbox.taken == []


@pytest.mark.parametrize(
    ("url", "start_tls"),
    [
        ("smtp://u:p@mail.example.vn", True),
        ("smtp://mail.example.vn", None),
        ("smtp://u:p@127.0.0.1", None),
        ("smtp://u:p@localhost", None),
        ("smtp://u:p@[::1]:25", None),
        ("smtp://u:p@10.0.0.1", True),
        ("smtps://u:p@mail.example.vn", False),
    ],
)
def test_a_password_never_crosses_a_network_in_the_clear(url: str, start_tls: bool | None) -> None:
    assert Server.of(url).start_tls is start_tls


async def test_a_server_without_tls_never_hears_the_password() -> None:
    heard: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        while line := await reader.readline():
            heard.append(line)
            more = line[:4].upper() == b"EHLO"
            writer.write(b"250-here\r\n250 AUTH PLAIN LOGIN\r\n" if more else b"250 OK\r\n")

    async with speaking(plain) as port:
        # A name that is no loopback address, at this machine.
        server = Server.of(f"smtp://till:secret@0.0.0.0:{port}")
        assert server.start_tls is True
        with pytest.raises(MailNotTaken):
            await Mailer(SENDER, server).send(MAIL, message())
    assert heard
    assert not any(b"AUTH" in line for line in heard)


# Settings ---------------------------------------------------------------------------------------


def test_ports_are_those_of_submission() -> None:
    assert (Server.of("smtp://a.vn").port, Server.of("smtps://a.vn").port) == (587, 465)
    assert Server.of("smtp://a.vn:2525/").port == 2525


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.example.vn",
        "http://mail.example.vn",
        "smtp://",
        "smtp://u:secret@",
        "smtp://u:secret@host:99999",
        "smtp://u:secret@host:port",
        "smtp://secret@host",
        "smtp://u:secret@host/path",
        "smtp://u:secret@host?tls=no",
        "smtp://u:sec/ret@host",
    ],
)
def test_a_bad_url_is_refused_without_quoting_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadMailSettings) as error:
        Server.of(url)
    assert "secret" not in error.value.detail
    if url:
        with pytest.raises(BadMailSettings):
            Mailer.of(smtp_url=url, mail_from=SENDER, mail_dir=tmp_path)


@pytest.mark.parametrize(
    "sender", ["", "nobody", "a@b.vn, c@d.vn", "a@b.vn\r\nBcc: c@d.vn", "é@b.vn"]
)
def test_a_sender_without_an_address_is_refused(sender: str, tmp_path: Path) -> None:
    with pytest.raises(BadMailSettings):
        Mailer.of(smtp_url=None, mail_from=sender, mail_dir=tmp_path)


def test_a_server_does_not_show_its_password() -> None:
    assert "secret" not in repr(Server.of("smtp://u:secret@host"))


# Into a folder ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "mail"


def send_into(folder: Path, *messages: EmailMessage) -> None:
    """Sends them all at once, under one id."""

    async def send() -> None:
        mailers = [Mailer.of(smtp_url=None, mail_from=SENDER, mail_dir=folder) for _ in messages]
        await asyncio.gather(*map(Mailer.send, mailers, [MAIL] * len(messages), messages))

    asyncio.run(send())


def test_without_a_server_a_mail_lies_in_the_folder(folder: Path) -> None:
    send_into(folder, message())
    (file,) = folder.iterdir()
    assert file.name == f"{MAIL}.eml"
    assert file.read_bytes() == message().as_bytes(policy=email.policy.SMTP)
    laid = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert laid["Subject"] == "Vé của bạn"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_mail_that_is_sent_again_lies_there_once(folder: Path) -> None:
    send_into(folder, message())
    (file,) = folder.iterdir()
    before = file.stat()
    send_into(folder, message(body="other\n"))
    assert [one.stat() for one in folder.iterdir()] == [before]


def test_many_who_send_one_mail_leave_one_whole_file(folder: Path) -> None:
    whole = message(body=("x" * 60 + "\n") * 5_000)
    send_into(folder, *[whole] * 20)
    (file,) = folder.iterdir()
    assert file.read_bytes() == whole.as_bytes(policy=email.policy.SMTP)


def test_a_folder_that_cannot_be_written_is_tried_again(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("in the way")
    with pytest.raises(MailNotTaken, match="cannot be written"):
        send_into(folder, message())
    folder.unlink()
    send_into(folder, message())
    assert len(list(folder.iterdir())) == 1


def test_a_disk_without_room_is_left_without_half_a_mail(folder: Path) -> None:
    """The system refuses a file of more than 4 KiB, as it would when a quota is used up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(MailNotTaken, match="cannot be written"):
            send_into(folder, message(body="x\n" * 10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(folder.iterdir()) == []
