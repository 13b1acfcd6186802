"""Metrics: what every process tells Prometheus, and where it is found.

Promises: every name is in one table, which is the documentation too; every label has a bounded set
of values, never an id or a raw path; a scrape asks the database once in 2 s at most, waits half a
second for it at most, and tells what the process counted whether the database answers or not. The
rooms count in plain numbers; this one only reads them. Decides nothing and warns nobody: that is
done by the rules in `monitoring/`.
"""

from strongroom.doors.metrics.names import METRICS
from strongroom.doors.metrics.page import Metrics

__all__ = ["METRICS", "Metrics"]
