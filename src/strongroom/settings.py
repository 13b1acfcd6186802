"""Settings: `strongroom.toml`, then the environment (`STRONGROOM_*`), then flags; the last wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

DEFAULT_DATA_DIR = Path(".strongroom")

PREFIX = "STRONGROOM_"

NO_SETTINGS = ("STRONGROOM_TOKEN", "STRONGROOM_CAMPAIGN", "STRONGROOM_PART")
"""Names of another kind: the token of `audit --token`, and what `make campaign` tells its parts."""

NO_SETTINGS_BEGIN = ("STRONGROOM_RESOLVED", "STRONGROOM_TEST_")
"""Beginnings of such names: what `up` hands to its children, and what the tests are told."""

RATE = re.compile(r"[1-9]\d{0,5}/([1-9]\d{0,3} )?(second|minute|hour|day)s?").fullmatch


def _rate(text: str) -> str:
    # Not by the library that reads it later: importing that takes a short command's time twice.
    if not RATE(text):
        raise PydanticCustomError("rate", "A limit is written like 300/minute or 5/5 minutes")
    return text


Rate = Annotated[str, AfterValidator(_rate)]
"""So many in so long: `300/minute`, `5/5 minutes`."""


class Settings(BaseSettings):
    """What an installation may choose. Defaults are tier 1: one machine, embedded Postgres."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, toml_file="strongroom.toml", extra="forbid"
    )

    data_dir: Path = Field(
        default=DEFAULT_DATA_DIR,
        description="Where the embedded server, its secrets and logs live.",
    )
    database_url: str | None = Field(
        default=None, description="Any Postgres 16 or newer instead of the embedded one."
    )
    owner_url: str | None = Field(
        default=None,
        description="Who migrates, when that is another login than `database_url`.",
    )
    environment: Literal["development", "production"] = Field(
        default="development",
        description="`production` refuses `users create`, and payments by the built-in sandbox.",
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port of the API; 0 takes a free one."
    )
    api_processes: int = Field(
        default=1, ge=1, le=64, description="API processes that share the port."
    )
    workers: int = Field(default=1, ge=0, le=64, description="Worker processes.")
    pool_size: int = Field(default=10, ge=3, le=200, description="Database connections a process.")
    token_secret: str | None = Field(
        default=None,
        min_length=32,
        description="Key of the access tokens; by default made once and kept in the data folder.",
    )
    ticket_key: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{43}=?$",
        description="Seed of the Ed25519 key that signs tickets, 32 bytes in base64url; made once "
        "by default and kept in the data folder.",
    )
    ticket_keys_before: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{43}=?(,[A-Za-z0-9_-]{43}=?)*$",
        description="Public keys, between commas, whose tickets still open the door though they "
        "are no longer signed with: those of `tickets public-key` before a change of `ticket_key`.",
    )
    smtp_url: str | None = Field(
        default=None,
        pattern=r"^smtps?://[^\s/?#]+/?$",
        description="Mail server, `smtp://user:password@host:587` or `smtps://…`; without one "
        "mails lie in `mail_dir`.",
    )
    mail_from: str = Field(
        default="Strongroom <tickets@strongroom.invalid>",
        pattern=r"^[^\r\n]*[^\s@]@[^\s@]+$",
        description="Sender of the mails.",
    )
    mail_dir: Path | None = Field(
        default=None, description="Where mails lie as .eml; by default `mail` in the data folder."
    )
    mail_pdf: bool = Field(
        default=False,
        description="Attach the tickets as a PDF too: needs the extra `pdf`, and takes five times "
        "the computing of a mail without.",
    )
    sandbox_secret: str | None = Field(
        default=None,
        min_length=32,
        description="Key of the built-in payment provider's callbacks; made once by default.",
    )
    access_token_ttl_s: int = Field(
        default=900, ge=1, le=900, description="Life of an access token."
    )
    refresh_token_ttl_s: int = Field(
        default=30 * 86400, ge=60, description="Life of a refresh token."
    )
    rate_limits: Literal["on", "off"] = Field(default="on", description="`off` for load tests.")
    rate_limit_global: Rate = Field(
        default="300/minute",
        description="All requests of one caller to one API process, as `300/minute` or `5/5 "
        "minutes`.",
    )
    rate_limit_auth: Rate = Field(
        default="5/5 minutes",
        description="Failed logins as one user from one address; six times as many as any users.",
    )
    rate_limit_orders: Rate = Field(
        default="20/minute", description="Orders of one caller to one API process."
    )
    rate_limit_reports: Rate = Field(
        default="10/minute", description="Reports for one caller by one API process."
    )
    write_deadline_ms: int = Field(default=2000, ge=50, description="Longest wait of a write.")
    read_deadline_ms: int = Field(default=1000, ge=50, description="Longest wait of a read.")
    request_timeout_s: int = Field(
        default=20,
        ge=1,
        description="How long a client may take to send the head of a request, and its body; each "
        "64 KiB of a body get a second more.",
    )
    idle_timeout_s: int = Field(
        default=60,
        ge=1,
        description="How long a connection on which nothing is asked stays open; longer than that "
        "of a balancer in front.",
    )
    hsts_max_age_s: int = Field(
        default=0,
        ge=0,
        description="Of the header Strict-Transport-Security, where TLS stands in front; 0 sends "
        "none.",
    )
    group_limit: int = Field(
        default=512, ge=1, le=4096, description="Commands that commit together."
    )
    bet_pending_timeout_s: int = Field(
        default=300, ge=1, description="A bet that found no counterpart is given back after this."
    )
    reservation_ttl_s: int = Field(
        default=600, ge=1, le=86_400, description="How long reserved seats wait for their order."
    )
    reservations_per_event: Literal["limit", "one"] = Field(
        default="limit",
        description="`one` allows a user one reservation of an event at a time; `limit` as many "
        "as the ticket types' limits do.",
    )
    order_payment_ttl_s: int = Field(
        default=86_400,
        ge=1,
        le=30 * 86_400,
        description="How long an order waits to be paid or confirmed before it lapses.",
    )
    order_codes: Literal["gaps", "gapless"] = Field(
        default="gaps",
        description="`gapless` numbers orders without a gap: their groups commit one after the "
        "other, on all processes.",
    )
    key_retention_days: int = Field(
        default=30, ge=1, description="How long answers are kept for replay."
    )
    max_attempts: int = Field(default=8, ge=1, description="Tries before a message is buried.")
    reconcile_at: str = Field(
        default="0 2 * * *",
        description="Cron line of the incremental reconciliation: of what is new, and of a share "
        "of what is sealed. It is full while a full one takes no minute.",
    )
    reconcile_full_at: str = Field(
        default="0 3 * * 0", description="Cron line of the full reconciliation."
    )
    reseal_days: int = Field(
        default=30,
        ge=0,
        le=3650,
        description="Incremental reconciliations read all that is sealed again once in so many "
        "days, a share in each; 0 reads all of it each time.",
    )
    backup_dir: Path | None = Field(
        default=None,
        description="Where backups lie and `up` keeps the embedded server's log; on another disk "
        "than the data folder. Without it there are none.",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        description="Address on which each process tells its metrics; they name no user, and "
        "need no token.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_000,
        description="Port of the metrics of the first process, the next ones take the next; 0 "
        "takes free ones, which `up` notes in `prometheus/targets.json` of the data folder.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least grave lines that are logged."
    )
    log_requests: Literal["on", "off"] = Field(
        default="off",
        description="`on` logs a line for each request, not only for those that fail or are slow.",
    )
    slow_request_ms: int = Field(
        default=1000, ge=1, description="A request that takes longer is logged as slow."
    )
    slow_group_ms: int = Field(
        default=500,
        ge=1,
        description="A group of commands that takes longer explains itself in the log.",
    )
    otlp_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$",
        description="Collector of traces that speaks OTLP over HTTP, as `http://127.0.0.1:4318`; "
        "needs the extra `otel`. Without one nothing is traced.",
    )
    trace_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="The share of requests that are traced, 1 for all of them.",
    )

    @property
    def archives(self) -> bool:
        """Whether an `up` is meant to keep the server's log in the backups."""
        return self.backup_dir is not None and not self.database_url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def unknown_names(environment: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names in the environment that look like settings and are none, each with the nearest one
    that is. They are not refused: a shell may hold names for other programs."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    for name in sorted(environment):
        given = name.upper()  # settings are found whatever the case
        if not given.startswith(PREFIX) or given in known or given in NO_SETTINGS:
            continue
        if not given.startswith(NO_SETTINGS_BEGIN):
            (nearest,) = get_close_matches(given, known, n=1, cutoff=0)
            yield name, nearest
