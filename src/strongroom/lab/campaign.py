"""The campaign: every row of the matrix of proofs at its full quantity, part by part.

    make campaign                                   # all of it: hours
    python -m strongroom.lab.campaign --only C4,C6 --parts 2

A part is one run of a proof's file by pytest, under ten minutes, with a seed of its own. What came
of each is kept as it ends, so that a campaign that was interrupted goes on where it was: a part
that has run on this commit is not run again. A part that fails does not stop the others; what it
printed is kept beside its evidence.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from strongroom.clock import now
from strongroom.lab.machine import Machine, commit, machine
from strongroom.lab.programs import family
from strongroom.lab.trial import Evidence

PROOFS = Path("tests") / "proofs"
RESULTS = Path("results") / "campaign"

PART_S = 600.0
"""A part that takes longer is stuck; so long, too, may an interrupted campaign lose."""

ORDERLY_S = 30.0
"""To end its processes and remove its folders, for a part that was stopped."""

TAIL_LINES = 400

WIDE = 160
"""Of a table in a file, which has no width."""

DIRTY = "-dirty"

HELD, FAILED = 0, 1
USAGE = 2


class Proof(NamedTuple):
    """A file of proofs, the rows of the matrix that it proves, and how often it is run."""

    rows: tuple[str, ...]
    title: str
    file: str
    parts: int
    holds: str
    """What one part holds."""

    @property
    def name(self) -> str:
        return self.rows[0]


PROOFS_OF = (
    Proof(
        ("C1",),
        "API and worker processes are killed",
        "test_kills.py",
        20,
        "50 kills, 5,000 acknowledgements",
    ),
    Proof(
        ("C2", "C3"),
        "a crash, or an error, at every statement",
        "test_every_statement.py",
        11,
        "every statement of every act: a crash on one side of it, one state of SQL",
    ),
    Proof(
        ("C4",),
        "connections are cut at COMMIT",
        "test_commit_cuts.py",
        4,
        "500 cuts, half of them before delivery",
    ),
    Proof(("C5",), "Postgres is killed", "test_postgres_kills.py", 10, "20 kills"),
    Proof(
        ("C6",),
        "the power is cut",
        "test_power_cuts.py",
        10,
        "10 cuts and a control that must lose",
    ),
    Proof(("C11",), "a slow database", "test_slow_database.py", 2, "60 s of each fault"),
    Proof(("C12",), "overload", "test_overload.py", 1, "60 s of each multiple"),
    Proof(
        ("C18",),
        "every interleaving of two operations",
        "test_interleavings.py",
        26,
        "one pair, 924 schedules",
    ),
    Proof(("C19",), "races by volume", "test_volumes.py", 10, "20 rounds of each race"),
    Proof(
        ("C20",),
        "a model over HTTP, with crashes",
        "test_model_over_http.py",
        10,
        "50 histories of 50 steps",
    ),
    Proof(
        ("C22",),
        "planted corruptions, pauses under payouts",
        "test_corruptions.py",
        10,
        "every corruption twice, 20 pauses",
    ),
    Proof(("C24",), "a soak at 30 % load", "test_soak.py", 15, "8 minutes under load"),
    Proof(("C25",), "herds", "test_herd.py", 20, "a herd of each kind"),
    Proof(("M",), "guards are removed one by one", "test_mutants.py", 1, "all mutants"),
)
"""The matrix. A test holds it against the files that there are."""


class Part(NamedTuple):
    """One run of a proof's file; `number` counts from 0."""

    proof: Proof
    number: int

    @property
    def name(self) -> str:
        return f"{self.proof.name}-{self.number:03}"


class Sum(msgspec.Struct, kw_only=True):
    """What all parts of one row came to. `recovery_ms` is the median, `longest_ms` the longest."""

    row: str
    title: str
    parts: int
    wanted: int
    trials: int
    faults: int
    acknowledged: int
    lost: int
    doubled: int
    unknown: int
    unresolved: int
    violations: int
    invalid: int
    recovery_ms: float | None
    longest_ms: float | None
    bound: float | None
    held: bool
    what: dict[str, float]
    seeds: list[int]


class Summary(msgspec.Struct, kw_only=True):
    """A campaign, summed up. `held`: every part of every row was run, and held. `failed` names
    parts whose proof did not hold or did not end."""

    commit: str | None
    at: str
    machine: Machine
    held: bool
    failed: list[str]
    rows: list[Sum]


class Campaign:
    """The parts of one commit, their evidence in one folder."""

    def __init__(self, folder: Path, proofs: Sequence[Proof], of: str | None) -> None:
        self.folder, self.proofs = folder, proofs
        self.commit = plain(of)

    def parts(self, most: int | None = None) -> list[Part]:
        """All of them, or the first so many of each proof."""
        return [
            Part(proof, number)
            for proof in self.proofs
            for number in range(min(proof.parts, most or proof.parts))
        ]

    def evidence(self) -> Iterator[tuple[int, Evidence]]:
        """All evidence of this commit, with the number of its part. What a part left behind that
        was interrupted is none: the rest of it might have said otherwise."""
        over = {part.name for part in self.parts() if self._ended(part) or self.failed(part)}
        proof_of = {row: proof for proof in self.proofs for row in proof.rows}
        for file in sorted(self.folder.glob("*-[0-9][0-9][0-9].json")):
            found = msgspec.json.decode(file.read_bytes(), type=Evidence)
            number, proof = int(file.stem[-3:]), proof_of.get(found.trial.row)
            if proof and plain(found.commit) == self.commit and Part(proof, number).name in over:
                yield number, found

    def left(self, parts: Sequence[Part]) -> list[Part]:
        """Those that have not run on this commit, well or badly: a failure that is tried until
        it passes would be no evidence."""
        return [part for part in parts if not (self._ended(part) or self.failed(part))]

    def _ended(self, part: Part) -> bool:
        """Whether it came to its end on this commit, and held."""
        return self._says_so(self.folder / f"ended-{part.name}.txt")

    def _says_so(self, note: Path) -> bool:
        return note.exists() and note.read_text("utf8").startswith(self._head)

    def failed(self, part: Part) -> bool:
        """Whether it failed on this commit."""
        return self._says_so(self._note(part))

    def _note(self, part: Part) -> Path:
        return self.folder / f"failed-{part.name}.txt"

    @property
    def _head(self) -> str:
        return f"commit {self.commit}\n"

    def run(self, part: Part, command: Sequence[str], *, within_s: float = PART_S) -> bool:
        """Runs it; False when it failed, and then what it printed is kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        note, ended_well = self._note(part), self.folder / f"ended-{part.name}.txt"
        for old in (note, ended_well, *self._left_by(part)):
            old.unlink(missing_ok=True)
        output = self.folder / f"running-{part.name}.txt"
        try:
            with output.open("wb") as said:
                code = _run(command, self._environment(part), said.fileno(), within_s)
            ended = f"stopped after {within_s:g} s" if code is None else f"exit code {code}"
            if code == 0:
                if _whole(part, self._left_by(part)):
                    ended_well.write_text(self._head, "utf8")
                    return True
                ended = "left no evidence"  # skipped: the reason stands below
            tail = _anywhere(output.read_text("utf8", "replace")).splitlines()[-TAIL_LINES:]
            note.write_text(f"{self._head}{ended}\n\n" + "\n".join(tail) + "\n", "utf8")
            return False
        finally:
            output.unlink(missing_ok=True)

    def _left_by(self, part: Part) -> list[Path]:
        """The evidence of a part, of whatever commit."""
        found = (self.folder.glob(f"{row}-*-{part.number:03}.json") for row in part.proof.rows)
        return [file for some in found for file in some]

    def _environment(self, part: Part) -> dict[str, str]:
        mine = {
            "STRONGROOM_CAMPAIGN": str(self.folder.resolve()),
            "STRONGROOM_PART": str(part.number),
        }
        return os.environ | mine

    def summary(self) -> Summary:
        """What the evidence of this commit says, row by row."""
        all_of = list(self.evidence())
        failed = [part.name for part in self.parts() if self.failed(part)]
        rows = [
            _sum(row, proof, [(n, one) for n, one in all_of if one.trial.row == row], failed)
            for proof in self.proofs
            for row in proof.rows
        ]
        return Summary(
            commit=self.commit,
            at=now().isoformat(timespec="seconds"),
            machine=machine(),
            held=not failed and all(row.held and row.parts == row.wanted for row in rows),
            failed=failed,
            rows=rows,
        )

    def keep(self, summary: Summary) -> None:
        """Writes the summary, and the page that shows it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(summary), indent=2)
        (self.folder / "summary.json").write_bytes(text + b"\n")
        (self.folder / "README.md").write_text(page(summary, self.proofs), "utf8")


def _anywhere(text: str) -> str:
    """Without the paths of this machine: what is kept is for others to read."""
    for name, place in (("", Path.cwd()), ("env/", sys.prefix), ("python/", sys.base_prefix)):
        text = text.replace(f"{place}/", name)
    return text


def _whole(part: Part, evidence: Sequence[Path]) -> bool:
    """Whether there is evidence for each of its rows."""
    rows = {file.name.partition("-")[0] for file in evidence}
    return rows >= set(part.proof.rows)


def plain(of: str | None) -> str | None:
    """A commit without the mark of a changed checkout: evidence itself changes it, and nothing
    else has when a campaign is begun."""
    return of.removesuffix(DIRTY) if of else of


def changed() -> str:
    """What of the program or its tests is not as it was committed."""
    asked = ["git", "status", "--porcelain", "--", "src", "tests"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.rstrip()


def pytest_of(part: Part) -> list[str]:
    """The command of a part: alone, and with what it prints kept for a failure. How long a test
    may take is said for those of a commit; here PART_S bounds it."""
    options = ["-q", "-n0", "-rs", "--timeout=0"]
    return [sys.executable, "-m", "pytest", *options, str(PROOFS / part.proof.file)]


def _run(
    command: Sequence[str], environment: dict[str, str], output: int, within_s: float
) -> int | None:
    """The exit code; None when it was stopped because it took too long."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C is for the campaign, which stops its part in order
    )
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a part that still runs: in order, so that its servers end with it, else by force."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(ORDERLY_S)
    except subprocess.TimeoutExpired:
        for pid in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _sum(
    row: str, proof: Proof, found: Sequence[tuple[int, Evidence]], failed: Iterable[str]
) -> Sum:
    trials = [one.trial for _, one in found]
    faults = sum(trial.faults for trial in trials)
    recovery = [one for trial in trials for one in trial.recovery_ms]
    what: dict[str, float] = {}
    for trial in trials:
        for name, times in trial.what.items():
            what[name] = what.get(name, 0) + times
    good = not any(name.startswith(f"{proof.name}-") for name in failed)
    return Sum(
        row=row,
        title=proof.title,
        parts=len({number for number, _ in found}),
        wanted=proof.parts,
        trials=len(trials),
        faults=faults,
        acknowledged=sum(trial.acknowledged for trial in trials),
        lost=sum(trial.lost for trial in trials),
        doubled=sum(trial.doubled for trial in trials),
        unknown=sum(trial.unknown for trial in trials),
        unresolved=sum(trial.unresolved for trial in trials),
        violations=sum(len(trial.violations) for trial in trials),
        invalid=sum(trial.invalid is not None for trial in trials),
        recovery_ms=round(statistics.median(recovery), 1) if recovery else None,
        longest_ms=round(max(recovery), 1) if recovery else None,
        bound=3 / faults if faults else None,
        held=good and bool(trials) and all(one.held for _, one in found),
        what=what,
        seeds=sorted({trial.seed for trial in trials}),
    )


COLUMNS = (
    "row",
    "what is done",
    "parts",
    "faults",
    "acknowledged",
    "lost",
    "doubled",
    "unknown, resolved",
    "violations",
    "recovery, median and longest",
    "rate below",
    "held",
)


def _cells(row: Sum) -> tuple[str, ...]:
    recovery = "–"
    if row.recovery_ms is not None and row.longest_ms is not None:
        recovery = f"{row.recovery_ms / 1000:.1f} s, {row.longest_ms / 1000:.1f} s"
    said = "yes" if row.held else "NO"
    return (
        row.row,
        row.title,
        f"{row.parts} of {row.wanted}",
        f"{row.faults:,}",
        f"{row.acknowledged:,}",
        f"{row.lost:,}",
        f"{row.doubled:,}",
        f"{row.unknown:,}, {row.unknown - row.unresolved:,}",
        f"{row.violations:,}",
        recovery,
        "–" if row.bound is None else f"{row.bound:.2g}",
        said if row.parts else "not run",
    )


def page(summary: Summary, proofs: Sequence[Proof]) -> str:
    """The campaign as Markdown."""
    about = summary.machine
    head = [
        "# What was tried, and what held",
        "",
        "Written by `make campaign`; not by hand. Each row of the matrix of proofs, in parts, each "
        "with a seed of its own; a part that delivered no fault, saw too little acknowledged or "
        "left an outcome unresolved is invalid, which is not passed. Zero violations in N faults "
        "bound their rate per fault below 3/N at 95 %: the column *rate below*.",
        "",
        f"Commit `{summary.commit}`, {summary.at}, on {about.cores} cores of {about.cpu}, "
        f"{about.memory_bytes / 2**30:.0f} GB, {about.system}, Python {about.python}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(_cells(row))} |" for row in summary.rows),
        "",
        "## What one part holds",
        "",
        *(
            f"- **{', '.join(proof.rows)}** `{PROOFS / proof.file}`: {proof.holds}."
            for proof in proofs
        ),
        "",
        "## What was counted",
        "",
        *(f"- **{row.row}** {_counted(row)}" for row in summary.rows if row.parts),
        "",
    ]
    if summary.failed:
        head += ["## What did not hold", ""]
        head += [f"- {name}: see `failed-{name}.txt`" for name in summary.failed]
        head += [""]
    return "\n".join(head)


def _counted(row: Sum) -> str:
    what = ", ".join(f"{name} {times:,.0f}" for name, times in row.what.items()) or "nothing more"
    first, last = row.seeds[0], row.seeds[-1]
    return f"{what}; seeds {first} to {last}." if first != last else f"{what}; seed {first}."


def shown(summary: Summary) -> Table:
    """The table of the page, for a terminal: of the rows that have run."""
    table = Table(*COLUMNS, title=f"Campaign of {summary.commit}")
    for row in filter(lambda one: one.parts, summary.rows):
        style = None if row.held else "red" if row.parts else "dim"
        table.add_row(*_cells(row), style=style)
    return table


def chosen(only: str | None) -> list[Proof]:
    """The proofs of these rows, `C1,C6`; of all. ValueError names a row that there is not."""
    if not only:
        return list(PROOFS_OF)
    wanted = [one.strip().upper() for one in only.split(",")]
    known = {row for proof in PROOFS_OF for row in proof.rows}
    for one in wanted:
        if one not in known:
            raise ValueError(f"there is no row {one}; there are {', '.join(sorted(known))}")
    return [proof for proof in PROOFS_OF if set(wanted) & set(proof.rows)]


def carry_out(campaign: Campaign, parts: Sequence[Part], console: Console) -> Summary:
    """Runs the parts one after the other, and sums up after each: all rows of the commit, whichever
    were asked for now."""
    whole = Campaign(campaign.folder, PROOFS_OF, campaign.commit)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("campaign", total=len(parts))
        for part in parts:
            bar.update(task, description=f"{part.name}: {part.proof.title}")
            held = campaign.run(part, pytest_of(part))
            if not held:
                bar.console.print(f"[red]{part.name} did not hold[/]: failed-{part.name}.txt")
            bar.advance(task)
            whole.keep(whole.summary())
    summary = whole.summary()
    whole.keep(summary)
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything held, 1 when something did not, 2 for a wish that cannot be met."""
    said = argparse.ArgumentParser(prog="python -m strongroom.lab.campaign")
    said.add_argument("--only", help="Rows of the matrix, as C1,C6.")
    said.add_argument("--parts", type=int, help="Of each proof the first so many.")
    said.add_argument("--again", action="store_true", help="Also what has run on this commit.")
    said.add_argument("--into", type=Path, default=RESULTS, help="Where the evidence is kept.")
    asked = said.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    if not PROOFS.is_dir():
        console.print(f"Run it in a checkout: there is no {PROOFS} here.")
        return USAGE
    try:
        proofs = chosen(asked.only)
    except ValueError as error:
        console.print(f"[red]{error}[/]")
        return USAGE
    if found := changed():
        console.print(f"Evidence is of a commit. Commit this, or put it back:\n{found}")
        return USAGE
    campaign = Campaign(asked.into, proofs, commit(Path.cwd()))
    wanted = campaign.parts(asked.parts)
    parts = wanted if asked.again else campaign.left(wanted)
    console.print(f"{len(parts)} of {len(wanted)} parts are to be run, into {asked.into}.")
    summary = carry_out(campaign, parts, console)
    console.print(shown(summary))
    mine = {row for proof in proofs for row in proof.rows}
    good = all(row.held for row in summary.rows if row.row in mine and row.parts)
    return HELD if good and not any(campaign.failed(part) for part in wanted) else FAILED


if __name__ == "__main__":
    sys.exit(main())
