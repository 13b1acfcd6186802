"""Identity: who asks, proved by a password, a token or an API key.

Promises: a password is stored as argon2id and nothing else; a refresh token works once, its second
use ends the whole session; a revoked session or key is refused at once on every process, and
where a process cannot know, it asks the database (fail closed); an unknown address and a wrong
password look alike, in words and in time. Does not decide what a role may do: the doors do.
"""

from strongroom.core.identity.attempts import TooManyAttempts
from strongroom.core.identity.identity import EmailTaken, Identity, User
from strongroom.core.identity.principal import Principal, Unauthenticated
from strongroom.core.identity.secret import load_or_make_secret
from strongroom.core.identity.tokens import Tokens

__all__ = [
    "EmailTaken",
    "Identity",
    "Principal",
    "Tokens",
    "TooManyAttempts",
    "Unauthenticated",
    "User",
    "load_or_make_secret",
]
