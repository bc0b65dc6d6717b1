"""The venue's REST as ingest reads it: what is wrong with one entry or row is not wrong with the others."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.adapters.kraken import Kraken
from aether_services.ingest.core.rejections import RejectionReason, Rejections
from aether_services.ingest.core.trade_logs import Cursor
from aether_services.ingest.ports import InvalidTrades, VenueUnavailable
from aether_services.ingest.service.backfill import TradeHistory
from aether_services.ingest.service.instrument_list import InstrumentListReader
from aether_testing.values import clocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aether_services.domain.instruments import Instrument

BTC: Final = Symbol("BTC/USD")
AT: Final = clocks.BEGIN // times.SECOND
CURSOR: Final = Cursor(trade_id=6, at=Nanoseconds(clocks.BEGIN))
PAIR: Final[dict[str, Any]] = {
    "altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "status": "online", "pair_decimals": 2,
    "lot_decimals": 8, "cost_decimals": 5, "ordermin": "0.0001", "costmin": "0.5", "tick_size": "0.01",
}  # fmt: skip
ETH: Final = PAIR | {"altname": "ETHUSD", "wsname": "ETH/USD", "base": "XETH"}


def a_row(number: int, price: object = "100.05000", volume: object = "0.50000000", at: object = AT + 1) -> list[Any]:
    return [price, volume, at, "b", "l", "", number]


class Rest:
    """A venue's REST with scripted responses."""

    def __init__(self) -> None:
        self.pairs: dict[str, Any] = {"XXBTZUSD": PAIR}
        self.rows: list[Any] = []
        self.last: Any = "0"
        self.errors: list[web.Response] = []
        """What the next questions are answered instead."""
        self.requests: list[str] = []
        self.requested_at: list[float] = []
        self.queries: list[dict[str, str]] = []
        self.clock = clocks.Clock()
        self.rejections = Rejections()

    async def answer(self, request: web.Request) -> web.Response:
        """One question."""
        method = request.match_info["what"]
        self.requests.append(method)
        self.requested_at.append(self.clock.elapsed())
        if self.errors:
            return self.errors.pop(0)
        self.queries.append(dict(request.query))
        result = self.pairs if method == "AssetPairs" else {"XXBTZUSD": self.rows, "last": self.last}
        return web.Response(text=json.dumps({"error": [], "result": result}))

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Kraken]:
        """A client of it."""
        app = web.Application()
        app.router.add_get("/0/public/{what}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            (address,) = runner.addresses
            url = f"http://127.0.0.1:{address[1]}"
            ws_url = f"{url}/0/public/v2"
            async with Kraken(
                ws_url=ws_url, rest_url=url, pause=0, clock=self.clock, rejections=self.rejections
            ) as kraken:
                yield kraken
        finally:
            await runner.cleanup()

    async def save(self, instruments: Sequence[Instrument]) -> None:
        """Write nothing down."""

    def history(self, kraken: Kraken) -> TradeHistory:
        instrument_list = InstrumentListReader(kraken, self, self.clock, self.rejections)
        return TradeHistory(kraken, self.clock, instrument_list.reload, self.rejections)


@pytest.mark.parametrize(
    "wrong",
    [
        {"costmin": ...}, {"tick_size": None}, {"tick_size": "NaN"}, {"tick_size": "0"}, {"ordermin": "-1"},
        {"pair_decimals": "2"}, {"pair_decimals": 10**9}, {"status": 5}, {"altname": "A\0B"}, {"costmin": "Infinity"},
        {"lot_decimals": -1}, {"base": []},
    ],
    ids=str,
)  # fmt: skip
async def test_malformed_pair_is_skipped_and_named_once_without_affecting_others(
    wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rest = Rest()
    rest.pairs = {
        "XETHZUSD": {name: value for name, value in (ETH | wrong).items() if value is not ...},
        "XXBTZUSD": PAIR,
        "OTHER": {"wsname": "FOO/EUR"},
        "STRANGE": 7,
    }
    rest.rows = [a_row(7)]
    with caplog.at_level(logging.WARNING):
        async with rest.served() as kraken:
            for _ in range(2):
                listed = await kraken.instruments()
                assert [one.symbol for one in listed.instruments] == [BTC]
                assert "ETH/USD" in listed.unreadable
            assert [one.trade_id for one in await kraken.trades(BTC, CURSOR)] == [7]
            with pytest.raises(InvalidTrades, match="the entry of ETH/USD is malformed"):
                await kraken.trades(Symbol("ETH/USD"), CURSOR)
    assert [record.__dict__["symbol"] for record in caplog.records] == ["ETH/USD", "STRANGE"]
    assert rest.rejections.counts == {("AssetPairs", RejectionReason.MALFORMED): 4}


@pytest.mark.parametrize(
    "row",
    [
        a_row(9, price="NaN"), a_row(9, price=100.05), a_row(9, volume=None), a_row(9, volume="0"), a_row(9, at="NaN"),
        a_row(9, at=None), [*a_row(9)[:3], "x", *a_row(9)[4:]], [], "row", None, [*a_row(9)[:6], 9.5],
    ],
    ids=str,
)  # fmt: skip
async def test_only_trades_before_a_malformed_row_are_returned(row: Any) -> None:
    rest = Rest()
    rest.rows = [a_row(6), a_row(7), a_row(8), row, a_row(10)]
    async with rest.served() as kraken:
        assert [one.trade_id for one in await kraken.trades(BTC, CURSOR)] == [7, 8]
        with pytest.raises(InvalidTrades, match=r"^Trades: "):
            await kraken.trades(BTC, Cursor(trade_id=8, at=CURSOR.at))
        rest.rows[3] = a_row(9)
        assert [one.trade_id for one in await kraken.trades(BTC, Cursor(trade_id=8, at=CURSOR.at))] == [6, 7, 8, 9, 10]


async def test_malformed_row_of_a_known_trade_is_ignored() -> None:
    rest = Rest()
    rest.rows = [a_row(5, price="NaN"), a_row(6), a_row(8)]
    async with rest.served() as kraken:
        assert [one.trade_id for one in await kraken.trades(BTC, CURSOR)] == [6, 8]


async def test_numbers_are_read_in_their_market_s_decimals() -> None:
    rest = Rest()
    rest.rows = [a_row(7.0, price="1e2", volume="5E-1", at=(AT + 1) * 1.0)]  # type: ignore[arg-type]
    async with rest.served() as kraken:
        (one,) = await kraken.trades(BTC, CURSOR)
    assert (str(one.price), str(one.quantity), one.trade_id) == ("100.00", "0.50000000", 7)
    assert one.at == clocks.BEGIN + times.SECOND


@pytest.mark.parametrize("last", ["x", 5, None, "-1", "1" * 40])
async def test_null_cursor_is_a_malformed_response(last: Any) -> None:
    rest = Rest()
    rest.last = last
    async with rest.served() as kraken:
        with pytest.raises(VenueUnavailable, match="malformed response"):
            await kraken.trades(BTC, CURSOR)


async def test_precision_increased_mid_session_is_fetched_again_at_once() -> None:
    rest = Rest()
    rest.rows = [a_row(7)]
    async with rest.served() as kraken:
        history = rest.history(kraken)
        assert [one.trade_id for one in await history.after(BTC, CURSOR)] == [7]
        rest.pairs = {"XXBTZUSD": PAIR | {"pair_decimals": 3}}
        rest.rows = [a_row(7), a_row(8, price="100.055")]
        (one,) = await history.after(BTC, Cursor(trade_id=7, at=CURSOR.at))
    assert one.price == Decimal("100.055")
    assert rest.clock.seconds == clocks.Clock().seconds, "and nobody waited"


async def test_number_beyond_any_precision_causes_no_request_storm() -> None:
    rest = Rest()
    rest.rows = [a_row(7, price="100.055")]
    async with rest.served() as kraken:
        history = rest.history(kraken)
        for _ in range(120):
            with pytest.raises(InvalidTrades, match="more than 2 decimals"):
                await history.after(BTC, CURSOR)
            await rest.clock.sleep(1)
    assert 3 <= rest.requests.count("AssetPairs") <= 10, "in two minutes"
    assert rest.rejections.counts["Trades", RejectionReason.DECIMALS] >= 120


async def test_trade_with_a_future_time_is_withheld_until_corrected() -> None:
    rest = Rest()
    ahead = AT + rest.clock.seconds + 3 * 86400
    rest.rows = [a_row(7), a_row(8, at=ahead), a_row(9)]
    async with rest.served() as kraken:
        history = rest.history(kraken)
        assert [one.trade_id for one in await history.after(BTC, CURSOR)] == [7]
        after = Cursor(trade_id=7, at=CURSOR.at)
        with pytest.raises(InvalidTrades, match=r"^Trades: a time ahead of our clock$"):
            await history.after(BTC, after)
        assert rest.rejections.counts["Trades", RejectionReason.TIME_AHEAD] == 2
        rest.rows[1] = a_row(8)
        assert [one.trade_id for one in await history.after(BTC, after)] == [8, 9], "the venue has put it right"
        rest.rows[1] = a_row(8, at=ahead)
        await rest.clock.sleep(3 * 86400)
        with pytest.raises(InvalidTrades, match="before that of the trade before it"):
            await history.after(BTC, after)
        rest.rows[1] = a_row(8)
        assert [one.trade_id for one in await history.after(BTC, after)] == [8, 9]


async def test_trade_long_before_its_predecessor_is_withheld() -> None:
    rest = Rest()
    rest.rows = [a_row(7), a_row(8), a_row(9, at=AT - 86400)]
    async with rest.served() as kraken:
        history = rest.history(kraken)
        assert [one.trade_id for one in await history.after(BTC, CURSOR)] == [7]
        with pytest.raises(InvalidTrades, match="before that of the trade before it"):
            await history.after(BTC, Cursor(trade_id=7, at=Nanoseconds(clocks.BEGIN + times.SECOND)))
        with pytest.raises(InvalidTrades, match="before that of the trade before it"):
            await history.after(BTC, Cursor(trade_id=8, at=Nanoseconds(clocks.BEGIN + times.SECOND)))


async def test_newest_trades_need_no_position_and_may_be_none() -> None:
    rest = Rest()
    rest.rows = [a_row(3), a_row(5), a_row(6)]
    async with rest.served() as kraken:
        history = rest.history(kraken)
        assert [one.trade_id for one in await kraken.trades(BTC, None)] == [3, 5, 6]
        assert "since" not in rest.queries[-1]
        assert [one.trade_id for one in await history.newest(BTC)] == [5, 6], "without a gap"
        rest.rows = []
        assert await history.newest(BTC) == []


async def test_newest_trades_begin_after_the_last_invalid_one() -> None:
    rest = Rest()
    ahead = AT + rest.clock.seconds + 3 * 86400
    rest.rows = [a_row(3), a_row(4, price="NaN"), a_row(5), a_row(6, at=ahead), a_row(7), a_row(8)]
    async with rest.served() as kraken:
        history = rest.history(kraken)
        assert [one.trade_id for one in await kraken.trades(BTC, None)] == [5, 6, 7, 8]
        assert [one.trade_id for one in await history.newest(BTC)] == [7, 8]
        rest.rows.append(a_row(9, at=ahead))
        with pytest.raises(InvalidTrades, match=r"^Trades: a time ahead of our clock$"):
            await history.newest(BTC)
        rest.rows.append(a_row(10, volume="0"))
        with pytest.raises(InvalidTrades, match=r"^Trades: not positive"):
            await history.newest(BTC)


ANY: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
    | st.sampled_from(["NaN", "1e999", 1e300, 2**70, "0", "b", "XBT/USD"]),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


class ScriptedKraken(Kraken):
    """A client with scripted results."""

    results: dict[str, Any]

    async def _body(self, method: str, requests: object) -> bytes:
        del requests
        return json.dumps({"error": [], "result": self.results[method]}).encode()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(sorted(PAIR)), value=ANY, column=st.integers(0, 6), cell=ANY, last=ANY, whole=ANY)
async def test_any_value_in_any_field_is_survived(  # noqa: PLR0913 - a value for each
    field: str, value: Any, column: int, cell: Any, last: Any, whole: Any
) -> None:
    failure = Rejections()
    row = a_row(8)
    row[column] = cell
    for pairs, rows in (
        ({"XETHZUSD": ETH | {field: value}, "XXBTZUSD": PAIR}, {"X": [a_row(7), row], "last": "0"}),
        ({"XXBTZUSD": PAIR, "X": whole}, {"X": [a_row(7), whole], "last": last}),
        (whole, whole),
    ):
        kraken = ScriptedKraken(ws_url="", rest_url="", pause=0, clock=clocks.Clock(), rejections=failure)
        kraken.results = {"AssetPairs": pairs, "Trades": rows}
        try:
            listed = await kraken.instruments()
            assert pairs is whole or BTC in {one.symbol for one in listed.instruments}
            assert pairs is whole or 7 in {one.trade_id for one in await kraken.trades(BTC, CURSOR)}
        except VenueUnavailable:
            assert pairs is whole or last != "0"
    assert not [why for _, why in failure.counts if why is RejectionReason.UNEXPECTED]


def rejected_with(*errors: str) -> web.Response:
    return web.Response(text=json.dumps({"error": errors}))


async def tries(rest: Rest, kraken: Kraken, count: int) -> list[float]:
    """Query trades some times; returns the seconds between the queries, successful or not."""
    begun = len(rest.requested_at)
    for _ in range(count):
        with contextlib.suppress(VenueUnavailable):
            await kraken.trades(BTC, CURSOR)
    return [after - before for before, after in itertools.pairwise(rest.requested_at[begun:])]


async def test_rate_limited_calls_back_off_until_one_is_answered() -> None:
    rest = Rest()
    rest.rows = [a_row(7)]
    async with rest.served() as kraken:
        await kraken.instruments()
        rest.errors = [rejected_with("EGeneral:Too many requests") for _ in range(8)]
        assert await tries(rest, kraken, 10) == [1, 2, 4, 8, 16, 30, 30, 30, 0]
        rest.errors = [rejected_with("EGeneral:Too many requests")]
        assert await tries(rest, kraken, 3) == [1, 0], "and from the begin after the next one"


@pytest.mark.parametrize(
    ("rejection", "pause"),
    [
        (rejected_with("EAPI:Rate limit exceeded"), 1),
        (rejected_with("WGeneral:Danger", "EGeneral: Too many requests"), 1),
        (rejected_with("EService:Throttled: 1795608000"), 1),
        (rejected_with("EGeneral:Temporary lockout"), 1),
        (web.Response(status=429, text="error code: 1015"), 1),
        (rejected_with("EQuery:Unknown asset pair"), 0),
        (web.Response(status=520), 0),
    ],
    ids=lambda one: getattr(one, "text", one),
)
async def test_only_a_rate_limited_call_delays_the_next(rejection: web.Response, pause: float) -> None:
    rest = Rest()
    async with rest.served() as kraken:
        await kraken.instruments()
        rest.errors = [rejection]
        assert await tries(rest, kraken, 2) == [pause]


@pytest.mark.parametrize("status", [429, 503])
async def test_rejected_websocket_handshake_is_reported_with_its_status(status: int) -> None:
    rest = Rest()
    rest.errors = [web.Response(status=status, text="error code: 1015")]
    async with rest.served() as kraken:
        with pytest.raises(VenueUnavailable, match=str(status)) as failure:
            async with kraken.connected():
                pass
    assert failure.value.code == status


async def test_client_that_closes_does_not_wait_for_its_next_call() -> None:
    rest = Rest()
    async with rest.served() as kraken:
        rest.errors = [rejected_with("EGeneral:Too many requests")]
        with pytest.raises(VenueUnavailable, match="AssetPairs: EGeneral:Too many requests"):
            await kraken.instruments()
        assert rest.clock.elapsed() == rest.requested_at[-1], "the rejection is reported at once"
