"""What answers tell browsers: constant headers, so that they cost next to nothing.

Nothing here is shown within another page, kept by a cache, or told to another site. What differs
says so in its own headers, which come first.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence

Header = tuple[bytes, bytes]

NOSNIFF = ("x-content-type-options", "nosniff")

CLOSE: Header = (b"connection", b"close")
"""Of the last answer on its connection."""

NO_STORE = (b"cache-control", b"no-store")
"""Nearly all that is answered is somebody's, or out of date by the next second."""

DATA_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""Of what is no page: should a browser take it for one, it can do nothing there."""

DATA: tuple[Header, ...] = (NO_STORE, DATA_POLICY)
"""Of JSON. Each header costs an answer a microsecond, and what follows only matters to what a page
can show or lead away from."""

NO_REFERRER = (b"referrer-policy", b"no-referrer")

SAME_ORIGIN = (b"cross-origin-resource-policy", b"same-origin")
"""Another site's page may not load it, not even as a picture that it cannot read."""

OPENER = (b"cross-origin-opener-policy", b"same-origin")
"""Of pages: a window that opened this one, or was opened by it, gets no hold of it."""

SHOWN: tuple[Header, ...] = (*DATA, NO_REFERRER, SAME_ORIGIN)
"""Of pages, pictures and files."""


def of_every_answer(hsts_max_age_s: int) -> list[tuple[str, str]]:
    """What the server writes before the headers of every answer, whoever makes it."""
    hsts = ("strict-transport-security", f"max-age={hsts_max_age_s}")
    return [NOSNIFF, *([hsts] if hsts_max_age_s else [])]


STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


def style_of(page: bytes) -> str:
    """The one style sheet of a page of ours, as a policy names it: by its hash."""
    found = STYLE.search(page)
    assert found is not None, "the page has a style sheet"
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1]).digest()).decode()}'"


def page_policy(style: str, images: str = "", forms: str = "'none'") -> Header:
    """The policy of a page that runs no script: its own style sheet, pictures and forms only
    where the page needs them."""
    said = ["default-src 'none'", f"style-src {style}", *([f"img-src {images}"] if images else [])]
    said += [f"form-action {forms}", "base-uri 'none'", "frame-ancestors 'none'"]
    return b"content-security-policy", "; ".join(said).encode()


def completed(own: Sequence[Header]) -> Iterable[Header]:
    """The headers of a page or a file: its own, and those that it does not set itself."""
    names = {name for name, _ in own}
    return (*own, *(one for one in SHOWN if one[0] not in names))
