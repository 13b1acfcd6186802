"""`up`, `serve` and `worker`: the instance and its processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.doors.cli.flags import (
    FINE,
    UNREACHABLE,
    AsJson,
    DataDir,
    aside,
    say,
    settings_of,
    tell,
)

if TYPE_CHECKING:
    from strongroom.doors.cli.instance import Instance
    from strongroom.settings import Settings

Port = Annotated[
    int | None, typer.Option(help="Port of the API; 0 takes a free one.", show_default="8000")
]
Host = Annotated[
    str | None, typer.Option(help="Address the API listens on.", show_default="127.0.0.1")
]
Name = Annotated[str, typer.Option(hidden=True)]
ParentFd = Annotated[int | None, typer.Option(hidden=True)]
Fd = Annotated[int | None, typer.Option(hidden=True)]
MetricsFd = Annotated[int | None, typer.Option(hidden=True)]


def up(
    port: Port = None,
    host: Host = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.", show_default="1")] = None,
    api_processes: Annotated[
        int | None, typer.Option(help="API processes.", show_default="1")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Runs everything on this machine, until Ctrl-C: database, API, workers.

    A process that dies is started again. With STRONGROOM_DATABASE_URL that database is used
    instead of the embedded one.
    """
    settings = settings_of(
        port=port, host=host, workers=workers, api_processes=api_processes, data_dir=data_dir
    )
    asyncio.run(_up(settings, as_json))


async def _up(settings: Settings, as_json: bool) -> None:
    from strongroom.doors.cli.instance import Instance
    from strongroom.doors.traces import check

    check(settings)
    instance = Instance(settings, say)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, instance.stop)
    if not as_json:
        say(f"Starting on {settings.data_dir} …")
    try:
        await instance.start()
        if not instance.stopping.is_set():
            _welcome(instance, as_json)
            await instance.run()
            say("Stopping: what was accepted is being finished. Ctrl-C again hurries.")
    except Exception:
        # Whoever asks for the end during the start gets the end, not its echo.
        if not instance.stopping.is_set():
            raise
    finally:
        await instance.end()
    if not as_json:
        say("Stopped.")


def _welcome(instance: Instance, as_json: bool) -> None:
    url, folder = instance.url, instance.settings.data_dir
    if as_json:
        ready = {"url": url, "pid": os.getpid(), "dataDir": str(folder)}
        tell(ready | {"postgresPid": instance.postgres_pid})
        return
    there = "" if folder == folder.cwd() / ".strongroom" else f" --data-dir {folder}"
    aside.rule("[bold]Strongroom is ready", align="left")
    for name, what in (
        ("API", url),
        ("reference", f"{url}/schema"),
        ("data folder", str(folder)),
        ("logs", str(instance.logs)),
        ("metrics", str(folder / "prometheus" / "targets.json")),
    ):
        say(f"{name:<12} {what}")
    say("\nNext, in another terminal:")
    say(f"  strongroom users create --role operator{there}")
    say(f"  strongroom users create --fund 1000000{there}")
    say(f"  curl -H 'Authorization: Bearer TOKEN' {url}/api/wallets/me")
    say(f"  strongroom reconcile{there}\n\nCtrl-C stops everything in order.")


def serve(
    port: Port = None,
    host: Host = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    fd: Fd = None,
    parent_fd: ParentFd = None,
    metrics_fd: MetricsFd = None,
    name: Name = "api",
) -> None:
    """Runs one API process on a running instance or on STRONGROOM_DATABASE_URL."""
    _end_by_signal()
    settings = _settings(parent_fd, name, port=port, host=host, data_dir=data_dir)
    from strongroom.core.db.places import place_of
    from strongroom.doors.cli.instance import listening_on
    from strongroom.doors.cli.reach import known_schema, unopened
    from strongroom.doors.http import server
    from strongroom.doors.traces import begin

    asyncio.run(known_schema(place_of(settings)))
    house = unopened(settings)
    begin(house, name)
    listening = (
        socket.socket(fileno=fd) if fd is not None else listening_on(settings.host, settings.port)
    )
    scraped, where = _scraped(settings, metrics_fd)
    if as_json:
        host, port = listening.getsockname()[:2]
        tell({"url": f"http://{host}:{port}", "pid": os.getpid(), "metrics": where})
    elif parent_fd is None:
        say(f"Serving on {settings.host} port {listening.getsockname()[1]}, until Ctrl-C.")
        say(f"Metrics of this process: {where}")
    server.serve(house, listening, name, scraped)
    # A signal ended it above; who comes here could not start, and has logged why.
    raise typer.Exit(FINE if house.draining else UNREACHABLE)


def worker(
    data_dir: DataDir = None,
    as_json: AsJson = False,
    parent_fd: ParentFd = None,
    metrics_fd: MetricsFd = None,
    name: Name = "worker",
) -> None:
    """Runs one worker process on a running instance or on STRONGROOM_DATABASE_URL."""
    _end_by_signal()
    settings = _settings(parent_fd, name, data_dir=data_dir)
    import uvloop

    scraped, where = _scraped(settings, metrics_fd)
    quiet = parent_fd is not None
    uvloop.run(_work(settings, name, scraped, where, as_json=as_json, quiet=quiet))


async def _work(
    settings: Settings,
    name: str,
    scraped: socket.socket,
    where: str,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from strongroom.core.db.places import place_of
    from strongroom.doors.cli.reach import known_schema, unopened
    from strongroom.doors.metrics import Metrics, counted
    from strongroom.doors.traces import begin
    from strongroom.doors.worker import worker_of

    await known_schema(place_of(settings))
    house = unopened(settings)
    begin(house, name)
    works = worker_of(house)
    metrics = Metrics(house, "worker", name, lambda: counted.jobs(works.jobs), listening=scraped)
    async with house, metrics:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, works.stop)
        if as_json:
            tell({"pid": os.getpid(), "metrics": where})
        elif not quiet:
            say(f"Working, until Ctrl-C.\nMetrics of this process: {where}")
        await works.run()


def _scraped(settings: Settings, metrics_fd: int | None) -> tuple[socket.socket, str]:
    """Where this process is asked for its metrics: what it inherited, or a socket of its own."""
    from strongroom.doors.metrics import targets

    if metrics_fd is None:
        scraped = targets.listening_on(settings)
    else:
        scraped = socket.socket(fileno=metrics_fd)
    return scraped, f"http://{targets.address_of(scraped)}/metrics"


def _end_by_signal() -> None:
    """A signal ends it with 0 at any moment: before it serves at once, later in order."""

    def end(*_: object) -> None:
        sys.exit(FINE)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _settings(parent_fd: int | None, name: str, **flags: object) -> Settings:
    """The settings of `up`, or our own; and the logs that go with them."""
    from strongroom.doors.cli import logs

    if parent_fd is None:
        settings = settings_of(**flags)
        logs.begin(settings.log_level, process=name)
        return settings
    from strongroom.doors.cli.processes import RESOLVED, end_with_parent
    from strongroom.settings import Settings

    end_with_parent(parent_fd)
    settings = Settings.model_validate_json(os.environ[RESOLVED])
    logs.begin(settings.log_level, process=name, to_file=True)
    return settings


def demo(
    users: Annotated[int, typer.Option(min=2, max=100_000, help="Users who bet.")] = 400,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long they bet.")] = 8,
    kill: Annotated[bool, typer.Option(help="Kill a worker with -9 meanwhile.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch folder.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Shows everything on a scratch instance: a burst of bets, a retry storm, a kill -9,
    a rush for tickets, and a proof.

    Exit code 1 when an invariant does not hold or an acknowledged bet is missing.
    """
    import uvloop

    from strongroom.doors.cli import demo as show

    scratch = show.scratch_folder() if data_dir is None else None
    try:
        settings = settings_of(
            data_dir=scratch or data_dir, port=0, api_processes=1, workers=2, host="127.0.0.1"
        )
        # The load is invented: it never goes to a database or to backups that are somebody's.
        alone = {"database_url": None, "owner_url": None, "backup_dir": None}
        settings = settings.model_copy(update={**alone, "environment": "development"})
        code = uvloop.run(show.demo(settings, users, seconds, kill, as_json))
    finally:
        if scratch and not keep:
            show.remove(scratch)
    if not as_json:
        said = f" --data-dir {settings.data_dir}" if keep or data_dir else ""
        say(f"Next: strongroom up{said}\n      strongroom doctor{said}\n      strongroom bench")
    raise typer.Exit(code)
