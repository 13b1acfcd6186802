"""Serves a baseline's house: `python -m strongroom.lab.baselines PORT DATA_DIR [LOCKING]`.

LOCKING is one of the specification's two for tickets, `pessimistic` or `optimistic`, or
`optimistic-bets`; without it bets take row locks.
"""

import sys
from pathlib import Path

from strongroom.doors.http.server import bound, serve
from strongroom.lab.baselines.optimistic import OptimisticHouse
from strongroom.lab.baselines.row_at_a_time import SpecifiedHouse
from strongroom.lab.baselines.ticketing import SpecifiedTicketing

port, folder, *locking = sys.argv[1:]
chosen: dict[str, Path] = {"data_dir": Path(folder)}
match locking:
    case []:
        house = SpecifiedHouse(**chosen)
    case ["optimistic-bets"]:
        house = OptimisticHouse(**chosen)
    case [strategy, *_]:
        house = SpecifiedTicketing(strategy, **chosen)
serve(house, bound("127.0.0.1", int(port)))
