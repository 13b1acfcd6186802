"""The database: connections, transactions, named queries, appended rows, the embedded server.

Promises: a COMMIT is never timed out or cancelled; every query has a name; a dead connection
never goes back to the pool. Does not know a single table.
"""

from strongroom.core.db.database import Connection, Database, DatabaseDown, Record
from strongroom.core.db.leader import Leader
from strongroom.core.db.queries import Queries
from strongroom.core.db.tables import Table

__all__ = ["Connection", "Database", "DatabaseDown", "Leader", "Queries", "Record", "Table"]
