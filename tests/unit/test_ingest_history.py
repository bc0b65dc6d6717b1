"""History: what follows a trade over a REST that is asked by time, where times are not in the order of the trades."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.core import refusals, tapes
from aether_services.ingest.service.history import History, IdsWentBack
from aether_testing.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.ingest.core.tapes import Place

BTC = Symbol("BTC/USD")
AHEAD = refusals.AHEAD // times.SECOND


class Venue:
    """Tells the trades after a time, as Kraken's REST does. Seconds are counted from now on."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.trades_of_it: list[Trade] = []
        self.began = self.clock.now()

    def traded(self, **seconds: int) -> None:
        """Trades, by number: when each happened."""
        self.trades_of_it = [self.trade(int(name[1:]), at) for name, at in seconds.items()]

    def trade(self, trade_id: int, at: int) -> Trade:
        """One trade."""
        return Trade(
            symbol=BTC,
            trade_id=trade_id,
            side=Side.BUY,
            price=Decimal(1),
            quantity=Decimal(1),
            order_type=OrderType.LIMIT,
            at=Nanoseconds(self.began + at * times.SECOND),
        )

    async def trades(self, symbol: Symbol, after: Place) -> Sequence[Trade]:
        """Those whose time is after that of a place."""
        del symbol
        return [one for one in self.trades_of_it if one.at > tapes.since(after)]

    async def after(self, trade_id: int, at: int) -> list[int]:
        """The numbers of the trades after one."""
        history = History(self, self.clock)  # type: ignore[arg-type]
        return [one.trade_id for one in await history.after(BTC, tapes.place_of(self.trade(trade_id, at)))]


async def test_trades_after_one_whose_time_was_ahead_are_not_lost() -> None:
    venue = Venue()
    venue.traded(t10=-5, t11=AHEAD, t12=1, t13=2, t14=AHEAD + 1)
    assert await venue.after(11, AHEAD) == [12, 13, 14]


async def test_a_trade_ahead_of_its_time_is_no_sign_of_new_ids() -> None:
    venue = Venue()
    venue.traded(t10=-5, t11=AHEAD, t12=0, t13=1)
    assert await venue.after(12, 0) == [13]


@pytest.mark.parametrize("own", [{}, {"t12": 400}], ids=["gone", "another"])
async def test_ids_that_begin_again_are_seen_where_the_place_s_trade_is_another(own: dict[str, int]) -> None:
    venue = Venue()
    venue.traded(t1=100, t2=200, **own)
    with pytest.raises(IdsWentBack):
        await venue.after(12, 0)


async def test_an_id_that_rest_leaves_out_in_any_order_of_times_does_not_exist() -> None:
    venue = Venue()
    venue.traded(t10=-5, t11=0, t13=1, t14=2)
    assert await venue.after(11, 0) == [13, 14]
