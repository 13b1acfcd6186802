"""Ticket codes, and passes: codes signed so that a scanner needs no network.

A code is 128 random bits in Crockford's base 32, which has neither I, L, O nor U. A pass is the
text of a ticket's QR:

    SR1.  key id (4)  event id (16)  ticket type id (16)  code (16)  Ed25519 signature (64)

in the same base 32: a QR stores these letters in 5.5 bits each where base64 takes 8, no mail
client, shell or URL alters them, and they may be typed in lower case. A signature says that the
ticket was sold, not that nobody has entered with it: that is known where scans are kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from strongroom.core.identity import load_or_make_secret
from strongroom.errors import Invalid, NotFound

CODE_BYTES = 16
"""128 bits: nobody guesses one, however many are sold."""

GROUPS = (5, 5, 6, 5, 5)
"""What people read aloud at a breath."""

KEY_BYTES = 32
"""A seed and a public key of Ed25519 (RFC 8032)."""

KEY_FILE = "ticket_key"

PREFIX = "SR1."
"""The version: other fields or another signature get another one."""

SIGNATURE_BYTES = 64
FIELDS_BYTES = 4 + 3 * 16

LONGEST = 1000
"""Of a text that is looked at; ours have 190 letters."""

PURPOSE = b"strongroom ticket\n" + PREFIX.encode()
"""Signed before the fields: no other text that this key may ever sign is a pass."""

_RFC, _CROCKFORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_OURS = str.maketrans(_RFC, _CROCKFORD)
_THEIRS = str.maketrans(_CROCKFORD, _RFC)
_ALIKE = str.maketrans("OIL", "011")
_BETWEEN = re.compile(r"[\s\-\u2010-\u2015]+")
_LETTERS = re.compile(rf"[{_CROCKFORD}]+")


class BadPass(Invalid):
    """This is not a pass that this installation has signed."""


class MalformedPass(BadPass):
    """This is not the text of a ticket's QR."""


class UnknownKey(BadPass):
    """The pass was signed with a key that is not known here."""


class BadSignature(BadPass):
    """The signature of the pass is false: somebody made or changed it."""


class BadKey(Invalid):
    """A key has 32 bytes, as base64url or, when public, as PEM."""


class NoTicketKey(NotFound):
    """There is no ticket key in the data folder."""


# Codes ------------------------------------------------------------------------------------------


def code_of(secret: bytes) -> str:
    """The code that says these 16 bytes.

    >>> code_of(bytes(range(16)))
    '00041-06105-0R3GG2-8A1C6-0T3GF'
    """
    if len(secret) != CODE_BYTES:
        raise ValueError(f"a code has {CODE_BYTES} bytes")
    return _grouped(_letters(secret))


def normalise(text: str) -> str | None:
    """The code that somebody typed, as `code_of` writes it; None when it is none.

    >>> normalise(" OOO41o6io5or3gg2-8alc6ot3gf ")
    '00041-06105-0R3GG2-8A1C6-0T3GF'
    """
    if len(text) > LONGEST:
        return None
    letters = _BETWEEN.sub("", text).upper().translate(_ALIKE)
    return None if _bytes(letters, CODE_BYTES) is None else _grouped(letters)


def _grouped(letters: str) -> str:
    groups, at = [], 0
    for length in GROUPS:
        groups.append(letters[at : at + length])
        at += length
    return "-".join(groups)


def _letters(data: bytes) -> str:
    """The number that the bytes are, in base 32, with as many digits as they may need."""
    filled = bytes(-len(data) % 5) + data
    digits = -(-8 * len(data) // 5)
    return base64.b32encode(filled).decode("ascii")[-digits:].translate(_OURS)


def _bytes(letters: str, count: int) -> bytes | None:
    """The reverse; None for what `_letters` does not write."""
    if len(letters) != -(-8 * count // 5) or not _LETTERS.fullmatch(letters):
        return None
    filled = "0" * (-len(letters) % 8) + letters
    data = base64.b32decode(filled.translate(_THEIRS))
    return None if any(data[:-count]) else data[-count:]


# Passes -----------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """What a signed QR says."""

    event_id: UUID
    ticket_type_id: UUID
    code: str


def key_id(public_key: bytes) -> bytes:
    """The 4 bytes by which a pass names its key."""
    return hashlib.sha256(public_key).digest()[:4]


class Signer:
    """Signs passes with a seed of 32 bytes; the same ticket always gives the same text."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_BYTES:
            raise BadKey()
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self._id = key_id(self.public_key)

    def sign(self, event_id: UUID, ticket_type_id: UUID, code: str) -> str:
        """The text of the QR; ValueError for what is no code."""
        secret = _bytes(code.replace("-", ""), CODE_BYTES)
        if secret is None:
            raise ValueError("not a ticket code")
        fields = self._id + event_id.bytes + ticket_type_id.bytes + secret
        return PREFIX + _letters(fields + self._key.sign(PURPOSE + fields))


class Verifier:
    """Checks passes with public keys alone; old keys stay beside a new one."""

    def __init__(self, public_keys: Iterable[bytes]) -> None:
        self._keys: dict[bytes, list[Ed25519PublicKey]] = {}
        for key in public_keys:
            if len(key) != KEY_BYTES:
                raise BadKey()
            self._keys.setdefault(key_id(key), []).append(Ed25519PublicKey.from_public_bytes(key))

    def verify(self, text: str) -> Pass:
        """What the pass says; MalformedPass, UnknownKey or BadSignature."""
        text = text[:LONGEST].strip().upper() if text.isascii() else ""
        data = _bytes(text.removeprefix(PREFIX), FIELDS_BYTES + SIGNATURE_BYTES)
        if data is None or not text.startswith(PREFIX):
            raise MalformedPass()
        fields, signature = data[:FIELDS_BYTES], data[FIELDS_BYTES:]
        keys = self._keys.get(fields[:4])
        if not keys:
            raise UnknownKey()
        if not any(_signed(key, fields, signature) for key in keys):
            raise BadSignature()
        event_id, ticket_type_id = UUID(bytes=fields[4:20]), UUID(bytes=fields[20:36])
        return Pass(event_id, ticket_type_id, code_of(fields[36:]))


def _signed(key: Ed25519PublicKey, fields: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, PURPOSE + fields)
    except InvalidSignature:
        return False
    return True


# Keys -------------------------------------------------------------------------------------------


def load_or_make_ticket_key(folder: Path, given: str | None = None) -> bytes:
    """The seed that `given` says, else the one kept in `folder`, which is made on the first call,
    readable by its owner alone. BadKey when either is no seed: a new one would make every ticket
    that was sold worthless."""
    if given is not None:
        return seed_of(given)
    try:
        load_or_make_secret(folder, KEY_FILE)
    except ValueError:
        raise BadKey(f"{folder / KEY_FILE} does not hold a key of {KEY_BYTES} bytes.") from None
    return load_ticket_key(folder)


def seed_of(text: str) -> bytes:
    """A seed in one line of base64url, as the setting `ticket_key` has it; BadKey."""
    return _raw(text)


def load_ticket_key(folder: Path) -> bytes:
    """The seed kept in `folder`; NoTicketKey when there is none, BadKey when it is none."""
    path = folder / KEY_FILE
    try:
        return _raw(path.read_text("ascii"))
    except FileNotFoundError:
        raise NoTicketKey(f"There is no ticket key in {folder}.") from None
    except (UnicodeDecodeError, BadKey):
        raise BadKey(f"{path} does not hold a key of {KEY_BYTES} bytes.") from None


def key_text(public_key: bytes) -> str:
    """A public key in one line of base64url."""
    return base64.urlsafe_b64encode(public_key).decode("ascii").rstrip("=")


def key_pem(public_key: bytes) -> str:
    """A public key as other programs read it (RFC 8410)."""
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def public_key_of(text: str) -> bytes:
    """The key that `key_text` or `key_pem` wrote; BadKey."""
    if "-----" not in text:
        return _raw(text)
    try:
        key = load_pem_public_key(text.encode("ascii"))
    except ValueError as error:
        raise BadKey() from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey("This PEM holds a key of another kind than Ed25519.")
    return key.public_bytes_raw()


def _raw(text: str) -> bytes:
    text = text.strip().rstrip("=")
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise BadKey() from None
    if len(found) != KEY_BYTES:
        raise BadKey()
    return found
