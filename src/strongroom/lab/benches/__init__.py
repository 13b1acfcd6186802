"""The benches, by the names that the command line knows."""

from strongroom.lab.bench import Bench
from strongroom.lab.benches.betting import Bets, BetsHot, Drain, Growth
from strongroom.lab.benches.wallets import Transfers, WalletRead

BENCHES: dict[str, type[Bench]] = {
    bench.name: bench for bench in (Bets, BetsHot, Transfers, Drain, Growth, WalletRead)
}

__all__ = ["BENCHES"]
