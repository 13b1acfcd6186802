"""What is typed into a search, as patterns for the columns that are searched.

Those hold words between spaces, in small letters without diacritics, phone numbers as they are
dialled in Vietnam: ` son000123 0912345678 nguyen van an `, under an index of trigrams.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from strongroom.apps.orders.numbers import number_of

INDEXED = 3
"""Patterns that the index is asked for; the others are compared with what it finds."""

ANYTHING = "%"

# What has a trigram wherever it stands: three letters, or one behind a sign.
_FRAGMENT = re.compile(r"[a-z0-9]{3}|[^a-z0-9][a-z0-9]")
_PHONE = re.compile(r"(?<!\S)\+?\(?\d[\d .()/-]{6,}\d(?!\S)")
_VIETNAM = re.compile(r"\(?(?:(?:\+|00)?84[ .()/-]*0?[ .()/-]*|0)(?=[2-9])")


class Words(NamedTuple):
    """Patterns that all have to fit, the longest first, and the order whose whole code was said.

    A word is found anywhere in another; one of one or two letters where a word begins: with the
    space before them they have a trigram, so that the index knows them.
    """

    patterns: tuple[str, ...]
    number: int | None = None

    @property
    def is_empty(self) -> bool:
        """Signs without a letter or a digit: nothing is found by them."""
        return not self.patterns and self.number is None

    @property
    def indexed(self) -> tuple[str, ...]:
        """The longest patterns, as many as the index is asked for."""
        return (*self.patterns[:INDEXED], *(ANYTHING,) * (INDEXED - len(self.patterns)))


def words_of(plain: str, *, codes: bool = False) -> Words:
    """The words of a text that `search.plain` has made plain.

    >>> words_of("nguyen a 84 912 345 678")
    Words(patterns=('%0912345678%', '%nguyen%', '% a%'), number=None)
    >>> words_of("son000123 50%", codes=True)
    Words(patterns=('% 50\\\\%%',), number=123)
    """
    found, number = set(), None
    for word in _PHONE.sub(_dialled, plain).split():
        named = number_of(word) if codes else None
        if named is not None and number in (None, named):
            number = named
        elif any(map(str.isalnum, word)):
            found.add(_pattern(word.replace("+84", "0", 1) if word.startswith("+84") else word))
    return Words(tuple(sorted(found, key=lambda one: (-len(one), one))), number)


def _pattern(word: str) -> str:
    bare = re.sub(r"([\\%_])", r"\\\1", word)
    return f"%{bare}%" if _FRAGMENT.search(word) else f"% {bare}%"


def _dialled(match: re.Match[str]) -> str:
    """A phone number in one of its spellings; other digits stay as they are."""
    said = match[0]
    prefix = _VIETNAM.match(said)
    digits = re.sub(r"\D", "", said[prefix.end() :] if prefix else said)
    if prefix and 9 <= len(digits) <= 10:
        return f"0{digits}"
    return digits if said.startswith("+") else said
