"""The accounting of the chaos room finds what is planted in its material."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

import pytest

from strongroom.lab.chaos.accounting import Account, Books, Effect, account
from strongroom.lab.chaos.asking import Asked, Heard, Notes
from strongroom.lab.chaos.kills import schedule
from strongroom.lab.trial import Trial
from strongroom.lab.wire import Reply

numbers: Iterator[int] = count()


def reply(status: int, /, **told: object) -> Reply:
    return Reply(status, {"idempotency-replayed": "true"}, json.dumps(told).encode())


def asked(kind: str, effect: str, answer: Reply | None) -> Asked:
    number = next(numbers)
    return Asked(kind, f"POST {number}".encode(), f"key{number}", effect, answer)


def bet(id: str, amount: int = 7) -> tuple[Asked, Effect]:
    words = f"user|round|A|{amount}"
    return asked("bet", words, reply(202, betId=id)), Effect("bet", id, words)


def transfer(id: str) -> tuple[Asked, Effect]:
    one = asked("transfer", "50", reply(201, transferId=id))
    return one, Effect("transfer", id, f"{one.key}|50")


def order(id: str) -> tuple[Asked, Effect]:
    one = asked("order", "buyer", reply(201, orderId=id, code="SON000001", totalAmount=9))
    return one, Effect("order", f"{id}|SON000001|9", "buyer")


def shipped(id: str) -> tuple[Asked, Effect]:
    one = asked("ship", id, reply(200, orderId=id, status="SHIPPED"))
    return one, Effect("step", id, f"{id}|SHIPPED")


class Run:
    """A run in which all is well, until somebody plants something in it."""

    def __init__(self) -> None:
        pairs = [bet("b1"), bet("b2", 8), transfer("t1"), order("o1"), shipped("o1")]
        self.asked = [one for one, _ in pairs]
        self.books = Books(effects=[effect for _, effect in pairs])
        self.books.facts |= {("cancel bet", "b1"), ("pieces", "p1|30")}
        self.asked += [
            asked("cancel bet", "b1", reply(202, betId="b1")),
            asked("stock", "p1|10", reply(201)),
            asked("stock", "p1|20", reply(201)),
            asked("bet", "user|round|B|99", reply(400, code="insufficient_funds")),
            asked("ship", "o2", reply(409, code="wrong_state")),
        ]

    def of(self, kind: str) -> Asked:
        return next(one for one in self.asked if one.kind == kind)

    def account(self) -> Account:
        return account(self.asked, self.books)


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_run_in_which_all_is_well_is_found_to_be_well(run: Run) -> None:
    assert run.account() == Account()


@pytest.mark.parametrize("kind", ["bet", "transfer", "order", "step"])
def test_an_acknowledged_effect_that_is_not_there_is_lost(run: Run, kind: str) -> None:
    (gone, *_) = [one for one in run.books.effects if one.kind == kind]
    run.books.effects.remove(gone)
    found = run.account()
    assert len(found.lost) == 1 and gone.id in found.lost[0]
    assert not found.doubled and not found.wrong


def test_an_acknowledged_effect_under_another_name_is_lost_and_doubled(run: Run) -> None:
    run.books.effects[0] = run.books.effects[0]._replace(id="b9")
    found = run.account()
    assert len(found.lost) == len(found.doubled) == 1 and "b9" in found.doubled[0]


def test_an_effect_with_another_amount_than_was_asked_for_is_found(run: Run) -> None:
    run.books.effects[0] = run.books.effects[0]._replace(said="user|round|A|700")
    found = run.account()
    assert len(found.lost) == len(found.wrong) == 1


def test_a_state_that_was_acknowledged_and_is_not_there_is_lost(run: Run) -> None:
    run.books.facts.remove(("cancel bet", "b1"))
    assert len(run.account().lost) == 1


@pytest.mark.parametrize("place", range(5))
def test_an_effect_that_is_there_twice_is_doubled(run: Run, place: int) -> None:
    again = run.books.effects[place]
    new_name = again.id if again.kind == "step" else f"{again.id}-again"
    if again.kind == "order":
        new_name = "o9|SON000002|9"
    run.books.effects.append(again._replace(id=new_name))
    found = run.account()
    assert len(found.doubled) == 1 and not found.lost and not found.wrong


def test_two_effects_that_were_asked_for_in_the_same_words_are_no_double(run: Run) -> None:
    one, effect = bet("b3")
    run.asked.append(one)
    run.books.effects.append(effect)
    assert run.account() == Account()


def test_the_trace_of_a_refusal_is_found(run: Run) -> None:
    run.books.effects.append(Effect("bet", "b9", "user|round|B|99"))
    run.books.effects.append(Effect("step", "o2", "o2|SHIPPED"))
    found = run.account()
    assert len(found.wrong) == 2 and all(one.startswith("refused") for one in found.wrong)


def test_an_effect_that_nobody_asked_for_is_found(run: Run) -> None:
    run.books.effects.append(Effect("bet", "b9", "stranger|round|B|1"))
    (said,) = run.account().wrong
    assert "nobody was told" in said


def test_a_replay_that_is_not_the_same_bytes_is_found(run: Run) -> None:
    one = run.of("transfer")
    one.heard(reply(201, transferId="t1"))
    assert run.account() == Account()
    one.heard(reply(201, transferId="t2"))
    (said,) = run.account().wrong
    assert "first, then" in said


def test_an_answer_that_came_again_but_not_as_a_replay_is_found(run: Run) -> None:
    run.of("bet").done_anew += 1
    assert len(run.account().wrong) == 1


@pytest.mark.parametrize("answer", [reply(500, code="bug"), reply(404, code="not_found")])
def test_an_answer_that_makes_no_sense_is_found(run: Run, answer: Reply) -> None:
    run.asked.append(asked("bet", "user|round|A|3", answer))
    assert len(run.account().wrong) == 1


def test_too_many_pieces_and_too_few_are_found(run: Run) -> None:
    run.books.facts.remove(("pieces", "p1|30"))
    run.books.facts.add(("pieces", "p1|31"))
    assert len(run.account().wrong) == 1


def test_what_the_books_say_of_themselves_is_found(run: Run) -> None:
    run.books.faults.append("round r1 is CLOSED in the end")
    assert run.account().wrong == ["round r1 is CLOSED in the end"]


def test_an_outcome_that_stayed_unknown_may_be_there_once_and_makes_the_trial_invalid(
    run: Run,
) -> None:
    one, effect = bet("b3", 33)
    one.reply = None
    run.asked.append(one)
    assert run.account() == Account()
    run.books.effects.append(effect)
    assert run.account() == Account()
    run.books.effects.append(effect._replace(id="b4"))
    assert len(run.account().wrong) == 1
    notes = Notes()
    notes.asked = run.asked
    assert notes.unresolved == 1
    trial = Trial(
        row="C1", name="kills", seed=1, faults=9, acknowledged=9_000, unresolved=notes.unresolved
    )
    assert trial.invalid and not trial.held


@pytest.mark.parametrize(
    ("faults", "acknowledged", "said"),
    [(0, 5_000, "no fault was delivered"), (9, 10, "only 10 operations")],
)
def test_a_run_without_faults_or_with_too_few_answers_is_invalid(
    faults: int, acknowledged: int, said: str
) -> None:
    trial = Trial(row="C1", name="kills", seed=1, faults=faults, acknowledged=acknowledged)
    assert said in str(trial.invalid) and not trial.held
    with pytest.raises(AssertionError, match="invalid"):
        trial.assert_held()


def test_of_one_seed_the_kills_are_always_the_same_and_hit_both_kinds() -> None:
    assert schedule(7, 200) == schedule(7, 200) != schedule(8, 200)
    kinds = [due.kind for due in schedule(7, 200)]
    assert 100 <= kinds.count("api") <= 160
    mean = sum(due.pause_s for due in schedule(7, 2_000, 0.5)) / 2_000
    assert 0.45 < mean < 0.55


def test_recovery_counts_from_the_fault_to_the_next_answer_by_that_process() -> None:
    notes = Notes()
    notes.heard = [Heard(1.0, 80, 5.0), Heard(2.0, 81, 7.0), Heard(4.0, 80, 9.0)]
    assert notes.recovered_ms(1.5) == 500
    assert notes.recovered_ms(1.5, 80) == 2_500
    assert notes.recovered_ms(3.0, 81) is None
    assert notes.p99_ms(0.0, 3.0) == 7.0
    assert notes.p99_ms(5.0, 6.0) == 0.0
