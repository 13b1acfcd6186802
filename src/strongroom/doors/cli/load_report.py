"""`load-report`: what load runs found, compared in the terminal and as one HTML file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from strongroom.doors.cli.flags import AsJson, UnusedDataDir, say, shown, tell


def load_report(
    files: Annotated[
        list[Path],
        typer.Argument(help="Load runs; ratios are to the first.", metavar="RUN.json…"),
    ],
    html: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    data_dir: UnusedDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compares load runs that were recorded, here and as one HTML file with charts."""
    # By name, and only here: no other part of the program loads the lab.
    report = importlib.import_module("strongroom.lab.load.report")
    runs = [report.read_run(file) for file in files]
    if as_json:
        tell(report.told(runs))
    else:
        shown.print(report.comparison_table(runs))
    if html is not None:
        report.write_html(runs, html)
        say(f"The report is {html}.")
