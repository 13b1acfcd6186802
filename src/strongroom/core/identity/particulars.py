"""What somebody says about themselves when they register, and what of it is taken."""

from __future__ import annotations

import re
import unicodedata

from strongroom.errors import Invalid

EMAIL_LENGTH = 254
"""The longest path of RFC 5321, less its angle brackets."""

LOCAL_LENGTH = 64
"""RFC 5321, 4.5.3.1.1."""

PASSWORD_LENGTH = (8, 128)
"""NIST SP 800-63B: at least 8, and 64 or more have to be taken."""

NAME_LENGTH = 200

_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")


def address(email: str) -> str | None:
    """The address in its one form, lower case; None when it is none.

    ASCII only: Python and Postgres would not agree on the lower case of everything else, and
    look-alikes would be different people.
    """
    if not email.isascii() or len(email) > 2 * EMAIL_LENGTH:
        return None
    found = email.strip(" ").lower()
    if len(found) > EMAIL_LENGTH or found.find("@") > LOCAL_LENGTH or not _EMAIL.fullmatch(found):
        return None
    return found


def checked(email: str, password: str, full_name: str) -> tuple[str, str]:
    """The address and the name as they are kept; Invalid names each field that does not fit."""
    errors = []
    found = address(email)
    if found is None:
        errors.append({"field": "email", "message": "This is not an email address."})
    least, most = PASSWORD_LENGTH
    if not least <= len(password) <= most or not _encodes(password):
        message = f"A password has {least} to {most} characters."
        errors.append({"field": "password", "message": message})
    name = unicodedata.normalize("NFC", full_name.strip())
    harmless = name.isprintable() and not name.startswith(("=", "+", "@")) and "<" not in name
    if not 1 <= len(name) <= NAME_LENGTH or not harmless:
        message = f"A name has 1 to {NAME_LENGTH} printable characters."
        errors.append({"field": "fullName", "message": message})
    if errors or found is None:
        raise Invalid("The registration does not fit.", errors)
    return found, name


def _encodes(text: str) -> bool:
    """Lone surrogates are no characters."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
