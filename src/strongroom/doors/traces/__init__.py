"""Traces: one for each request, through its group, the group's statements and events, and the
workers that take those.

Promises: a trace has the id of its request, so every process finds it without being told; whether
a request is traced follows from that id alone, alike in every process; no span has a value, a path
as it was asked for, a token or a person in it. Spans that cannot be sent are dropped: nothing waits
for a collector.

Without `otlp_url` none of this is loaded, and costs one look at an attribute. What OpenTelemetry
calls things is imported in `spans` and `sending` alone, and comes with the extra `otel`.
"""

from strongroom.doors.traces.begun import begin, check

__all__ = ["begin", "check"]
