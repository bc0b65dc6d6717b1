"""Ingest's metrics, under the names that users know; read from what it is at the moment of the scrape."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from aether_services.contracts.statuses import Output
from aether_services.domain import times
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from aether_services.contracts.statuses import BookState, OutputState
    from aether_services.ingest.service import Ingest

BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
"""Seconds; 0.25 and 0.3 are what users watch a WebSocket's p99 by."""


class Metrics(Collector):
    """The metrics of one replica."""

    def __init__(self, ingest: Ingest, registry: CollectorRegistry) -> None:
        self._ingest = ingest
        self._delivery = Histogram(
            "ws_delivery_latency_seconds",
            "From the venue's time of a trade or a ticker until it was received",
            buckets=BUCKETS,
            registry=registry,
        )
        self._publish = Histogram(
            "kraken_ws_kafka_publish_duration_seconds",
            "From the moment that a delivery was given to Kafka until all of it was acknowledged",
            buckets=BUCKETS,
            registry=registry,
        )
        self._output = Histogram(
            "aether_ingest_output_delay_seconds",
            "From the receipt of the oldest message of a delivery until it had arrived",
            ["output"],
            buckets=BUCKETS,
            registry=registry,
        )
        ingest.markets.observe = self._delivery.observe
        for output in ingest.outputs:
            output.observe = functools.partial(self._delivered, output.output.name)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """As it is now."""
        ingest = self._ingest
        status, markets = ingest.status(), ingest.markets
        messages = CounterMetricFamily("kraken_ws_messages", "Messages received from the venue", labels=["channel"])
        for channel, number in {**markets.messages, Channel.BOOK: markets.book_messages}.items():
            messages.add_metric([channel], number)
        yield messages
        yield _counter("aether_ingest_messages_not_understood", "Messages that were not understood", markets.malformed)
        rejected = CounterMetricFamily(
            "aether_ingest_refused", "What was received and not taken", labels=["channel", "reason"]
        )
        for (channel, why), number in markets.rejections.counts.items():
            rejected.add_metric([channel, why], number)
        yield rejected
        yield _counter("aether_ingest_reconnects", "Connections to the venue that ended", status.feed.reconnects)
        age = status.feed.age_seconds
        yield _gauge("kraken_ws_heartbeat_age_seconds", "Since the venue was last heard of", age)
        yield _gauge("aether_ingest_feed_connected", "Whether the venue is connected", float(status.feed.connected))
        yield _gauge(
            "risk_marketdata_latest_timestamp_seconds",
            "The newest time that the venue told of a trade or a ticker, since 1970",
            markets.latest / times.SECOND if markets.latest else None,
        )
        trades = markets.messages[Channel.TRADE]
        gaps = sum(book.gaps for book in status.books.values())
        yield _gauge(
            "ws_sequence_gap_ratio", "Gaps in trade ids by messages of trades", gaps / trades if trades else 0.0
        )
        yield from self._books(status.books)
        yield from self._outputs(status.outputs)

    def _delivered(self, output: Output, late: float | None, took: float) -> None:
        if late is not None:
            self._output.labels(output).observe(late)
        if output is Output.KAFKA:
            self._publish.observe(took)

    @staticmethod
    def _books(books: Mapping[str, BookState]) -> Iterator[Metric]:
        usable = GaugeMetricFamily("aether_ingest_book_usable", "Whether a market's book verifies", labels=["symbol"])
        age = GaugeMetricFamily("aether_ingest_book_age_seconds", "Since the last word about a book", labels=["symbol"])
        failures = CounterMetricFamily(
            "aether_ingest_checksum_failures",
            "Times that a book did not verify, or could not be read",
            labels=["symbol"],
        )
        silent = GaugeMetricFamily(
            "aether_ingest_channel_silent",
            "Whether a channel of a market leaves out what happens there",
            labels=["symbol", "channel"],
        )
        gaps = CounterMetricFamily("aether_ingest_trade_gaps", "Times that trades were missed", labels=["symbol"])
        for symbol, book in books.items():
            usable.add_metric([symbol], float(book.usable))
            if book.age_seconds is not None:
                age.add_metric([symbol], book.age_seconds)
            failures.add_metric([symbol], book.checksum_failures)
            gaps.add_metric([symbol], book.gaps)
            for channel in (Channel.BOOK, Channel.TICKER, Channel.TRADE):
                silent.add_metric([symbol, channel], float(channel in book.silent))
        yield from (usable, age, failures, gaps, silent)

    def _outputs(self, outputs: Mapping[Output, OutputState]) -> Iterator[Metric]:
        up = GaugeMetricFamily("aether_ingest_output_up", "Whether an output can be written to", labels=["output"])
        lag = GaugeMetricFamily("aether_ingest_lag_seconds", "For how long the oldest waits", labels=["output"])
        waiting = GaugeMetricFamily("aether_ingest_waiting", "Messages that wait for an output", labels=["output"])
        conflated = CounterMetricFamily("aether_ingest_conflated", "Books and tickers left out", labels=["output"])
        delivered = CounterMetricFamily("aether_ingest_delivered", "Messages or rows that arrived", labels=["output"])
        for name, state in outputs.items():
            up.add_metric([name], float(state.ok))
            lag.add_metric([name], state.lag_seconds)
            waiting.add_metric([name], state.waiting)
            conflated.add_metric([name], state.conflated)
        for output in self._ingest.outputs:
            delivered.add_metric([output.output.name], output.total)
            if output.output.name is Output.KAFKA:
                yield _counter("kraken_ws_kafka_publish_errors", "Deliveries to Kafka that failed", output.failures)
        yield from (up, lag, waiting, conflated, delivered)


def _counter(name: str, help_: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, help_, value=value)


def _gauge(name: str, help_: str, value: float | None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_)
    if value is not None:
        family.add_metric([], value)
    return family
