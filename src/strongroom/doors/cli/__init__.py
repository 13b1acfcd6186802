"""The command line: everything on one machine with one command, and the operator's tools.

Promises: exit code 0 fine, 1 refused or violated, 2 usage, 3 not reachable; an expected error is
one message that says what to do next, never a traceback; results go to stdout, everything else to
stderr; what a command starts it also ends, and a process of `up` can die alone. Holds no rule
about money, and loads the house only when a command needs it.
"""


def run() -> None:
    """The console entry `strongroom`."""
    from strongroom.doors.cli.app import app

    app()


__all__ = ["run"]
