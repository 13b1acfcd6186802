"""What the benches measure against: the specification's way, row at a time, in the same house.

Same server, same HTTP door, same tables, same guarantees; only the grouping is missing.
"""
