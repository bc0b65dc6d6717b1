"""Ingest's metrics, some under the names of its predecessor; most are read from the service at each scrape."""

from __future__ import annotations

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
"""Seconds; 0.25 and 0.3 are the usual objectives for the p99 of a WebSocket."""


class Latencies:
    """The histograms of measured times; what ingest's port Observer requires."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._delivery = Histogram(
            "ws_delivery_latency_seconds",
            "Time from the venue's timestamp of a trade or ticker until its receipt",
            buckets=BUCKETS,
            registry=registry,
        )
        self._publish = Histogram(
            "kraken_ws_kafka_publish_duration_seconds",
            "Time to send one delivery to Kafka until all of it is acknowledged",
            buckets=BUCKETS,
            registry=registry,
        )
        self._output = Histogram(
            "aether_ingest_output_delay_seconds",
            "Time from the receipt of the oldest message of a delivery until it arrived at the output",
            ["output"],
            buckets=BUCKETS,
            registry=registry,
        )

    def feed_delay(self, seconds: float) -> None:
        self._delivery.observe(seconds)

    def delivered(self, output: Output, delay: float | None, duration: float) -> None:
        if delay is not None:
            self._output.labels(output).observe(delay)
        if output is Output.KAFKA:
            self._publish.observe(duration)


class Metrics(Collector):
    """The metrics of one replica that are read at each scrape."""

    def __init__(self, ingest: Ingest, registry: CollectorRegistry) -> None:
        self._ingest = ingest
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        ingest = self._ingest
        status, markets = ingest.status(), ingest.markets
        messages = CounterMetricFamily("kraken_ws_messages", "Messages received from the venue", labels=["channel"])
        for channel, number in {**markets.messages, Channel.BOOK: markets.book_messages}.items():
            messages.add_metric([channel], number)
        yield messages
        yield _counter(
            "aether_ingest_malformed_messages", "Messages of the venue that could not be parsed", markets.malformed
        )
        rejected = CounterMetricFamily(
            "aether_ingest_rejected",
            "Messages and entries of the venue that were rejected",
            labels=["channel", "reason"],
        )
        for (channel, why), number in markets.rejections.counts.items():
            rejected.add_metric([channel, why], number)
        yield rejected
        yield _counter(
            "aether_ingest_reconnects", "Connections to the venue that ended or failed", status.feed.reconnects
        )
        age = status.feed.age_seconds
        yield _gauge("kraken_ws_heartbeat_age_seconds", "Time since the last message of the venue", age)
        yield _gauge(
            "aether_ingest_feed_connected",
            "Whether the venue is connected (1) or not (0)",
            float(status.feed.connected),
        )
        yield _gauge(
            "risk_marketdata_latest_timestamp_seconds",
            "The newest timestamp of a trade or ticker, as Unix time",
            markets.latest / times.SECOND if markets.latest else None,
        )
        trades = markets.messages[Channel.TRADE]
        gaps = sum(book.gaps for book in status.books.values())
        yield _gauge(
            "ws_sequence_gap_ratio",
            "Gaps in trade ids divided by the number of trade messages",
            gaps / trades if trades else 0.0,
        )
        yield from self._books(status.books)
        yield from self._outputs(status.outputs)

    @staticmethod
    def _books(books: Mapping[str, BookState]) -> Iterator[Metric]:
        usable = GaugeMetricFamily(
            "aether_ingest_book_usable", "Whether a market's book is usable (1) or not (0)", labels=["symbol"]
        )
        age = GaugeMetricFamily(
            "aether_ingest_book_age_seconds", "Time since the newest book message of a market", labels=["symbol"]
        )
        failures = CounterMetricFamily(
            "aether_ingest_checksum_failures",
            "Books that failed the checksum or could not be parsed",
            labels=["symbol"],
        )
        silent = GaugeMetricFamily(
            "aether_ingest_channel_silent",
            "Whether a channel of a market is subscribed but leaves out updates (1) or not (0)",
            labels=["symbol", "channel"],
        )
        gaps = CounterMetricFamily("aether_ingest_trade_gaps", "Gaps in the trade ids of a market", labels=["symbol"])
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
        up = GaugeMetricFamily("aether_ingest_output_up", "Whether an output is ok (1) or not (0)", labels=["output"])
        lag = GaugeMetricFamily(
            "aether_ingest_lag_seconds",
            "Age of the oldest message or trade that is not delivered yet",
            labels=["output"],
        )
        waiting = GaugeMetricFamily(
            "aether_ingest_waiting", "Messages and trades that are not delivered yet", labels=["output"]
        )
        conflated = CounterMetricFamily(
            "aether_ingest_conflated",
            "Book and ticker messages replaced by newer ones before delivery",
            labels=["output"],
        )
        delivered = CounterMetricFamily("aether_ingest_delivered", "Messages or rows delivered", labels=["output"])
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
