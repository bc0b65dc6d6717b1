"""Faults on demand, and the journal's truth. Served on the loopback of its pod, to whoever tests our clients."""

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
    """What is to go wrong: the next `count` messages of a channel, of one market or of any."""

    kind: FaultKind
    count: Annotated[int, pydantic.Field(ge=1, le=1_000_000)] = 1
    channel: str = schemas.BOOK
    symbol: str = ""


class Silence(_Body):
    """For how long nothing is sent."""

    seconds: Annotated[float, pydantic.Field(ge=0, le=3600)]


class Mute(_Body):
    """Which channel of which market is sent nothing of, and for how long."""

    channel: str
    symbol: str
    seconds: Annotated[float, pydantic.Field(ge=0, le=3600)]
    snapshots: bool = False
    """Whether its snapshots are sent all the same: then a book is as it was when it was subscribed to."""


class CallRejection(_Body):
    """For how long calls of REST are refused."""

    seconds: Annotated[float, pydantic.Field(ge=0, le=3600)]


class System(_Body):
    """What the venue takes."""

    system: TradingStatus


class Flow(_Body):
    """How the market moves; what is not said stays."""

    speed: Annotated[float, pydantic.Field(gt=0, le=100)] | None = None
    flowing: bool | None = None


class JournalTrade(Message):
    """A trade as it stands in the journal."""

    symbol: str
    trade_id: int
    side: Side
    order_type: OrderType
    price: Amount
    quantity: Amount
    at: Time


def _check_market(venue: Venue, channel: str, symbol: str | None) -> None:
    """Refuse what is no channel that is subscribed to market by market, or no market."""
    if channel not in schemas.MARKET_CHANNELS:
        raise HTTPException(422, f"a channel is one of {', '.join(schemas.MARKET_CHANNELS)}")
    if symbol is not None and Symbol(symbol) not in venue.instruments:
        raise HTTPException(422, "there is no such market here")


def create(venue: Venue) -> FastAPI:  # noqa: C901 - ten ways, each short
    """The app."""
    app = FastAPI(title="Faults on demand", version="1", docs_url=None, redoc_url=None)

    @app.get("/faults")
    async def faults() -> dict[str, Any]:
        """What is wrong on purpose."""
        return venue.describe_faults()

    @app.post("/faults/next")
    async def next_messages(body: NextMessages) -> dict[str, Any]:
        """Let the next messages go wrong."""
        _check_market(venue, body.channel, body.symbol or None)
        if body.kind is FaultKind.CHECKSUM and body.channel != schemas.BOOK:
            raise HTTPException(422, "only a book has a checksum")
        venue.subscribers.faults.add(body.kind, body.channel, body.symbol, body.count)
        return venue.describe_faults()

    @app.post("/faults/silence")
    async def silence(body: Silence) -> dict[str, Any]:
        """Send nothing for a while, not even heartbeats; 0 ends it."""
        venue.subscribers.silence(body.seconds)
        return venue.describe_faults()

    @app.post("/faults/mute")
    async def mute(body: Mute) -> dict[str, Any]:
        """Send nothing of one channel of one market for a while, and acknowledge who subscribes; 0 ends it."""
        _check_market(venue, body.channel, body.symbol)
        venue.subscribers.mute(body.channel, body.symbol, body.seconds, snapshots=body.snapshots)
        return venue.describe_faults()

    @app.post("/faults/too-many-requests")
    async def too_many_requests(body: CallRejection) -> dict[str, Any]:
        """Refuse every call of REST for a while as one too many; 0 ends it."""
        venue.block_calls(body.seconds)
        return venue.describe_faults()

    @app.post("/faults/disconnect")
    async def disconnect() -> dict[str, int]:
        """Close every connection."""
        return {"closed": venue.subscribers.close_all(TRY_AGAIN, "disconnected on demand")}

    @app.post("/faults/slow-consumer")
    async def slow_consumer() -> dict[str, int]:
        """Close every connection as if too many messages waited for it."""
        return {"closed": venue.subscribers.close_all_as_slow()}

    @app.post("/system")
    async def set_system(body: System) -> dict[str, Any]:
        """Change what the venue takes."""
        if body.system not in SYSTEM_STATUSES:
            raise HTTPException(422, f"a system is one of {', '.join(SYSTEM_STATUSES)}")
        venue.set_system(body.system)
        return venue.describe_faults()

    @app.post("/flow")
    async def flow(body: Flow) -> dict[str, Any]:
        """Make the market faster or slower, or stop it: once this is answered, all that happened has been told."""
        await venue.flow(speed=body.speed, flowing=body.flowing)
        return venue.describe_faults()

    @app.get("/journal/trades")
    async def trades(
        symbol: str,
        after: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
    ) -> list[JournalTrade]:
        """The trades that follow one, as they stand in the journal."""
        one = venue.instruments.get(Symbol(symbol))
        if one is None:
            raise HTTPException(422, "there is no such market here")
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
