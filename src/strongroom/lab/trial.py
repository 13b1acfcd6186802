"""What came of trying to break a promise once: what was done, what was acknowledged, what was wrong.

Zero violations in N trials bound their rate below 3/N at 95 % (the rule of three: Hanley and
Lippman-Hand, JAMA 249, 1983): that bound is said beside each result. A trial that delivered no
fault, saw too little happen or left an outcome unresolved says nothing: it is invalid, which is not
passed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from strongroom.lab.machine import Machine, commit, machine

ENOUGH_ACKNOWLEDGED = 1_000
"""Below this a run under load has not been a trial of anything."""


class Trial(msgspec.Struct, kw_only=True):
    """One trial of one row of the matrix of proofs (`row`: C1 to C25, or M), or a part of it.

    `faults` were delivered; `what` counts them or the work by name. `acknowledged` operations had a
    definite answer, `lost` of these have no effect, `doubled` more than one; `unknown` had no
    definite answer at first, `unresolved` never got one. `recovery_ms`: from a fault's end, each
    time, until work was acknowledged again. `violations`: each a sentence.
    """

    row: str
    name: str
    seed: int
    faults: int
    acknowledged: int
    lost: int = 0
    doubled: int = 0
    unknown: int = 0
    unresolved: int = 0
    violations: list[str] = []
    recovery_ms: list[float] = []
    what: dict[str, float] = {}
    seconds: float = 0.0
    enough: int = ENOUGH_ACKNOWLEDGED

    @property
    def invalid(self) -> str | None:
        """Why this says nothing at all; None when it was a trial."""
        if not self.faults:
            return "no fault was delivered"
        if self.acknowledged < self.enough:
            return f"only {self.acknowledged} operations were acknowledged, not {self.enough}"
        if self.unresolved:
            return f"{self.unresolved} outcomes stayed unknown"
        return None

    @property
    def held(self) -> bool:
        """It was a trial, and nothing was wrong."""
        return not (self.invalid or self.lost or self.doubled or self.violations)

    @property
    def bound(self) -> float:
        """Below this lies the rate of violations per fault at 95 %, if there was none."""
        return min(1.0, 3 / self.faults) if self.faults else 1.0

    def assert_held(self) -> None:
        """AssertionError that says what was wrong."""
        assert not self.violations, "\n".join(self.violations[:20])
        assert not self.lost, f"{self.lost} of {self.acknowledged} acknowledged are lost"
        assert not self.doubled, f"{self.doubled} of {self.acknowledged} happened twice"
        assert not self.invalid, f"invalid, which is not passed: {self.invalid}"


class Evidence(msgspec.Struct, kw_only=True):
    """A trial as it is kept: with the commit and the machine it was made on."""

    trial: Trial
    held: bool
    invalid: str | None
    bound: float
    commit: str | None
    machine: Machine

    @classmethod
    def of(cls, trial: Trial) -> Evidence:
        return cls(
            trial=trial,
            held=trial.held,
            invalid=trial.invalid,
            bound=trial.bound,
            commit=commit(),
            machine=machine(),
        )

    def keep(self, path: Path) -> None:
        """Written whole or not at all: a campaign that is begun again looks for these files."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
        beside.rename(path)
