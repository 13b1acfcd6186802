"""Load as people bring it: arrivals planned ahead, latencies from the intended start, and the
books checked afterwards.

Promises: each arrival of a plan is sent once and counted once, as an answer or as none; a wait for
a free connection, or for this generator, is part of the latency; a run that measured the generator
says so. Plans are data (`plans.toml`); what a run found is a `LoadRun`.
"""
