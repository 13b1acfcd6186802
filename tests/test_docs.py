"""The documentation is complete, its links lead somewhere, and what it says to type works."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import typer.testing

import storefront as shop
import strongroom
from boxoffice import new_event, ordered, people_named, reserve, tickets_of
from playing import People, drained, new_round
from strongroom.apps.betting import CancelBet, CloseRound, PlaceBet, RecordResult, VoidRound
from strongroom.apps.betting.fairness import draw, seed_hash
from strongroom.apps.orders.customers import CreateCustomer, EditCustomer
from strongroom.apps.orders.orders import PayOrder
from strongroom.apps.orders.products import EditProduct
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import (
    CancelEvent,
    EditEvent,
    EditTicketType,
    EndEvent,
    PublishEvent,
)
from strongroom.apps.ticketing.reservations import ReleaseReservation
from strongroom.apps.wallets import (
    BatchItem,
    Deposit,
    ReverseTransfer,
    Transfer,
    TransferBatch,
    Withdraw,
)
from strongroom.core.audit import PausePayouts, RecordReconciliation, ResumePayouts
from strongroom.core.audit.limits import SetLimit
from strongroom.core.audit.queues import PauseQueue, ResumeQueue
from strongroom.core.audit.reconcile import CORE
from strongroom.core.db import Database
from strongroom.doors.cli.app import app
from strongroom.doors.cli.event_types import EVENTS
from strongroom.doors.cli.reference import (
    KINDS,
    PAGES,
    PLAIN,
    commands,
    errors_of,
    page,
    slug,
)
from strongroom.doors.http.app import ROUTES
from strongroom.errors import StrongroomError
from strongroom.main import INVARIANTS, SUBSCRIBERS, Strongroom
from strongroom.settings import Settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
SOURCES = Path(strongroom.__file__).parent

PAGES_FOUND = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

IGNORED = {".git", ".venv", "__pycache__", "node_modules", "dist", "site"}

PATIENCE_S = 60


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[Any]:
    """The fenced blocks of a language, each with where it stands."""
    found = []
    for file in PAGES_FOUND:
        text = file.read_text("utf8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{relative(file)}:{line}"))
    return found


# The reference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_makes(name: str) -> None:
    """Else: python -m strongroom.doors.cli.reference docs/reference"""
    assert (REFERENCE / name).read_text("utf8") == page(name)


def test_every_reference_page_is_made() -> None:
    # The mutants' page is made, and held against them, by the lab.
    assert {file.name for file in REFERENCE.iterdir()} == {*PAGES, "mutants.md"}


def documented(name: str) -> str:
    return (REFERENCE / name).read_text("utf8")


def test_every_setting_is_documented_with_its_meaning() -> None:
    rows = documented("settings.md").splitlines()
    for name in Settings.model_fields:
        (row,) = (row for row in rows if row.startswith(f"| `{name}` |"))
        assert len(row.split(" | ")[-1].removesuffix(" |")) > 10


def test_every_setting_is_read_somewhere() -> None:
    code = "".join(
        file.read_text("utf8") for file in SOURCES.rglob("*.py") if file.name != "settings.py"
    )
    unread = [name for name in Settings.model_fields if not re.search(rf"\.{name}\b", code)]
    assert unread == []


def test_every_command_is_documented_with_its_options() -> None:
    text = documented("cli.md")
    for name, command in commands():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        for one in command.params:
            hidden = getattr(one, "hidden", False)
            assert hidden or not one.opts[0].startswith("-") or f"`{one.opts[0]}`" in section


def test_every_route_is_documented() -> None:
    text = documented("http.md")
    for route in ROUTES:
        section = text.partition(f"\n## {route.method} {route.path}\n")[2].partition("\n## ")[0]
        assert route.summary in section
        assert all(f"`{one}`" in section for one in route.problems)


def test_every_path_outside_the_table_is_documented() -> None:
    handlers = (SOURCES / "doors" / "http" / "app.py").read_text("utf8")
    assert set(re.findall(r"_page\(\s*\"([^\"]+)\"", handlers)) == PLAIN.keys()


def test_every_code_that_a_route_names_is_an_error() -> None:
    known = {one.code for one in errors_of(StrongroomError)}
    assert {one for route in ROUTES for one in route.problems} <= known


def test_every_invariant_is_documented() -> None:
    text = documented("invariants.md")
    for queries in (*CORE, *INVARIANTS):
        assert all(f"| `{name}` |" in text for name in queries.sql)


def test_every_error_is_documented() -> None:
    text = documented("errors.md")
    for one in errors_of(StrongroomError):
        if one not in KINDS:
            name = one.code if issubclass(one, KINDS) else one.__name__
            assert f"| `{name}` |" in text


# Events ------------------------------------------------------------------------------------------


def event_names() -> Iterator[str]:
    """What the code says in full where it emits or hands out."""
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf8"))):
            if isinstance(node, ast.Call):
                named = getattr(node.func, "attr", getattr(node.func, "id", ""))
                for one in node.args if named in ("emit", "due") else ():
                    if isinstance(one, ast.Constant) and isinstance(one.value, str):
                        yield one.value


MADE_UP = {
    "betting.RoundSettled",
    "betting.RoundVoided",
    "ticketing.EventEdited",
    "ticketing.EventPublished",
    "ticketing.EventEnded",
    "ticketing.EventCancelled",
    "ticketing.TicketTypeAdded",
    "ticketing.TicketTypeEdited",
    "ticketing.PaymentNotified",
    "orders.ProductCreated",
    "orders.ProductEdited",
    "orders.OrderConfirmed",
    "orders.OrderShipped",
    "orders.OrderDelivered",
    "orders.OrderCancelled",
    "orders.OrderReturned",
    "orders.PaymentNotified",
}
"""Their names are put together where they are emitted."""


def test_every_event_is_documented() -> None:
    assert set(event_names()) | MADE_UP == set(EVENTS)
    heard = {pattern for subscriber in SUBSCRIBERS for pattern in subscriber.patterns}
    assert heard <= set(EVENTS)


async def play_everything(house: Strongroom, people: People) -> None:
    """Whatever a house can do, once or more."""
    run = house.run
    one, other = await people(2)
    moved = await run(Deposit(one, 1_000))
    await run(Withdraw(one, 10))
    await run(Transfer(one, other, 10))
    await run(ReverseTransfer(moved.transfer_id, "a trial"))
    await run(TransferBatch("independent", (BatchItem("a", one, other, 1),)))
    settled, flipped, void = [
        await new_round(house, kind) for kind in ("oracle", "coinflip", "oracle")
    ]
    for round_id in (settled, flipped, void):
        await run(PlaceBet(one, round_id, "A", 100))
        await run(PlaceBet(other, round_id, "B", 150))
    alone = await run(PlaceBet(one, settled, "A", 5))
    await run(CancelBet(one, alone.bet_id))
    await drained(house)
    for round_id in (settled, flipped):
        await run(CloseRound(round_id))
    await run(RecordResult(settled, "A"))
    await run(VoidRound(void))
    await drained(house)
    await run(PausePayouts("a trial"))
    looked = await house.look()
    await run(RecordReconciliation(looked.report))
    assert await house.seal(looked) == 1
    await run(ResumePayouts("a trial"))
    await run(PauseQueue("betting_match", "a trial"))
    await run(ResumeQueue("betting_match", "a trial"))
    await run(SetLimit("writes.deadline_ms", 1_000, "a trial"))


async def play_the_box_office(house: Strongroom, owner: Database) -> None:
    """Whatever becomes of an event, once or more."""
    run = house.run
    (buyer,) = await people_named(owner, 1)
    show = await new_event(house, 9, publish=False)
    await run(EditEvent(show.id, name="another name"))
    await run(EditTicketType(show.id, show.type, quantity=10))
    await run(PublishEvent(show.id))
    held = await reserve(house, buyer, (show.type, 1))
    await run(ReleaseReservation(buyer, held.reservation_id))
    order = await ordered(house, (show.type, 2), user=buyer)
    await drained(house)
    code, _ = await tickets_of(house, order.order)
    await run(CheckIn(code, "A"))
    await run(CancelEvent(show.id))
    refusing = await new_event(house, 1, price=REFUSED)
    await ordered(house, (refusing.type, 1), user=buyer)
    await drained(house)
    await run(EndEvent(refusing.id))


async def play_the_shop(house: Strongroom) -> None:
    """Whatever becomes of an order, once or more."""
    shirt = await shop.new_product(house)
    await house.run(EditProduct(shirt, name="another name"))
    customer = await house.run(CreateCustomer("+84987654321", "Trần Văn Minh"))
    await house.run(EditCustomer(customer.customer_id, name="another name"))
    cash = await shop.place(house, (shirt, 1))
    await shop.take(house, cash.order_id, "confirm", "ship", "deliver", "return")
    paid = await shop.place(house, (shirt, 1), method="MOMO")
    refused = await shop.place(
        house, (await shop.new_product(house, price=REFUSED), 1), method="CARD"
    )
    await drained(house)
    await shop.take(house, paid.order_id, "cancel")
    await house.run(PayOrder(refused.order_id, None, "COD"))
    await drained(house)


REFUSED = 14_001
"""A price that the sandbox refuses."""

RARE = {"betting.MatchingDue", "betting.RefundsDue", "ticketing.CancellationDue"}
"""Said only when a round has thousands of bets, an event hundreds of orders."""


async def test_events_carry_what_is_documented(
    house: Strongroom, people: People, owner: Database
) -> None:
    await play_everything(house, people)
    await play_the_box_office(house, owner)
    await play_the_shop(house)
    seen = {}
    for row in await owner.fetch("SELECT DISTINCT ON (type) type, payload FROM events.log"):
        seen[row["type"]] = set(msgspec.json.decode(row["payload"]))
    wanted = {
        name: {field.encode_name for field in msgspec.structs.fields(payload)}
        for name, (_, payload) in EVENTS.items()
    }
    assert seen == {name: fields for name, fields in wanted.items() if name not in RARE}


# What the pages say -----------------------------------------------------------------------------


def anchors(file: Path) -> set[str]:
    return {
        slug(line.lstrip("# ")) for line in file.read_text("utf8").splitlines() if line[:1] == "#"
    }


@pytest.mark.parametrize("file", PAGES_FOUND, ids=relative)
def test_every_link_leads_somewhere(file: Path) -> None:
    text = re.sub(r"^```.*?^```", "", file.read_text("utf8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path) if path else file
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), target


@pytest.mark.parametrize("file", PAGES_FOUND, ids=relative)
def test_every_test_that_a_page_names_is_there(file: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", file.read_text("utf8")):
        text = (ROOT / path).read_text("utf8")
        assert f"def {name}(" in text or not name, name


def test_the_navigation_lists_every_page() -> None:
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf8"), re.M)
    assert sorted(listed) == sorted(
        file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")
    )


@pytest.mark.parametrize("name", ["demo.svg", "status.svg"])
def test_a_picture_needs_nothing_from_elsewhere(name: str) -> None:
    picture = (DOCS / name).read_text("utf8").replace("http://127.0.0.1:8000", "here")
    assert set(re.findall(r"https?://[^\s\"']+", picture)) == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in picture and "@import" not in picture


def test_every_id_of_an_invariant_that_the_readme_names_exists() -> None:
    known = {why.partition(":")[0] for one in (*CORE, *INVARIANTS) for why in one.why.values()}
    section = (ROOT / "README.md").read_text("utf8").partition("## What it guarantees")[2]
    named = re.findall(r"\b[A-Z]\d+\b", section.partition("\n## ")[0])
    assert len(named) > 20 and set(named) <= known


def test_decisions_have_their_parts() -> None:
    for number, file in enumerate(sorted((DOCS / "decisions").iterdir()), 1):
        text = file.read_text("utf8")
        assert text.startswith(f"# {number:04}: ") and file.name.startswith(f"{number:04}-")
        parts = [text.find(part) for part in ("\n> ", "**Context.**", "**Decision.**", "**Cons")]
        assert -1 not in parts and parts == sorted(parts)


# What is to be typed ----------------------------------------------------------------------------


def typed(text: str) -> list[str]:
    """Lines, with those that go on joined."""
    return text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("block", blocks("sh"))
def test_commands_that_are_to_be_typed_exist(block: str) -> None:
    known = dict(commands())
    for line in typed(block):
        for rest in re.findall(r"(?:^|[ (])strongroom((?: [^|;)>#]*)?)", line):
            check_command(rest.split(), known)


def check_command(words: list[str], known: dict[str, Any]) -> None:
    if not words:
        return
    name = next((f"strongroom {' '.join(words[:n])}" for n in (2, 1) if _is(words, n, known)), None)
    assert name, words
    options = {option for one in known[name].params for option in (*one.opts, *one.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options


def _is(words: list[str], count: int, known: dict[str, Any]) -> bool:
    return len(words) >= count and f"strongroom {' '.join(words[:count])}" in known


@pytest.mark.parametrize("block", blocks("sh"))
def test_targets_and_files_that_are_to_be_typed_exist(block: str) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf8"), re.M)
    for line in typed(block):
        assert set(re.findall(r"^make (\w+)", line)) <= set(targets)
        for path in re.findall(r"\b((?:tests|docs)/[\w/.]+)", line):
            assert (ROOT / path).exists()


@pytest.mark.parametrize("block", blocks("sh"))
def test_requests_that_are_to_be_typed_have_a_route(block: str) -> None:
    shapes = [(one.method, re.sub(r"\{\w+\}", "[^/]+", one.path)) for one in ROUTES]
    for line in typed(block):
        for path in re.findall(r"(?:\$URL|http://127\.0\.0\.1:8000)(/api/[\w$/-]+)", line):
            said = re.search(r" -X (\w+)", line)
            method = said[1] if said else "POST" if " -d " in line else "GET"
            assert any(one == method and re.fullmatch(shape, path) for one, shape in shapes), path


def test_the_readme_begins_with_its_two_commands() -> None:
    for name in ("README.md", "README.vi.md"):
        text = (ROOT / name).read_text("utf8")
        assert re.search(r"^```sh\n(.*?)```", text, re.M | re.S)[1] == "make demo\nmake test\n"


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    ran = typer.testing.CliRunner().invoke(app, [*name.split()[1:], "--help"])
    assert ran.exit_code == 0
    assert "Example:" in ran.output


@pytest.mark.parametrize("block", blocks("python"))
def test_python_on_a_page_compiles_and_imports_what_there_is(block: str) -> None:
    tree = ast.parse(block)
    compile(block, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, one.name) for one in node.names)


@pytest.mark.parametrize("block", blocks("toml"))
def test_settings_on_a_page_fit(block: str) -> None:
    given = tomllib.loads(block)
    found = Settings(**given)
    assert given
    assert {name: getattr(found, name) for name in given} == given


def programs() -> list[Any]:
    found = []
    for file in PAGES_FOUND:
        text = file.read_text("utf8")
        for said, code in re.findall(
            r"<!-- runs: (.*) -->\n```python\n(.*?)^```", text, re.M | re.S
        ):
            found.append(pytest.param(code, said, id=relative(file)))
    return found


@pytest.mark.parametrize(("code", "said"), programs())
def test_a_program_on_a_page_runs(code: str, said: str, database_url: str, tmp_path: Path) -> None:
    here = {
        "PYTHONPATH": str(SOURCES.parent),
        "STRONGROOM_DATABASE_URL": database_url,
        "STRONGROOM_DATA_DIR": str(tmp_path),
    }
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | here,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert said in ran.stdout


def test_the_draws_on_the_page_are_those_of_the_program() -> None:
    (code,) = (one.values[0] for one in blocks("python") if "def winner" in one.values[0])
    page: dict[str, Any] = {}
    exec(code, page)
    for number in range(50):
        seed, match_id = bytes([number]) * 32, uuid4()
        assert page["winner"](seed.hex(), str(match_id)) == draw(seed, match_id)
        assert page["is_the_published_one"](seed.hex(), seed_hash(seed).hex())


# The repository ---------------------------------------------------------------------------------


def all_files() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            one for one in folders if one not in IGNORED and (one == ".ci" or one[0] != ".")
        ]
        yield from (Path(folder) / one for one in files if not one.startswith("."))


def test_no_file_knows_a_machine_or_a_task_left_over() -> None:
    # Put together, or this file would be found.
    strange = re.compile(rf"/{'work'}/|/{'root'}/|/{'home'}/\w|\b{'TO'}{'DO'}\b".encode())
    faults = [relative(file) for file in all_files() if strange.search(file.read_bytes())]
    assert faults == []


def test_the_licence_is_there_in_full() -> None:
    text = (ROOT / "LICENSE").read_text("utf8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert len(text.splitlines()) > 190
