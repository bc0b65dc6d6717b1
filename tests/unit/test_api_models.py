"""The models: quantities as numbers, camelCase on the wire, immutable."""

from __future__ import annotations

from decimal import Decimal

import pydantic
import pytest

from aether_operator.api import labels, models
from aether_operator.api.platforms import PlatformSpec, Server
from aether_testing.values import observations


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", Decimal(0)), ("500m", Decimal("0.5")), ("1.5", Decimal("1.5")), ("1k", Decimal(1000)),
        ("1Ki", Decimal(1024)), ("1G", Decimal(10) ** 9), ("1Gi", Decimal(2) ** 30), ("0.5Ti", Decimal(2) ** 39),
        ("2E", 2 * Decimal(10) ** 18), ("1Ei", Decimal(2) ** 60),
    ],
)  # fmt: skip
def test_a_quantity_is_a_number(text: str, number: Decimal) -> None:
    assert models.quantity(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "-1", "1 Gi", "1GB", "1e3", ".5", "1.", "1gi", "\u0661"])
def test_invalid_quantity_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        models.quantity(text)


def test_fields_are_in_camel_case_on_the_wire() -> None:
    written = PlatformSpec().model_dump(mode="json", by_alias=True, exclude_none=True)
    own = written["components"]
    assert {**written, "components": {one: own[one] for one in ("ingest", "exchangeSim") if one in own}} == {
        "paused": False,
        "progressDeadlineSeconds": 300,
        "dataPlane": {
            "postgres": {"mode": "Managed", "timescale": "Preferred"},
            "kafka": {"mode": "Managed"},
            "nats": {"mode": "Managed"},
            "redis": {"mode": "Managed"},
        },
        "venue": {"name": "Simulated"},
        "pairs": [f"{name}/USD" for name in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC", "LINK", "DOT", "AVAX")],
        "components": {"ingest": {"replicas": 1, "resources": {"requests": {}, "limits": {}}}},
        "retention": {"tradesDays": 90, "booksDays": 7, "tickersDays": 30, "candlesDays": 1825},
    }
    assert PlatformSpec.model_validate(written) == PlatformSpec()


def test_a_spec_does_not_change() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        PlatformSpec().retention.trades_days = 1  # type: ignore[misc]


def test_a_data_plane_has_exactly_the_servers() -> None:
    plane = PlatformSpec().data_plane
    assert set(type(plane).model_fields) == {server.value for server in Server}
    assert [plane.of(server) for server in Server] == [plane.postgres, plane.kafka, plane.nats, plane.redis]


def test_selector_labels_are_on_the_children() -> None:
    assert (
        labels.selector(observations.an_owner("paper"), "kafka").items()
        < labels.for_child(observations.an_owner("paper"), "kafka").items()
    )
