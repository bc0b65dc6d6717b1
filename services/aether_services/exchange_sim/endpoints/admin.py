"""The admin API: faults on demand and the trades of the journal, for tests of clients. On the pod's loopback only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from fastapi import FastAPI, HTTPException, Query

from aether_services.contracts.models import Amount, Message, Time
from aether_services.domain import decimals
from aether_services.domain.instruments import Symbol, TradingStatus
from aether_services.domain.trades import OrderType, Side
from aether_services.exchange_sim import schemas
from aether_services.exchange_sim.connections import TRY_AGAIN
from aether_services.exchange_sim.core.faults import FaultKind

if TYPE_CHECKING:
    from aether_services.exchange_sim.service import Venue

SYSTEM_STATUSES = (TradingStatus.ONLINE, TradingStatus.MAINTENANCE, TradingStatus.CANCEL_ONLY, TradingStatus.POST_ONLY)
PAGE = 1000


class _Body(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class NextMessages(_Body):
    """A fault of the next `count` messages of a channel, of one market or (without symbol) of any."""

    kind: FaultKind
    count: Annotated[int, pydantic.Field(ge=1, le=1_000_000)] = 1
    channel: str = schemas.BOOK
    symbol: str = ""


class Silence(_Body):
    """Seconds for which no message is sent."""

    seconds: Annotated[float, pydantic.Field(ge=0, le=3600)]


class Mute(_Body):
    """A channel of a market to mute, and for how long."""

    channel: str
    symbol: str
    seconds: Annotated[float, pydantic.Field(ge=0, le=3600)]
    snapshots: bool = False
    """Whether snapshots are sent nevertheless: then a book stays as it was when it was subscribed to."""


class CallRejection(_Body):
    """Seconds for which REST calls are rejected."""

    seconds: Annotated[float, pydantic.Field(ge=0, le=3600)]


class System(_Body):
    """The system status of the venue."""

    system: TradingStatus


class Flow(_Body):
    """How the market moves; unset fields are not changed."""

    speed: Annotated[float, pydantic.Field(gt=0, le=100)] | None = None
    flowing: bool | None = None


class JournalTrade(Message):
    """A trade of the journal."""

    symbol: str
    trade_id: int
    side: Side
    order_type: OrderType
    price: Amount
    quantity: Amount
    at: Time


def _check_market(venue: Venue, channel: str, symbol: str | None) -> None:
    """Answer 422 unless the channel has a subscription per market and the market exists."""
    if channel not in schemas.MARKET_CHANNELS:
        raise HTTPException(422, f"a channel is one of {', '.join(schemas.MARKET_CHANNELS)}")
    if symbol is not None and Symbol(symbol) not in venue.instruments:
        raise HTTPException(422, "unknown market")


def create(venue: Venue) -> FastAPI:  # noqa: C901 - ten endpoints, each short
    """The app of the admin API."""
    app = FastAPI(title="Faults on demand", version="1", docs_url=None, redoc_url=None)

    @app.get("/faults")
    async def faults() -> dict[str, Any]:
        """The active faults."""
        return venue.describe_faults()

    @app.post("/faults/next")
    async def next_messages(body: NextMessages) -> dict[str, Any]:
        """Inject a fault into the next messages."""
        _check_market(venue, body.channel, body.symbol or None)
        if body.kind is FaultKind.CHECKSUM and body.channel != schemas.BOOK:
            raise HTTPException(422, "only a book has a checksum")
        venue.subscribers.faults.add(body.kind, body.channel, body.symbol, body.count)
        return venue.describe_faults()

    @app.post("/faults/silence")
    async def silence(body: Silence) -> dict[str, Any]:
        """Send nothing for some seconds, not even heartbeats; 0 ends it."""
        venue.subscribers.silence(body.seconds)
        return venue.describe_faults()

    @app.post("/faults/mute")
    async def mute(body: Mute) -> dict[str, Any]:
        """Send nothing of one channel of one market for some seconds, but acknowledge subscriptions; 0 ends it."""
        _check_market(venue, body.channel, body.symbol)
        venue.subscribers.mute(body.channel, body.symbol, body.seconds, snapshots=body.snapshots)
        return venue.describe_faults()

    @app.post("/faults/too-many-requests")
    async def too_many_requests(body: CallRejection) -> dict[str, Any]:
        """Reject all REST calls with a rate-limit error for some seconds; 0 ends it."""
        venue.block_calls(body.seconds)
        return venue.describe_faults()

    @app.post("/faults/disconnect")
    async def disconnect() -> dict[str, int]:
        """Close all connections."""
        return {"closed": venue.subscribers.close_all(TRY_AGAIN, "disconnected on demand")}

    @app.post("/faults/slow-consumer")
    async def slow_consumer() -> dict[str, int]:
        """Close all connections as slow consumers."""
        return {"closed": venue.subscribers.close_all_as_slow()}

    @app.post("/system")
    async def set_system(body: System) -> dict[str, Any]:
        """Change the system status."""
        if body.system not in SYSTEM_STATUSES:
            raise HTTPException(422, f"a system is one of {', '.join(SYSTEM_STATUSES)}")
        venue.set_system(body.system)
        return venue.describe_faults()

    @app.post("/flow")
    async def flow(body: Flow) -> dict[str, Any]:
        """Change the market's speed, or stop it. When this returns, everything that happened has been broadcast."""
        await venue.flow(speed=body.speed, flowing=body.flowing)
        return venue.describe_faults()

    @app.get("/journal/trades")
    async def trades(
        symbol: str,
        after: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
    ) -> list[JournalTrade]:
        """The trades of the journal that follow a trade_id."""
        one = venue.instruments.get(Symbol(symbol))
        if one is None:
            raise HTTPException(422, "unknown market")
        return [
            JournalTrade(
                symbol=trade.symbol,
                trade_id=trade.trade_id,
                side=trade.side,
                order_type=trade.order_type,
                price=decimals.unscaled(trade.price, one.price_digits),
                quantity=decimals.unscaled(trade.quantity, one.quantity_digits),
                at=trade.at,
            )
            for trade in await venue.journal.following(one.symbol, after, count)
        ]

    return app
