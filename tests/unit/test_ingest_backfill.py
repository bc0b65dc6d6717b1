"""Backfill of trades over REST, which is queried by time, when times are not in the order of the trade ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import rejections, trade_logs
from aether_services.ingest.ports import InvalidTrades
from aether_services.ingest.service.backfill import TradeHistory, TradeIdsReset
from aether_testing.servers.fake_venue import a_trade_at
from aether_testing.values.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.trade_logs import Cursor

BTC = Symbol("BTC/USD")
AHEAD = rejections.MAX_AHEAD // times.SECOND
LONG_AGO = -3 * rejections.MAX_BEFORE // times.SECOND


class Venue:
    """Returns the trades after a time, as Kraken's REST does. Times are in seconds relative to now."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.trades_of_it: list[Trade] = []
        self.began = self.clock.now()
        self.page = 1000
        """Trades per response."""

    def traded(self, **seconds: int) -> None:
        """Trades, by number: when each happened."""
        self.trades_of_it = [self.trade(int(name[1:]), at) for name, at in seconds.items()]

    def trade(self, trade_id: int, at: int) -> Trade:
        """One trade."""
        return a_trade_at(trade_id, Nanoseconds(self.began + at * times.SECOND))

    async def trades(self, symbol: Symbol, after: Cursor) -> Sequence[Trade]:
        """The trades whose time is after that of a cursor."""
        del symbol
        return [one for one in self.trades_of_it if one.at > trade_logs.query_start(after)][: self.page]

    async def after(self, trade_id: int, at: int) -> list[int]:
        """The numbers of the trades after one."""
        history = TradeHistory(self, self.clock)  # type: ignore[arg-type]
        return [one.trade_id for one in await history.after(BTC, trade_logs.cursor_after(self.trade(trade_id, at)))]


async def test_trades_after_one_with_a_future_time_are_not_lost() -> None:
    venue = Venue()
    venue.traded(t10=-5, t11=AHEAD, t12=1, t13=2, t14=AHEAD + 1)
    assert await venue.after(11, AHEAD) == [12, 13, 14]


async def test_trade_with_a_future_time_does_not_mean_new_ids() -> None:
    venue = Venue()
    venue.traded(t10=-5, t11=AHEAD, t12=0, t13=1)
    assert await venue.after(12, 0) == [13]


@pytest.mark.parametrize("own", [{}, {"t12": 400}], ids=["missing", "another"])
async def test_restarted_ids_are_detected_by_another_trade_at_the_position(own: dict[str, int]) -> None:
    venue = Venue()
    venue.traded(t1=100, t2=200, **own)
    with pytest.raises(TradeIdsReset):
        await venue.after(12, 0)


async def test_id_that_rest_omits_in_any_order_does_not_exist() -> None:
    venue = Venue()
    venue.traded(t10=-5, t11=0, t13=1, t14=2)
    assert await venue.after(11, 0) == [13, 14]


async def test_trade_long_after_its_successors_is_withheld_until_corrected() -> None:
    venue = Venue()
    between = {f"t{number}": LONG_AGO + number for number in range(12, 17)}
    venue.traded(t9=LONG_AGO, t10=LONG_AGO + 1, t11=-2, **between, t17=-1)
    assert await venue.after(9, LONG_AGO) == [10]
    with pytest.raises(InvalidTrades, match="long before that of the trade before it"):
        await venue.after(10, LONG_AGO + 1)
    venue.traded(t9=LONG_AGO, t10=LONG_AGO + 1, t11=LONG_AGO + 2, **between, t17=-1)
    assert await venue.after(10, LONG_AGO + 1) == [11, 12, 13, 14, 15, 16]
    assert await venue.after(16, LONG_AGO + 16) == [17], "a quiet pair's next trade may be days later"


async def test_page_end_does_not_make_a_misplaced_trade_the_last() -> None:
    venue = Venue()
    venue.page = 3
    venue.traded(t9=LONG_AGO, t10=LONG_AGO + 9, t11=-2, t12=LONG_AGO + 10, t13=LONG_AGO + 11, t17=-1)
    assert await venue.after(9, LONG_AGO) == [10]
    with pytest.raises(InvalidTrades, match="long before that of the trade before it"):
        await venue.after(10, LONG_AGO + 9)


async def test_trades_hours_before_their_predecessor_are_not_lost() -> None:
    venue = Venue()
    venue.traded(t10=-9000, t11=0, t12=-8999, t13=-8998, t14=1)
    assert await venue.after(11, 0) == [12, 13, 14]


async def test_trade_of_an_earlier_page_is_not_taken_for_missing() -> None:
    venue = Venue()
    answers = iter([[13, 15], [13, 15], [14]])

    async def answer_from(symbol: Symbol, after: Cursor) -> Sequence[Trade]:
        del symbol, after
        return [venue.trade(number, -9000 if number == 14 else number) for number in next(answers)]

    venue.trades = answer_from  # type: ignore[method-assign]
    assert await venue.after(11, 0) == [13, 14, 15]
