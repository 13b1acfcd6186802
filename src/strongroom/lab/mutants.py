"""Mutants: guards taken out of a copy of the code one by one, each to be noticed by a named test.

    python -m strongroom.lab.mutants                       all of them, in a checkout
    python -m strongroom.lab.mutants unsorted-locks …      these
    python -m strongroom.lab.mutants --table docs/reference/mutants.md

A test that passes though its guard is gone proves nothing about the guard. `killed` means that the
test failed by what it asserts, and passes on the code as it is; a mutant that cannot be imported,
or a test that never ran, is no kill.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, NamedTuple

import msgspec

from strongroom.clock import monotonic
from strongroom.core.db.embedded import ADMIN, EmbeddedPostgres

MUTANTS = Path("tests/proofs/mutants.toml")
"""Where the mutants of a checkout are listed."""

SERVER = "STRONGROOM_TEST_DATABASE_URL"
"""The tests take a server that is there already from this variable; they then clone from a
template of their own, since a mutant may lie in a migration."""

COPIED = ("src", "tests", "pyproject.toml")

LONGEST_S = 300.0
"""A guard that is gone may leave its test waiting; the slowest killer takes some ten seconds."""

AT_ONCE = 2
"""As many as there are cores on a small machine."""

Found = Literal["passed", "failed", "error", "skipped", "missing"]


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A guard, and how it is taken out: `old`, which stands in `file` once, becomes `new`. Each of
    the tests `killers`, by node id, has to fail then. `quick`: also in every run of the suite."""

    name: str
    guard: str
    file: str
    old: str
    new: str
    killers: list[str]
    quick: bool = False

    @contextmanager
    def applied(self, root: Path) -> Iterator[None]:
        """Takes the guard out of the tree at `root`, for a while; ValueError when `old` is not
        there, or not once."""
        file = root / self.file
        text, stat = file.read_text("utf8"), file.stat()
        if text.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.name}: {text.count(self.old)} times in {self.file}")
        try:
            file.write_text(text.replace(self.old, self.new), "utf8")
            yield
        finally:
            file.write_text(text, "utf8")
            # By its time and size a file is known to be what was compiled.
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class Outcome(NamedTuple):
    """What came of a mutant, and in how many seconds. `said` explains a survivor."""

    mutant: Mutant
    killed: bool
    seconds: float
    said: str


def read(file: Path) -> list[Mutant]:
    """The mutants of a list; their names are unique."""
    found = msgspec.toml.decode(file.read_bytes(), type=dict[str, list[Mutant]])["mutant"]
    assert len({one.name for one in found}) == len(found), "two mutants share a name"
    return found


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of the sources and tests at `root`, for one mutant after the other."""
    with tempfile.TemporaryDirectory(prefix="strongroom-mutant-") as folder:
        for name in COPIED:
            source, target = root / name, Path(folder) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        yield Path(folder)


def outcomes_of(root: Path, tests: Sequence[str], server: str) -> dict[str, tuple[Found, str]]:
    """Runs tests of the tree at `root`; by node id what became of each, and what it said."""
    report = root / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["--import-mode=importlib", f"--junitxml={report}", "--tb=short", *tests]
    ours = {name: value for name, value in os.environ.items() if not _of_a_run(name)}
    sources = [str(root / "src"), str(root / "tests"), str(root / "tests" / "property")]
    env = {**ours, SERVER: server, "PYTHONPATH": os.pathsep.join(sources)}
    try:
        done = subprocess.run(
            command, cwd=root, env=env, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(tests, ("error", f"not done within {LONGEST_S:.0f} s"))
    if not report.exists():
        said = (done.stdout + done.stderr)[-2000:]
        return dict.fromkeys(tests, ("missing", said))
    return {test: _outcome(report, test, done.stdout[-2000:]) for test in tests}


def _of_a_run(variable: str) -> bool:
    """Variables that belong to the run of tests that this is part of, and not to its own."""
    return variable.startswith(("PYTEST_", "STRONGROOM_", "PYTHON"))


def _outcome(report: Path, test: str, said: str) -> tuple[Found, str]:
    """A node id without parameters stands for all of them: the worst of these counts."""
    file, _, name = test.partition("::")
    module = file.removesuffix(".py").replace("/", ".")
    exact = "[" in name
    worst: tuple[Found, str] = ("missing", said)
    for case in xml.parse(report).iter("testcase"):  # noqa: S314  # our own report
        called = case.get("name", "")
        if case.get("classname") != module or name != (called if exact else called.split("[")[0]):
            continue
        broken, failed = case.find("error"), case.find("failure")
        if broken is not None:
            return "error", (broken.get("message") or "") + (broken.text or "")[-1500:]
        if failed is not None:
            worst = "failed", (failed.get("message") or "")
        elif worst[0] == "missing":
            skipped = case.find("skipped") is not None
            worst = ("skipped" if skipped else "passed"), said
    return worst


NOT_A_KILL = re.compile(r"^(ImportError|ModuleNotFoundError|SyntaxError|NameError)\b")
"""What says that the mutant does not run, and not that its guard is missed."""


def try_one(mutant: Mutant, copy: Path, server: str) -> Outcome:
    """Takes the guard out of a copy and runs the tests that have to notice: each has to."""
    began = monotonic()
    with mutant.applied(copy):
        found = outcomes_of(copy, mutant.killers, server)
    said = "\n".join(f"{test}: {what}: {words}" for test, (what, words) in found.items())
    killed = all(what == "failed" and not NOT_A_KILL.match(of) for what, of in found.values())
    return Outcome(mutant, killed, monotonic() - began, said)


def control(mutants: Sequence[Mutant], copy: Path, server: str) -> list[str]:
    """The killers that do not pass on the code as it is: what they say of a mutant is nothing."""
    tests = sorted({test for mutant in mutants for test in mutant.killers})
    found = outcomes_of(copy, tests, server)
    return [f"{test}: {what}: {said}" for test, (what, said) in found.items() if what != "passed"]


@contextmanager
def one_server() -> Iterator[str]:
    """A server for all mutants, as a superuser's DSN."""
    folder = Path(tempfile.mkdtemp(prefix="strongroom-mutants-"))
    # A server of root's runs as another user, who has to reach its folder.
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(folder / "pg") as postgres:
            yield postgres.dsn(ADMIN, database="postgres")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_all(mutants: Sequence[Mutant], root: Path, *, at_once: int = AT_ONCE) -> bool:
    """Tries all mutants and the control, and prints what came of each; whether all were killed."""
    with ExitStack() as stack:
        server = stack.enter_context(one_server())
        copies: SimpleQueue[Path] = SimpleQueue()
        for _ in range(at_once):
            copies.put(stack.enter_context(copied(root)))

        def tried(mutant: Mutant) -> Outcome:
            copy = copies.get()
            try:
                return try_one(mutant, copy, server)
            finally:
                copies.put(copy)

        threads = stack.enter_context(ThreadPoolExecutor(at_once))
        killed = 0
        for one in threads.map(tried, mutants):
            killed += one.killed
            word = "killed  " if one.killed else "SURVIVED"
            print(f"{word} {one.seconds:5.1f} s  {one.mutant.name}", flush=True)
            if not one.killed:
                print(one.said, file=sys.stderr)
        wrong = control(mutants, copies.get(), server)
        for line in wrong:
            print(f"does not pass on the code as it is: {line}", file=sys.stderr)
    print(f"{killed} of {len(mutants)} killed")
    return killed == len(mutants) and not wrong


def table(mutants: Sequence[Mutant]) -> str:
    """The page that says which guard is held by which test."""
    lines = [
        "# Mutants",
        "",
        "<!-- Made by `python -m strongroom.lab.mutants --table`; do not edit. -->",
        "",
        "Each of these guards was taken out of a copy of the code, alone, and the tests beside it",
        f"failed: {len(mutants)} guards, none of which can be lost unnoticed. `python -m",
        "strongroom.lab.mutants` tries them all again; those with a mark in the last column are",
        "tried with every run of the tests.",
        "",
        "| guard taken out | where | killed by | always |",
        "| --- | --- | --- | --- |",
    ]
    for one in mutants:
        killers = "<br>".join(f"`{test.split('[')[0]}`" for test in one.killers)
        where = one.file.removeprefix("src/strongroom/")
        lines.append(f"| {one.guard} | `{where}` | {killers} | {'✓' if one.quick else ''} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m strongroom.lab.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="these mutants; without names, all")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout")
    parser.add_argument("--table", type=Path, help="writes the page about them and tries none")
    asked = parser.parse_args()
    root: Path = asked.root.resolve()
    mutants = read(root / MUTANTS)
    if asked.table:
        asked.table.write_text(table(mutants), "utf8")
        return 0
    if unknown := set(asked.names) - {one.name for one in mutants}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    wanted = [one for one in mutants if not asked.names or one.name in asked.names]
    return 0 if try_all(wanted, root) else 1


if __name__ == "__main__":
    sys.exit(main())
