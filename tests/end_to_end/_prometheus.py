"""A Prometheus of a test's own: the rules of the house, asked every second or two."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from end_to_end._house import eventually
from strongroom.lab.arena import free_port

MONITORING = Path(__file__).parent.parent.parent / "monitoring"

START_S = 30.0


class Prometheus:
    """What it has found out so far."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer that is a success; OSError when there is none."""
        url = f"{self._api}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            said = json.loads(answer.read())
        assert said["status"] == "success", said
        return said["data"]

    def value(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """What an expression comes to now, by labels."""
        found = self.ask("query", query=expression)["result"]
        return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}

    def has(self, expression: str) -> bool:
        """Whether it comes to any number now: a share of nothing is none."""
        return any(not math.isnan(value) for value in self.value(expression).values())

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def alerts(self) -> dict[str, str]:
        """Those that are pending or firing; firing where one of several is."""
        found = [(one["labels"]["alertname"], one["state"]) for one in self.ask("alerts")["alerts"]]
        return {name: "firing" if (name, "firing") in found else "pending" for name, _ in found}

    def fires(self, alert: str) -> bool:
        return self.alerts().get(alert) == "firing"

    def ready(self) -> bool:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self._api}/-/ready", timeout=5).status == 200
        return False


@contextlib.contextmanager
def watching(note: Path, folder: Path, *, hasty: bool = False) -> Iterator[Prometheus]:
    """A Prometheus that reads the note; the test is skipped where there is no Prometheus. A hasty
    one has a copy of the rules that waits a second where they wait for minutes."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    folder.mkdir()
    rules = (MONITORING / "alerts.yml").read_text("utf8").replace("interval: 15s", "interval: 1s")
    if hasty:
        rules = re.sub(r"^( +for:) \w+$", r"\1 1s", rules, flags=re.M)
    (folder / "alerts.yml").write_text(rules, "utf8")
    text = (MONITORING / "prometheus.yml").read_text("utf8").split("alerting:")
    config = text[0] + text[1][text[1].index("scrape_configs:") :]
    # A page may take long on a machine that does much else; no timeout exceeds its interval.
    config = config.replace("scrape_interval: 15s", "scrape_interval: 2s")
    config = config.replace("interval: 15s", "interval: 1s").replace("timeout: 5s", "timeout: 2s")
    config = config.replace("../.strongroom/prometheus/targets.json", str(note))
    (folder / "prometheus.yml").write_text(config, "utf8")
    port = free_port()
    arguments = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log, cwd=folder)
        try:
            found = Prometheus(port)
            eventually(found.ready, "Prometheus is ready", START_S)
            yield found
        finally:
            process.terminate()
            process.wait(START_S)
