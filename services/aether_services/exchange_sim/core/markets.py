"""The ten USD markets of the venue and their assets, with Kraken's names, decimals and minimums."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from aether_services.domain.instruments import Instrument, Symbol, TradingStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """An asset. `name` is that of the WebSocket v2; `rest_id` and `altname` are its names over REST."""

    name: str
    rest_id: str
    altname: str
    digits: int
    display_digits: int


def _asset(name: str, digits: int, display_digits: int, *, rest_id: str = "", altname: str = "") -> Asset:
    return Asset(
        name=name,
        rest_id=rest_id or name,
        altname=altname or name,
        digits=digits,
        display_digits=display_digits,
    )


ASSETS: Final[Mapping[str, Asset]] = {
    asset.name: asset
    for asset in (
        _asset("USD", 4, 2, rest_id="ZUSD"),
        _asset("BTC", 10, 5, rest_id="XXBT", altname="XBT"),
        _asset("ETH", 10, 5, rest_id="XETH"),
        _asset("SOL", 10, 5),
        _asset("XRP", 8, 5, rest_id="XXRP"),
        _asset("ADA", 8, 6),
        _asset("DOGE", 8, 2, rest_id="XXDG", altname="XDG"),
        _asset("LTC", 10, 5, rest_id="XLTC"),
        _asset("LINK", 10, 5),
        _asset("DOT", 10, 8),
        _asset("AVAX", 10, 5),
    )
}


def _market(base: str, rest_id: str, price_digits: int, quantity_min: str) -> Instrument:
    asset, dollar = ASSETS[base], ASSETS["USD"]
    return Instrument(
        symbol=Symbol(f"{base}/USD"),
        wsname=f"{asset.altname}/USD",
        altname=f"{asset.altname}USD",
        rest_id=rest_id,
        base=base,
        base_id=asset.rest_id,
        quote=dollar.name,
        quote_id=dollar.rest_id,
        status=TradingStatus.ONLINE,
        price_digits=price_digits,
        quantity_digits=8,
        cost_digits=5,
        tick_size=Decimal(1).scaleb(-price_digits),
        quantity_min=Decimal(quantity_min),
        cost_min=Decimal("0.5"),
    )


MARKETS: Final[Mapping[Symbol, Instrument]] = {
    market.symbol: market
    for market in (
        _market("BTC", "XXBTZUSD", 1, "0.00005"),
        _market("ETH", "XETHZUSD", 2, "0.001"),
        _market("SOL", "SOLUSD", 2, "0.02"),
        _market("XRP", "XXRPZUSD", 5, "2"),
        _market("ADA", "ADAUSD", 6, "5"),
        _market("DOGE", "XDGUSD", 7, "20"),
        _market("LTC", "XLTCZUSD", 2, "0.04"),
        _market("LINK", "LINKUSD", 5, "0.2"),
        _market("DOT", "DOTUSD", 4, "1.1"),
        _market("AVAX", "AVAXUSD", 2, "0.2"),
    )
}


def names(markets: Iterable[Instrument]) -> dict[str, Instrument]:
    """All names of each market → the market."""
    return {
        name: market for market in markets for name in (market.symbol, market.wsname, market.altname, market.rest_id)
    }
