"""Ticket codes and signed passes: what is written can be read, and nothing else can."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import re
import secrets
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
import structlog
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from strongroom.apps.ticketing.codes import (
    PURPOSE,
    BadKey,
    BadPass,
    BadSignature,
    MalformedPass,
    NoTicketKey,
    Pass,
    Signer,
    UnknownKey,
    Verifier,
    code_of,
    key_id,
    key_pem,
    key_text,
    load_or_make_ticket_key,
    load_ticket_key,
    normalise,
    public_key_of,
    seed_of,
)
from strongroom.doors.cli import tickets
from strongroom.doors.cli.flags import Commands
from strongroom.errors import Invalid

EVENT = UUID("0198c0de-0000-7000-8000-000000000001")
KIND = UUID("0198c0de-0000-7000-8000-000000000002")
CODE = code_of(bytes(range(16)))
SIGNER = Signer(bytes(32))
VERIFIER = Verifier([SIGNER.public_key])
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

secrets_of_16 = st.binary(min_size=16, max_size=16)


# Codes ------------------------------------------------------------------------------------------


@given(secrets_of_16)
def test_a_code_is_written_in_letters_that_do_not_look_alike(secret: bytes) -> None:
    groups = code_of(secret).split("-")
    assert [len(one) for one in groups] == [5, 5, 6, 5, 5]
    assert set("".join(groups)) <= set(LETTERS)


@given(secrets_of_16, secrets_of_16)
def test_two_secrets_never_have_one_code(one: bytes, other: bytes) -> None:
    assert (code_of(one) == code_of(other)) == (one == other)


def test_a_code_is_the_number_that_its_bytes_are() -> None:
    number = 0
    for letter in code_of(b"\x01" * 16).replace("-", ""):
        number = number * 32 + LETTERS.index(letter)
    assert number.to_bytes(16) == b"\x01" * 16


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_code_of_other_than_128_bits_is_not_made(length: int) -> None:
    with pytest.raises(ValueError):
        code_of(bytes(length))


@given(secrets_of_16, st.data())
def test_a_code_is_known_however_it_is_typed(secret: bytes, data: st.DataObject) -> None:
    typed = ""
    for letter in code_of(secret):
        if letter == "-":
            typed += data.draw(st.sampled_from(["", "-", " ", " - ", "–", "\u00a0"]))
            continue
        alike = {"0": "0Oo", "1": "1ILil"}.get(letter, letter + letter.lower())
        typed += data.draw(st.sampled_from(alike))
    assert normalise(f"  {typed}\n") == code_of(secret)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        CODE[:-1],
        CODE + "0",
        "8" + CODE[1:],  # 2^128 and more
        "U" + CODE[1:],
        CODE[:-1] + "*",
        CODE[:-1] + "\x00",
        CODE[:-1] + "\u0661",  # a digit elsewhere
        "0" * 10_000_000,
        "' OR 1=1--",
    ],
)
def test_what_is_no_code_is_none(text: str) -> None:
    assert normalise(text) is None


@given(st.text())
def test_any_text_is_a_code_or_none(text: str) -> None:
    found = normalise(text)
    assert found is None or normalise(found) == found


# Passes -----------------------------------------------------------------------------------------


@given(st.uuids(), st.uuids(), secrets_of_16, secrets_of_16.map(lambda one: one * 2))
def test_a_pass_says_what_was_signed(event: UUID, kind: UUID, secret: bytes, seed: bytes) -> None:
    signer = Signer(seed)
    text = signer.sign(event, kind, code_of(secret))
    assert Verifier([signer.public_key]).verify(text) == Pass(event, kind, code_of(secret))


def test_a_pass_is_short_and_fits_what_a_qr_stores_best() -> None:
    text = SIGNER.sign(EVENT, KIND, CODE)
    assert len(text) == 190
    assert re.fullmatch(r"SR1\.[0-9A-Z]+", text)


def test_the_same_ticket_always_has_the_same_pass() -> None:
    assert SIGNER.sign(EVENT, KIND, CODE) == Signer(bytes(32)).sign(EVENT, KIND, CODE)


def test_a_pass_is_what_its_description_says() -> None:
    """Written again from the words, so that a scanner in another language can be."""
    number = 0
    for letter in SIGNER.sign(EVENT, KIND, CODE).removeprefix("SR1."):
        number = number * 32 + LETTERS.index(letter)
    data = number.to_bytes(116)
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    assert data[:4] == hashlib.sha256(public).digest()[:4] == key_id(public)
    assert data[4:52] == EVENT.bytes + KIND.bytes + bytes(range(16))
    key.public_key().verify(data[52:], b"strongroom ticket\nSR1." + data[:52])


def test_a_pass_of_today_is_valid_tomorrow() -> None:
    """Sold tickets outlive this program: this text must verify for ever."""
    sold = (
        "SR1.0KKRWM00CRR3F0003G0200000000000081K30DW000E008000000000002000G40R40M30E2"
        "09185GR38E1ZA9C2M3ARWMDRKG15WK8CAF7628VSXA1BWKYTZXF4P7QRMC06MFY138XRWWQ94QD0"
        "1QD69YM5XJCH89MBG2XMWTCRQ3D0NSAFVTR00B"
    )
    assert VERIFIER.verify(sold) == (EVENT, KIND, CODE)
    assert SIGNER.sign(EVENT, KIND, CODE) == sold


@given(st.integers(0, 185), st.sampled_from(LETTERS))
def test_a_pass_with_one_letter_changed_is_not_valid(at: int, letter: str) -> None:
    text = SIGNER.sign(EVENT, KIND, CODE)
    changed = text[: 4 + at] + letter + text[5 + at :]
    if changed == text:
        assert VERIFIER.verify(changed)
    else:
        with pytest.raises(BadPass):
            VERIFIER.verify(changed)


@given(st.text() | st.text(LETTERS, min_size=186, max_size=186).map("SR1.".__add__))
def test_no_text_but_a_pass_is_valid(text: str) -> None:
    with pytest.raises(BadPass):
        VERIFIER.verify(text)


@pytest.mark.parametrize(
    "text",
    ["", "SR1.", "SR2." + "0" * 186, "SR1." + "Z" * 186, CODE, "ſR1." + "0" * 186, "0" * 10**7],
)
def test_what_is_no_pass_is_malformed(text: str) -> None:
    with pytest.raises(MalformedPass):
        VERIFIER.verify(text)


def test_a_pass_of_another_house_names_another_key() -> None:
    with pytest.raises(UnknownKey):
        VERIFIER.verify(Signer(b"\x01" * 32).sign(EVENT, KIND, CODE))
    with pytest.raises(UnknownKey):
        Verifier([]).verify(SIGNER.sign(EVENT, KIND, CODE))


def test_a_pass_that_another_key_signed_in_our_name_is_false() -> None:
    forger = Signer(b"\x01" * 32)
    forger._id = key_id(SIGNER.public_key)
    with pytest.raises(BadSignature):
        VERIFIER.verify(forger.sign(EVENT, KIND, CODE))


def test_a_signature_for_another_purpose_makes_no_pass() -> None:
    careless = Signer(bytes(32))
    key = careless._key

    class Bare:
        def sign(self, data: bytes) -> bytes:
            return key.sign(data.removeprefix(PURPOSE))

    careless._key = Bare()  # type: ignore[assignment]
    with pytest.raises(BadSignature):
        VERIFIER.verify(careless.sign(EVENT, KIND, CODE))


def test_every_way_to_be_bad_is_invalid_and_told_apart() -> None:
    kinds = (MalformedPass, UnknownKey, BadSignature)
    assert all(issubclass(one, BadPass) and issubclass(one, Invalid) for one in kinds)
    assert len({one().detail for one in kinds}) == len({one.code for one in kinds}) == 3


def test_keys_that_share_an_id_are_both_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.apps.ticketing.codes.key_id", lambda key: b"same")
    one, other = Signer(b"\x01" * 32), Signer(b"\x02" * 32)
    verifier = Verifier([one.public_key, other.public_key])
    for signer in (one, other):
        assert verifier.verify(signer.sign(EVENT, KIND, CODE)).code == CODE


def test_an_old_key_stays_valid_beside_a_new_one() -> None:
    old, new = Signer(b"\x01" * 32), Signer(b"\x02" * 32)
    verifier = Verifier([new.public_key, old.public_key])
    assert verifier.verify(old.sign(EVENT, KIND, CODE)) == (EVENT, KIND, CODE)


def test_a_pass_may_be_typed_in_lower_case_with_blanks_around() -> None:
    text = SIGNER.sign(EVENT, KIND, CODE)
    assert VERIFIER.verify(f" {text.lower()}\r\n") == (EVENT, KIND, CODE)


def test_only_a_code_is_signed() -> None:
    for text in ("", CODE[:-1], CODE.lower(), "SR1."):
        with pytest.raises(ValueError):
            SIGNER.sign(EVENT, KIND, text)


# Keys -------------------------------------------------------------------------------------------


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    seed = load_or_make_ticket_key(folder)
    assert load_or_make_ticket_key(folder) == load_ticket_key(folder) == seed
    assert len(seed) == 32
    assert [one.name for one in folder.iterdir()] == ["ticket_key"]
    assert stat.S_IMODE((folder / "ticket_key").stat().st_mode) == 0o600
    assert load_or_make_ticket_key(tmp_path / "other") != seed


def test_all_who_start_together_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: load_or_make_ticket_key(tmp_path), range(64)))
    assert len(set(made)) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["ticket_key"]


def test_a_key_that_was_given_is_used_and_leaves_no_file(tmp_path: Path) -> None:
    seed = secrets.token_bytes(32)
    text = base64.urlsafe_b64encode(seed).decode()
    assert load_or_make_ticket_key(tmp_path, text) == seed == seed_of(text.rstrip("="))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "short", "!" * 43, "é" * 43, "A" * 44])
def test_a_file_without_a_key_is_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "ticket_key").write_text(content, "utf8")
    with pytest.raises(BadKey, match="ticket_key"):
        load_or_make_ticket_key(tmp_path)
    assert (tmp_path / "ticket_key").read_text("utf8") == content


def test_reading_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(NoTicketKey):
        load_ticket_key(tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(secrets_of_16.map(lambda one: Signer(one * 2).public_key))
def test_a_public_key_is_read_as_it_is_written(key: bytes) -> None:
    assert public_key_of(key_text(key)) == public_key_of(key_pem(key)) == key


def test_a_key_of_another_kind_is_refused() -> None:
    other = X25519PrivateKey.generate().public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (pem, "", "nonsense", pem[:40], "-----BEGIN PUBLIC KEY-----\né"):
        with pytest.raises(BadKey):
            public_key_of(text)
    for key in (b"", bytes(31)):
        with pytest.raises(BadKey):
            Signer(key)
        with pytest.raises(BadKey):
            Verifier([key])


# The command line -------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`command("verify", …)`: exit code, stdout, stderr, with an instance of its own."""
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.command("verify")(tickets.verify)
    app.command("public-key")(tickets.public_key)
    for name in [one for one in os.environ if one.startswith("STRONGROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def command(*args: str, stdin: str = "", at: Path = tmp_path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        done = CliRunner().invoke(app, [*args, "--data-dir", str(at)], input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    kept = structlog.get_config(), logging.root.handlers[:], logging.root.level
    yield command
    structlog.configure(**kept[0])
    logging.root.handlers[:] = kept[1]
    logging.root.setLevel(kept[2])


def test_a_ticket_is_verified_with_the_key_of_the_data_folder(command, tmp_path: Path) -> None:
    text = Signer(load_or_make_ticket_key(tmp_path)).sign(EVENT, KIND, CODE)
    exit_code, out, _ = command("verify", text, "--json")
    assert exit_code == 0
    assert json.loads(out) == {
        "valid": True,
        "eventId": str(EVENT),
        "ticketTypeId": str(KIND),
        "ticketCode": CODE,
    }


@pytest.mark.parametrize("form", [key_text, key_pem])
@pytest.mark.parametrize("in_file", [True, False])
def test_a_ticket_is_verified_with_a_public_key_alone(
    command, tmp_path: Path, form, in_file: bool
) -> None:
    given = form(SIGNER.public_key)
    if in_file:
        (tmp_path / "key.txt").write_text(given + "\n")
        given = "key.txt"
    text = SIGNER.sign(EVENT, KIND, CODE)
    assert command("verify", text, "--public-key", given, at=tmp_path / "none")[0] == 0


def test_one_bad_ticket_among_good_ones_is_named(command) -> None:
    good = SIGNER.sign(EVENT, KIND, CODE)
    lines = [good, "", good[:-1] + ("0" if good[-1] != "0" else "1"), CODE, "x"]
    exit_code, out, _ = command(
        "verify", "-", "--json", "--public-key", key_text(SIGNER.public_key), stdin="\n".join(lines)
    )
    found = [json.loads(line) for line in out.splitlines()]
    assert exit_code == 1
    assert [one["valid"] for one in found] == [True, False, False, False]
    assert [one["code"] for one in found[1:]] == [
        "bad_signature",
        "malformed_pass",
        "malformed_pass",
    ]
    assert "without its signature" in found[2]["detail"]


def test_a_table_shows_what_is_valid_and_what_is_not(command) -> None:
    key = key_text(SIGNER.public_key)
    exit_code, out, _ = command(
        "verify", SIGNER.sign(EVENT, KIND, CODE), "\x1b[31m[red]", "--public-key", key
    )
    assert exit_code == 1
    assert "Valid" in out and "Not valid" in out and "[red]" in out
    assert "\x1b[31m" not in out
    assert all(whole in out for whole in (CODE, str(EVENT), str(KIND)))


@pytest.mark.parametrize(
    "args", [["-"], ["x", "--public-key", "nonsense"], ["x", "--public-key", "x" * 5000], []]
)
def test_what_cannot_be_asked_is_a_matter_of_usage(
    command, args: list[str], tmp_path: Path
) -> None:
    load_or_make_ticket_key(tmp_path)
    assert command("verify", *args)[0] == 2


def test_a_folder_without_a_key_says_so_and_gets_none(command, tmp_path: Path) -> None:
    for args in (["verify", "x"], ["public-key"]):
        exit_code, out, said = command(*args)
        assert (exit_code, out) == (1, "")
        assert "no_ticket_key" in said and "strongroom up" in said
    assert list(tmp_path.iterdir()) == []


def test_a_key_of_the_settings_is_used_before_that_of_the_folder(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_or_make_ticket_key(tmp_path)
    monkeypatch.setenv("STRONGROOM_TICKET_KEY", key_text(bytes(32)))
    assert public_key_of(command("public-key")[1]) == SIGNER.public_key
    assert command("verify", SIGNER.sign(EVENT, KIND, CODE))[0] == 0
    for nonsense in ("nonsense", "nonsense!" * 5):
        monkeypatch.setenv("STRONGROOM_TICKET_KEY", nonsense)
        exit_code, out, said = command("public-key")
        assert exit_code in (1, 2) and out == "" and "nonsense" not in said


def test_the_public_key_is_printed_and_the_seed_is_not(command, tmp_path: Path) -> None:
    seed = load_or_make_ticket_key(tmp_path)
    key = Signer(seed).public_key
    exit_code, out, said = command("public-key")
    assert (exit_code, public_key_of(out)) == (0, key)
    found = json.loads(command("public-key", "--json")[1])
    assert found == {
        "keyId": key_id(key).hex(),
        "publicKey": key_text(key),
        "pem": key_pem(key),
    }
    secret = (tmp_path / "ticket_key").read_text()
    assert secret not in out + said + found["pem"]
