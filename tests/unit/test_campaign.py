"""The campaign: its table is that of the proofs, a part runs once, a failure is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from strongroom.lab import campaign as lab
from strongroom.lab.campaign import PROOFS, PROOFS_OF, Campaign, Part, Proof, Summary
from strongroom.lab.machine import machine
from strongroom.lab.trial import Evidence, Trial

ROOT = Path(__file__).parents[2]

ROWS = [
    "C1",
    "C2",
    "C3",
    "C4",
    "C5",
    "C6",
    "C11",
    "C12",
    "C18",
    "C19",
    "C20",
    "C22",
    "C24",
    "C25",
    "M",
]
"""The matrix of proofs."""

NO_ROW = {"test_guards.py": "tests that kill mutants of row M, each by its name"}
"""Files of proofs without a row, with the reason."""

PROOF = Proof(("C4",), "cuts", "test_commit_cuts.py", 3, "some")
OTHER = Proof(("C2", "C3"), "statements", "test_every_statement.py", 1, "all")

KEEPS = """
import os, pathlib, sys
folder = pathlib.Path(os.environ["STRONGROOM_CAMPAIGN"])
part = int(os.environ["STRONGROOM_PART"])
(folder / f"C4-cuts-{part:03}.json").write_bytes(pathlib.Path(sys.argv[1]).read_bytes())
"""


def trial(row: str = "C4", **more: object) -> Trial:
    whole = {"faults": 500, "acknowledged": 4000, "unknown": 250, **more}
    return Trial(row=row, name="cuts", seed=1, **whole)  # type: ignore[arg-type]


def keep(folder: Path, part: int, of: Trial, commit: str = "abc") -> None:
    """As a part that came to its end would."""
    interrupted(folder, part, of, commit)
    (folder / f"ended-{of.row}-{part:03}.txt").write_text(f"commit {commit}\n")


def interrupted(folder: Path, part: int, of: Trial, commit: str = "abc") -> None:
    """As a part would that had more to do."""
    one = Evidence.of(of)
    one.commit = commit
    one.keep(folder / f"{of.row}-{of.name}-{part:03}.json")


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path / "kept", [PROOF, OTHER], "abc-dirty")


def test_every_row_of_the_matrix_has_its_file_and_every_file_its_row() -> None:
    assert [row for proof in PROOFS_OF for row in proof.rows] == ROWS
    named = {proof.file for proof in PROOFS_OF}
    there = {file.name for file in (ROOT / PROOFS).glob("test_*.py")}
    assert there - NO_ROW.keys() == named
    assert NO_ROW.keys() <= there


def test_a_part_that_has_run_on_this_commit_is_not_run_again(campaign: Campaign) -> None:
    assert [part.number for part in campaign.parts() if part.proof is PROOF] == [0, 1, 2]
    keep(campaign.folder, 1, trial())
    keep(campaign.folder, 2, trial(), commit="another")
    interrupted(campaign.folder, 0, trial())
    left = [part.name for part in campaign.left(campaign.parts())]
    assert left == ["C4-000", "C4-002", "C2-000"]
    assert campaign.summary().rows[0].faults == 500, "what was interrupted does not count"


def test_a_part_is_told_its_number_and_where_its_evidence_belongs(
    campaign: Campaign, tmp_path: Path
) -> None:
    keep(tmp_path, 0, trial())
    source = str(tmp_path / "C4-cuts-000.json")
    assert campaign.run(Part(PROOF, 2), [sys.executable, "-c", KEEPS, source])
    assert campaign.left([Part(PROOF, 1), Part(PROOF, 2)]) == [Part(PROOF, 1)]
    kept = {"C4-cuts-002.json", "ended-C4-002.txt"}
    assert {file.name for file in campaign.folder.iterdir()} == kept


def test_a_part_needs_evidence_of_each_of_its_rows(campaign: Campaign, tmp_path: Path) -> None:
    keep(tmp_path, 0, trial())
    source = str(tmp_path / "C4-cuts-000.json")
    only_one = KEEPS.replace("C4-", "C2-")
    assert not campaign.run(Part(OTHER, 0), [sys.executable, "-c", only_one, source])
    assert campaign.failed(Part(OTHER, 0))


def test_what_a_failed_part_printed_is_kept_and_it_is_not_tried_until_it_passes(
    campaign: Campaign,
) -> None:
    part = Part(PROOF, 0)
    assert not campaign.run(part, [sys.executable, "-c", "print('seen'); raise SystemExit(3)"])
    kept = (campaign.folder / "failed-C4-000.txt").read_text()
    assert kept == "commit abc\nexit code 3\n\nseen\n"
    assert campaign.left([part]) == [] and campaign.failed(part)
    elsewhere = Campaign(campaign.folder, [PROOF], "another")
    assert elsewhere.left([part]) == [part] and not elsewhere.failed(part)
    keep(campaign.folder, 0, trial())
    summary = campaign.summary()
    assert summary.failed == ["C4-000"] and not summary.held
    assert not summary.rows[0].held, "the evidence held, and yet something else did not"


def test_a_part_that_left_no_evidence_has_not_held(campaign: Campaign) -> None:
    """As where its proof was skipped, or is of another row."""
    assert not campaign.run(Part(PROOF, 0), [sys.executable, "-c", "print('1 skipped')"])
    kept = (campaign.folder / "failed-C4-000.txt").read_text()
    assert kept == "commit abc\nleft no evidence\n\n1 skipped\n"


def test_a_part_that_is_stuck_is_stopped_in_order(campaign: Campaign) -> None:
    stuck = """
import threading
try:
    print("begun", flush=True)
    threading.Event().wait()
finally:
    print("ended in order", flush=True)
"""
    assert not campaign.run(Part(PROOF, 0), [sys.executable, "-c", stuck], within_s=2.0)
    kept = (campaign.folder / "failed-C4-000.txt").read_text()
    assert kept.startswith("commit abc\nstopped after 2 s\n\nbegun\n") and "ended in order" in kept


def test_the_sum_of_a_row_is_that_of_its_parts(campaign: Campaign) -> None:
    keep(campaign.folder, 0, trial(recovery_ms=[100.0, 900.0], what={"cut before": 250}))
    keep(campaign.folder, 1, trial(recovery_ms=[200.0], what={"cut before": 251}))
    row = campaign.summary().rows[0]
    assert (row.parts, row.wanted, row.faults, row.acknowledged) == (2, 3, 1000, 8000)
    assert (row.unknown, row.lost, row.bound, row.held) == (500, 0, 0.003, True)
    assert (row.recovery_ms, row.longest_ms, row.what) == (200.0, 900.0, {"cut before": 501})


@pytest.mark.parametrize(
    "flaw", [{"lost": 1}, {"doubled": 1}, {"violations": ["x"]}, {"faults": 0}]
)
def test_one_bad_part_is_enough_for_a_row_not_to_hold(
    campaign: Campaign, flaw: dict[str, object]
) -> None:
    for part in range(3):
        keep(campaign.folder, part, trial())
    assert not campaign.summary().held, "C2 and C3 were not run"
    keep(campaign.folder, 0, trial("C2"))
    interrupted(campaign.folder, 0, trial("C3"))
    assert campaign.summary().held
    keep(campaign.folder, 1, trial(**flaw))
    assert not campaign.summary().held and not campaign.summary().rows[0].held


def test_the_page_and_the_summary_say_the_same(campaign: Campaign) -> None:
    keep(campaign.folder, 0, trial())
    campaign.keep(campaign.summary())
    text = (campaign.folder / "README.md").read_text()
    kept = msgspec.json.decode((campaign.folder / "summary.json").read_bytes(), type=Summary)
    assert "| C4 | cuts | 1 of 3 | 500 | 4,000 | 0 | 0 | 250, 250 | 0 | – | 0.006 | yes |" in text
    assert "| C2 | statements | 0 of 1 |" in text and "not run" in text
    assert kept.commit == "abc" and kept.commit in text and machine().cpu in text


def test_rows_are_chosen_by_their_names_and_no_other() -> None:
    assert [proof.name for proof in lab.chosen("c6, C3")] == ["C2", "C6"]
    assert lab.chosen(None) == list(PROOFS_OF)
    with pytest.raises(ValueError, match="there is no row C7"):
        lab.chosen("C7")
