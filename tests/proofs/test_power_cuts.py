"""The power of Postgres' disk is cut under load (C6)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from proofs.conftest import Scale
from strongroom.lab.chaos.power import why_not
from strongroom.lab.chaos.power_cuts import FLAWS, power_cuts
from strongroom.lab.trial import Trial


@pytest.mark.skipif(os.geteuid() != 0, reason="cutting the power needs root")
def test_a_disk_whose_power_is_cut_keeps_what_was_synced_and_loses_what_was_not() -> None:
    """The harness by itself: where it runs at all, it does just that."""
    said = why_not() or ""
    assert not any(word in said for word in ("The disk kept", "The disk lost", "The disk still"))
    if said:
        pytest.skip(said)


def test_without_a_tool_it_is_said_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "mkfs.ext4, mount, umount, unshare" in (why_not() or "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in (why_not() or "")


def test_what_was_acknowledged_survives_a_power_cut_and_without_its_promise_does_not(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    """Five cuts and a control for each promise that the controls break; a campaign's part makes
    ten cuts and one control, of the one kind and the other by turns."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    flaws = [FLAWS[scale.part % len(FLAWS)]] if scale.campaign else list(FLAWS)
    trial = asyncio.run(power_cuts(scale.ask(5, 10), flaws, scale.seed))
    held(trial)
    assert len(trial.recovery_ms) == trial.faults
