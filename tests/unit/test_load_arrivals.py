"""When requests arrive: the instants of a shape, and how they are dealt out."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from strongroom.lab.load.arrivals import (
    Closed,
    Once,
    Paced,
    Shape,
    Stretch,
    instants,
    lasts_s,
    paced,
    part_of,
    said_of,
    warmed,
)

SHAPES: list[Shape] = [
    paced([200], 5),
    paced([200, 500, 1000], 3),
    paced([50, 250], 4, smooth=True),
    paced([0.5], 7),
    Once(503),
]


def test_a_constant_rate_is_as_many_as_its_product_at_even_distances() -> None:
    found = list(instants(paced([200], 5)))
    assert len(found) == 1000
    assert found[0] == pytest.approx(0.0025)
    distances = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert distances == {0.005}
    assert 0 <= found[0] <= found[-1] < 5


def test_steps_bring_each_rate_for_its_time() -> None:
    found = Counter(int(at) for at in instants(paced([200, 500, 1000], 6)))
    assert found == {0: 200, 1: 200, 2: 500, 3: 500, 4: 1000, 5: 1000}


def test_a_smooth_ramp_comes_ever_faster_and_adds_up_to_its_area() -> None:
    found = list(instants(paced([50, 250], 4, smooth=True)))
    assert len(found) == 600
    distances = [b - a for a, b in itertools.pairwise(found)]
    assert all(a > b for a, b in itertools.pairwise(distances))
    # N(2 s) = 50·2 + (200/4)·2²/2
    assert sum(at < 2 for at in found) == 200


def test_a_ramp_begins_at_nothing_and_ends_there() -> None:
    up_and_down = Paced([Stretch(0, 100, 2), Stretch(100, 0, 2)])
    found = list(instants(up_and_down))
    assert len(found) == 200
    assert sorted(found) == found
    assert all(0 <= at <= 4 for at in found)


def test_all_of_a_burst_come_at_the_same_instant() -> None:
    assert list(instants(Once(5000))) == [0.0] * 5000


@pytest.mark.parametrize("shares", [2, 3, 7])
@pytest.mark.parametrize("shape", SHAPES, ids=said_of)
def test_shares_together_are_the_whole_and_each_instant_is_of_one(
    shape: Shape, shares: int
) -> None:
    dealt = [list(instants(shape, share=one, shares=shares)) for one in range(shares)]
    assert sorted(at for share in dealt for at in share) == pytest.approx(list(instants(shape)))
    assert [len(one) for one in dealt] == [
        part_of(sum(map(len, dealt)), one, shares) for one in range(shares)
    ]


def test_a_warm_up_comes_before_zero_and_changes_nothing_behind_it() -> None:
    shape = paced([100, 300], 2)
    found = list(instants(warmed(shape, 1.5)))
    assert sum(at < 0 for at in found) == 150
    assert found[0] == pytest.approx(-1.495)
    assert [at for at in found if at >= 0] == pytest.approx(list(instants(shape)))
    assert warmed(Once(3), 1.5) == Once(3)


def test_streams_with_other_phases_never_come_together() -> None:
    one, other = (set(instants(paced([100], 1), phase=phase)) for phase in (0.25, 0.75))
    assert not one & other
    assert len(one) == len(other) == 100


def test_the_closed_form_has_no_instants() -> None:
    assert list(instants(Closed(50, 10))) == []
    assert lasts_s(Closed(50, 10)) == 0


def test_a_shape_is_said_in_words() -> None:
    assert said_of(paced([200, 500, 1000], 3)) == "200 → 500 → 1,000 a second"
    assert said_of(paced([50, 250], 4, smooth=True)) == "50 → 250 a second"
    assert said_of(Once(500)) == "500 at once"
    assert said_of(Closed(50, 10)) == "50, 10 at a time"
    assert lasts_s(paced([200, 500], 4)) == 4
