"""Serves the baseline's house: `python -m strongroom.lab.baselines PORT DATA_DIR`."""

import sys
from pathlib import Path

from strongroom.doors.http.server import bound, serve
from strongroom.lab.baselines.row_at_a_time import SpecifiedHouse

serve(SpecifiedHouse(data_dir=Path(sys.argv[2])), bound("127.0.0.1", int(sys.argv[1])))
