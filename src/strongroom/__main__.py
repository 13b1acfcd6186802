"""`python -m strongroom`: the command line."""

from strongroom.doors.cli import run

if __name__ == "__main__":
    run()
