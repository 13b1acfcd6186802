"""Scenarios as data, thresholds as text: what they mean, and what is said of those that do not
fit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from strongroom.lab.load.arrivals import Closed, Once, paced
from strongroom.lab.load.plans import NoSuchPlan, PlanUnfit, plan_of, plans
from strongroom.lab.load.targets import (
    AddressRefused,
    Far,
    Person,
    TokensUnfit,
    UrlUnfit,
    address_of,
    people_in,
)
from strongroom.lab.load.thresholds import ThresholdUnfit, limit_of


def test_the_shipped_scenarios_are_those_of_the_specification() -> None:
    found = plans()
    expected = {"burst", "crowd", "sustained", "ramp", "spam", "rush", "shop", "mixed"}
    assert set(found) == expected
    shapes = {
        name: one.streams[0].arrivals(one.users, one.seconds)
        for name, one in found.items()
        if len(one.streams) == 1
    }
    assert shapes["burst"] == shapes["rush"] == Once(1000)
    assert shapes["sustained"] == paced([200], 60)
    assert shapes["ramp"] == paced([200, 500, 1000], 60)
    assert shapes["spam"] == Closed(50, 50)
    assert {one.requests for one in found["mixed"].streams} == {
        *("bets", "wallet-read", "transfers", "reservations", "orders")
    }


def test_numbers_of_a_scenario_can_be_changed() -> None:
    plan = plan_of("sustained", users=40, seconds=10, warmup_s=0)
    assert plan.streams[0].arrivals(plan.users, plan.seconds) == paced([40], 10)
    assert plan_of("spam", count=20, together=5, funded=3).streams[0].arrivals(1, 0) == Closed(
        20, 5
    )
    ramp = plan_of("sustained", per_second=[10, 20], seconds=4)
    assert ramp.streams[0].arrivals(ramp.users, 4) == paced([10, 20], 4)


@pytest.mark.parametrize(
    ("scenario", "changes", "said"),
    [
        ("burst", {"users": 0}, "1 to 100,000 users"),
        ("burst", {"per_second": [5.0]}, "has nothing to which `per_second` applies"),
        ("ramp", {"count": 5}, "has nothing to which `count` applies"),
        ("burst", {"seconds": 5}, "has nothing to which `seconds` applies"),
        ("burst", {"seats": 5}, "has nothing to which `seats` applies"),
        ("rush", {"stock": 5}, "has nothing to which `stock` applies"),
        ("shop", {"funded": 5}, "has nothing to which `funded` applies"),
        ("ramp", {"per_second": [0.0]}, "a rate above zero"),
        ("sustained", {"seconds": 0}, "needs `seconds` above zero"),
        ("rush", {"seats": 0}, "need `seats`"),
        ("shop", {"stock": 0}, "a `stock` of each"),
        ("mixed", {"users": 1}, "need two users"),
    ],
)
def test_what_does_not_fit_a_scenario_is_said(
    scenario: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(PlanUnfit, match=said):
        plan_of(scenario, **changes)


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(NoSuchPlan, match=r"no scenario brust\. There are: burst, crowd"):
        plan_of("brust")


MINE = """
[mine]
says = "Two a second."
users = 3
seconds = 1
thresholds = ["bets.p99_ms<=100"]
[[mine.streams]]
name = "bets"
requests = "bets"
shape = "paced"
per_second = [2]
"""


def test_scenarios_of_ones_own_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MINE)
    (plan,) = plans(file).values()
    assert plan == plan_of("mine", file)
    assert [one.name for one in plan.limits] == ["bets.p99_ms"]


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("users = 3", "users = 'many'", "mine.*users|users"),
        ("users = 3", "usres = 3", "unknown field `usres`"),
        ('"bets"\nshape', '"best"\nshape', "`requests` is one of"),
        ("bets.p99", "tickets.p99", "about no stream"),
        ("p99_ms<=", "p98_ms<=", "there is no figure p98_ms"),
        ("[mine]", "[mine", "mine.toml"),
    ],
)
def test_a_file_that_does_not_fit_is_told_where(
    tmp_path: Path, was: str, now: str, said: str
) -> None:
    file = tmp_path / "mine.toml"
    assert was in MINE
    file.write_text(MINE.replace(was, now))
    with pytest.raises((PlanUnfit, ThresholdUnfit), match=said):
        plans(file)
    with pytest.raises(PlanUnfit, match="No such file"):
        plans(tmp_path / "other.toml")


def test_a_threshold_is_kept_or_broken_by_what_was_measured() -> None:
    figures = {"p99_ms": 500.0, "bets.p99_ms": 501.0, "per_second": 999.0}
    stands = [limit_of(one).of(figures) for one in ("p99_ms<=500", "bets.p99_ms<=500")]
    assert [one and one.kept for one in stands] == [True, False]
    held = limit_of(" per_second >= 1000 ").of(figures)
    assert held is not None
    assert (held.asked, held.measured, held.kept) == ("per_second >= 1000", 999.0, False)
    assert limit_of("drained_s<5").of(figures) is None


@pytest.mark.parametrize(
    "text", ["", "p99_ms", "p99_ms<=fast", "p99_ms=5", "queue<=5", "a.drained_s<1"]
)
def test_a_threshold_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ThresholdUnfit):
        limit_of(text)


def test_only_this_machine_is_loaded_unless_its_owner_says_so() -> None:
    assert address_of("http://127.0.0.1:8000", owned=False) == ("127.0.0.1", 8000)
    assert address_of("http://[::1]:81/", owned=False) == ("::1", 81)
    with pytest.raises(AddressRefused, match="--i-own-this-host"):
        address_of("http://192.0.2.7:8000", owned=False)
    assert address_of("http://192.0.2.7", owned=True) == ("192.0.2.7", 80)


@pytest.mark.parametrize("url", ["https://127.0.0.1", "127.0.0.1:8000", "http://", "http://a:b"])
def test_a_url_that_cannot_be_loaded_is_refused(url: str) -> None:
    with pytest.raises(UrlUnfit):
        address_of(url, owned=True)


def test_tokens_are_read_as_the_command_line_prints_them(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text('{"userId":"u1","accessToken":"t1"}\n{"userId":"u2","accessToken":"t2"}\n')
    assert [one.token for one in people_in(file)] == ["t1", "t2"]
    file.write_text("t1\n")
    with pytest.raises(TokensUnfit, match="strongroom users create"):
        people_in(file)


def test_more_users_than_a_file_has_or_can_be_registered_are_refused() -> None:
    some = [Person("u1", "t1"), Person("u2", "t2")]
    far = Far("http://127.0.0.1:1", "token", some, owned=False)
    assert len(asyncio.run(far.people(2))) == 2
    far = Far("http://127.0.0.1:1", "token", some, owned=False)
    with pytest.raises(TokensUnfit, match="3 users are needed, the file has 2"):
        asyncio.run(far.people(3))
    far = Far("http://127.0.0.1:1", "token", [], owned=False)
    with pytest.raises(TokensUnfit, match="users create --count 501"):
        asyncio.run(far.people(501))
