"""Faults, a crowd that goes on under them, and the account afterwards: `strongroom chaos`.

Promises: each scenario says what must hold, runs on a scratch instance of its own, and ends in a
`Trial`. Of every request the crowd notes key, bytes and answer before it looks at the books, so that
what is lost, doubled or the trace of a refusal has a name. A run without a fault is invalid.

In the room: `field` is the instance whose members are killed; `crowd` uses all applications over
HTTP, `asking` is what it notes, `accounting` holds that against the books; `catalogue` knows the
scenarios, each in a module of its own. Faults between processes and Postgres, and below it, are
modules beside these.

Does not do: faults on an instance that somebody uses.
"""
