"""The benches, by the names that the command line knows."""

from strongroom.lab.bench import Bench
from strongroom.lab.benches.betting import Bets, BetsHot, Drain, Growth
from strongroom.lab.benches.contention import Concurrency, Hotness, Size
from strongroom.lab.benches.generator import Generator
from strongroom.lab.benches.observed import Observed
from strongroom.lab.benches.orders import Orders
from strongroom.lab.benches.orders_export import OrdersExport
from strongroom.lab.benches.orders_reads import OrdersRead
from strongroom.lab.benches.reconcile import Reconcile, ReconcileLarge
from strongroom.lab.benches.ticketing import Tickets, TicketsCart, TicketsExpiry, TicketsPurchase
from strongroom.lab.benches.wallets import Transfers, WalletRead

ALL: tuple[type[Bench], ...] = (
    Bets,
    BetsHot,
    Transfers,
    Drain,
    Growth,
    Concurrency,
    Hotness,
    Size,
    WalletRead,
    Tickets,
    TicketsCart,
    TicketsPurchase,
    TicketsExpiry,
    Orders,
    OrdersRead,
    OrdersExport,
    Generator,
    Observed,
    Reconcile,
    ReconcileLarge,
)

BENCHES: dict[str, type[Bench]] = {bench.name: bench for bench in ALL}

__all__ = ["BENCHES"]
