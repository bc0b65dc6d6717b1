"""Market data from a venue's socket into Kafka, NATS and tables: real servers, real processes, faults on demand."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from typing import TYPE_CHECKING

import pytest

from aether_services.contracts.marketdata import BookMessage, TradeMessage
from aether_services.contracts.statuses import IngestStatus, Output
from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.ingest.core import sharding
from aether_testing import wait
from aether_testing.processes import ingests, pipelines, venues
from aether_testing.servers import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aether_testing.processes.ingests import DataPlane
    from aether_testing.processes.pipelines import Pipeline

BTC, ETH, SOL = ingests.PAIRS


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, market_plane: DataPlane) -> Iterator[Pipeline]:
    """One venue for this module: its published trades stay."""
    folder = tmp_path_factory.mktemp("market-data")
    plane = market_plane.with_database()
    ingests.new_topics(plane)
    with venues.venue(folder / "venue", speed=10) as venue:
        yield pipelines.Pipeline(plane=plane, venue=venue, folder=folder)


def _wait_and_compare(pipeline: Pipeline, *ingest: ingests.Ingest) -> None:
    """What happened has arrived everywhere, and is the same everywhere."""
    with pipeline.paused():
        pipeline.until_all_has_arrived(*ingest)
        pipeline.compare_table()
        pipeline.compare_kafka()


def _more_trades(pipeline: Pipeline, count: int = 5) -> None:
    """Wait until so much more was traded in the busiest market."""
    target = pipeline.venue.get("/status")["pairs"][BTC] + count
    wait.until(lambda: pipeline.venue.get("/status")["pairs"][BTC] >= target, f"{BTC} has had {target} trades")


def test_trades_books_and_tickers_arrive_in_every_output(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        _more_trades(pipeline)
        _wait_and_compare(pipeline, ingest)
        ingest.until(lambda: pipeline.plane.rows("SELECT count(*) FROM aether.tickers")[0][0] > 5, "tickers")
        assert pipeline.plane.rows("SELECT count(*) FROM aether.books")[0][0] > 5
        assert pipeline.plane.rows("SELECT count(*) FROM aether.instruments")[0][0] == 10
        books = [book for book in pipeline.books() if book.usable]
        assert {book.symbol for book in books} == set(ingests.PAIRS)
        assert all(len(book.bids) == len(book.asks) == 10 and book.bids[0] < book.asks[0] for book in books)
        status = ingest.status()
        assert status.ready
        assert all(output.ok for output in status.outputs.values())
        assert ingest.end() == 0


async def test_nats_has_a_subject_per_market(pipeline: Pipeline) -> None:
    with pipeline.ingest():
        async with (
            pipelines.listening(pipeline.plane, "md.book.BTC.USD") as books,
            pipelines.listening(pipeline.plane, "md.trades.>") as trades,
        ):
            await wait.until_async(lambda: len(books) > 20 and len(trades) > 5, "messages on NATS")
    assert {BookMessage.model_validate_json(one).symbol for one in books} == {BTC}
    ids = [(one.symbol, one.trade_id) for one in map(TradeMessage.model_validate_json, trades)]
    for symbol in ingests.PAIRS:
        mine = [trade_id for name, trade_id in ids if name == symbol]
        assert mine == list(range(mine[0], mine[0] + len(mine))) if mine else True


async def test_unverified_book_is_withdrawn_everywhere_and_recovers(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        async with pipelines.listening(pipeline.plane, "md.book.BTC.USD") as received:
            pipeline.venue.admin("/faults/next", {"kind": "checksum", "symbol": BTC})

            def books() -> list[BookMessage]:
                return [BookMessage.model_validate_json(one) for one in received]

            await wait.until_async(lambda: any(not book.usable for book in books()), "the book is withdrawn")
            await wait.until_async(lambda: books()[-1].usable, "the book is usable again")
        (withdrawn,) = [book for book in books() if not book.usable]
        assert (withdrawn.reason, withdrawn.bids, withdrawn.asks) == ("ChecksumMismatch", (), ())
        assert ingest.status().books[BTC].checksum_failures == 1
        assert ingest.status().books[ETH].checksum_failures == 0


@pytest.mark.parametrize("kind", ["drop", "double"])
def test_lost_or_duplicate_message_loses_no_trade(pipeline: Pipeline, kind: str) -> None:
    """The venue's REST first rejects requests for what is missing."""
    with pipeline.ingest() as ingest:
        pipeline.venue.admin("/faults/too-many-requests", {"seconds": 60})
        for channel in ("trade", "book"):
            pipeline.venue.admin("/faults/next", {"kind": kind, "channel": channel, "symbol": BTC, "count": 3})
        ingest.until(lambda: kind not in json.dumps(pipeline.venue.admin("/faults")), "it has happened")
        _more_trades(pipeline)  # a trade that is missing is known by the next one
        rate_limited = "Trades: EGeneral:Too many requests"
        ingest.until(lambda: kind != "drop" or rate_limited in ingest.log, "the gap is queried")
        pipeline.venue.admin("/faults/too-many-requests", {"seconds": 0})
        ingest.until_usable()
        _wait_and_compare(pipeline, ingest)


def test_silent_venue_is_disconnected_and_connected_to_again(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        pipeline.venue.admin("/faults/silence", {"seconds": 11})
        ingest.until(lambda: ingest.status().feed.reconnects == 1, "the connection is given up")
        assert not any(book.usable for book in ingest.status().books.values())
        pipeline.venue.admin("/faults/silence", {"seconds": 0})
        ingest.until_usable()
        _wait_and_compare(pipeline, ingest)


def test_silent_channels_are_named_and_cost_no_trade(pipeline: Pipeline) -> None:
    for channel, symbol in (("trade", BTC), ("ticker", SOL), ("book", ETH)):
        muted = {"channel": channel, "symbol": symbol, "seconds": 300, "snapshots": channel == "book"}
        pipeline.venue.admin("/faults/mute", muted)
    with pipeline.ingest() as ingest:

        def silent() -> dict[str, tuple[str, ...]]:
            return {symbol: book.silent for symbol, book in ingest.status().books.items()}

        target = {BTC: ("trade",), SOL: ("ticker",), ETH: ("book",)}
        ingest.until(lambda: ingest.status().books[ETH].reason == "Contradicted", "the book without updates")
        ingest.until(lambda: silent() == target, "each silent channel is named, and no other")
        for channel, symbol in (("trade", BTC), ("ticker", SOL), ("book", ETH)):
            pipeline.venue.admin("/faults/mute", {"channel": channel, "symbol": symbol, "seconds": 0})
        ingest.until(lambda: not any(silent().values()), "each is received again")
        ingest.until_usable()
        _wait_and_compare(pipeline, ingest)


def test_venue_is_reconnected_after_a_disconnect_or_crash(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        pipeline.venue.admin("/faults/disconnect", {})
        ingest.until(lambda: ingest.status().feed.reconnects >= 1, "the connection has ended")
        ingest.until_usable()
        pipeline.venue.kill()
        ingest.until(lambda: not ingest.status().feed.connected, "the venue is away")
        assert ingest.get("/readyz") is None  # 503
        assert not any(book.usable for book in ingest.status().books.values())
        pipeline.venue.start()
        ingest.until_usable()
        _more_trades(pipeline)
        _wait_and_compare(pipeline, ingest)


def test_venue_that_closes_slow_clients_is_reconnected_without_loss(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        assert pipeline.venue.admin("/faults/slow-consumer", {})["closed"] >= 1
        ingest.until(lambda: ingest.status().feed.reconnects >= 1, "the connection has ended")
        ingest.until_usable()  # and not in ten minutes, as after a close with 1008
        _more_trades(pipeline)
        _wait_and_compare(pipeline, ingest)


@pytest.mark.parametrize("output", list(Output))
def test_hanging_output_stops_no_other_and_catches_up(pipeline: Pipeline, output: Output) -> None:
    with pipeline.ingest() as ingest:
        process = pipeline.plane.processes[output]
        process.suspend()
        try:
            ingest.until(lambda: not ingest.status().outputs[output].ok, f"{output} is away")
            others = [one for one in Output if one is not output]
            before = {one: ingest.status().outputs[one].rate for one in others}
            _more_trades(pipeline)
            status = ingest.status()
            assert all(status.outputs[one].ok and status.outputs[one].rate > 0 for one in others), before
            assert status.outputs[output].lag_seconds > 0
            assert status.ready
        finally:
            process.resume()
        _wait_and_compare(pipeline, ingest)


def test_trades_dropped_from_the_log_are_requested_from_the_venue(pipeline: Pipeline) -> None:
    with pipeline.ingest(tape_length=20) as ingest:
        pipeline.plane.processes[Output.TABLES].suspend()
        try:
            _more_trades(pipeline, 40)
        finally:
            pipeline.plane.processes[Output.TABLES].resume()
        _wait_and_compare(pipeline, ingest)


def test_killed_ingest_continues_at_the_position_of_each_output(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        ingest.end(signal.SIGKILL)
        _more_trades(pipeline, 60)  # more than the venue's snapshot of trades has
        ingest.start()
        ingest.until_usable()
        _wait_and_compare(pipeline, ingest)


async def test_adding_or_removing_a_market_leaves_the_others_unchanged(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        before = ingest.status()
        async with pipelines.listening(pipeline.plane, "md.>") as received:
            ingest.write_live_settings([*ingests.PAIRS, "DOT/USD", "FOO/USD"])
            await asyncio.to_thread(ingest.until_usable, [*ingests.PAIRS, "DOT/USD"])
            after = ingest.status()
            assert after.books["FOO/USD"].reason == "UnknownPair"
            assert after.settings != before.settings
            assert after.feed.reconnects == 0
            ingest.write_live_settings([BTC, ETH, "DOT/USD"])
            await wait.until_async(lambda: set(ingest.status().books) == {BTC, ETH, "DOT/USD"}, "SOL/USD is left")
            await asyncio.to_thread(_more_trades, pipeline)
            assert ingest.status().feed.reconnects == 0
        _assert_no_gap(received, [BTC, ETH])


def _assert_no_gap(received: list[bytes], pairs: Sequence[str]) -> None:
    """Each of these markets had its book all the time, and is without no trade."""
    by_type: dict[str, list[bytes]] = {}
    for body in received:
        by_type.setdefault(json.loads(body)["type"], []).append(body)
    books = [BookMessage.model_validate_json(one) for one in by_type["book"]]
    trades = [TradeMessage.model_validate_json(one) for one in by_type.get("trade", [])]
    for symbol in pairs:
        mine = sorted((one for one in books if one.symbol == symbol), key=lambda one: one.received)
        withdrawn = [(one.id, one.reason, one.received) for one in mine if not one.usable]
        assert not withdrawn, f"{symbol}: {withdrawn}"
        waits = [later.received - earlier.received for earlier, later in itertools.pairwise(mine)]
        assert max(waits) < 3 * times.SECOND, f"{symbol} was without a book for {max(waits) / times.SECOND} s"
        ids = sorted({one.trade_id for one in trades if one.symbol == symbol})
        assert not ids or ids == list(range(ids[0], ids[-1] + 1)), f"{symbol} lacks a trade"


def test_invalid_live_settings_change_nothing(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        digest = ingest.status().settings
        (ingest.folder / "live.json").write_text('{"version": 1, "pairs": ["btc"], "replicas": 0}')
        ingest.until(lambda: "live_settings_rejected" in ingest.log, "it is logged")
        assert ingest.status().settings == digest
        assert set(ingest.status().books) == set(ingests.PAIRS)


async def test_replicas_share_the_markets_and_hand_them_over_with_overlap(pipeline: Pipeline) -> None:
    url, ports = free_ports.consecutive(2)
    with pipeline.ingest(peer_url=url, ports=ports) as first:
        async with pipelines.listening(pipeline.plane, "md.>") as received:
            with ingests.ingest(
                pipeline.folder / "second",
                pipeline.plane,
                ws=pipeline.venue.ws,
                rest=pipeline.venue.rest,
                number=1,
                peer_url=url,
                ports=ports,
            ) as second:
                for one in (first, second):
                    one.write_live_settings(replicas=2)
                second.start()
                order = {symbol: sharding.order(Symbol(symbol), range(2))[0] for symbol in ingests.PAIRS}
                assert set(order.values()) == {0, 1}

                def shared() -> bool:
                    served = [set(one.status().books) for one in (first, second)]
                    return all((symbol in served[0]) == (owner == 0) for symbol, owner in order.items()) and all(
                        (symbol in served[1]) == (owner == 1) for symbol, owner in order.items()
                    )

                await wait.until_async(shared, "each market is served by its first replica")
                first.write_live_settings()
                second.write_live_settings()
                assert second.process is not None
                second.process.send_signal(signal.SIGTERM)
                await wait.until_async(
                    lambda: second.process is not None and second.process.poll() == 0,
                    "the second ends",
                    detail=lambda: second.log,
                )
                assert '"drain_timeout"' not in second.log
                assert set(first.status().books) == set(ingests.PAIRS)
        _assert_no_gap(received, ingests.PAIRS)
        messages = [json.loads(one) for one in received]
        for symbol in ingests.PAIRS:
            writers = {
                one["id"].partition("-")[0] for one in messages if (one["type"], one["symbol"]) == ("book", symbol)
            }
            assert len(writers) == (2 if order[symbol] == 1 else 1)
        await asyncio.to_thread(_wait_and_compare, pipeline, first)


async def test_books_without_a_successor_are_withdrawn_at_shutdown(pipeline: Pipeline) -> None:
    url, ports = free_ports.consecutive(2)  # the second replica never comes
    with pipeline.ingest(peer_url=url, ports=ports) as alone:
        alone.write_live_settings(replicas=2)
        async with pipelines.listening(pipeline.plane, "md.book.>") as received:
            assert alone.process is not None
            alone.process.send_signal(signal.SIGTERM)
            await wait.until_async(
                lambda: alone.process is not None and alone.process.poll() == 0, "it ends", detail=lambda: alone.log
            )
    last = {one.symbol: one for one in map(BookMessage.model_validate_json, received)}
    assert {symbol: (one.usable, one.reason) for symbol, one in last.items()} == dict.fromkeys(
        ingests.PAIRS, (False, "Disconnected")
    )


def test_invalid_settings_end_ingest_and_are_all_named(pipeline: Pipeline) -> None:
    with ingests.ingest(
        pipeline.folder / "wrong",
        pipeline.plane,
        ws="ws://x",
        rest="http://x",
        kafka_port="many",
        nat_port=1,
        book_depth=50,
    ) as one:
        one.environ = {name: value for name, value in one.environ.items() if name != "AETHER_RELEASE"}
        with pytest.raises(AssertionError, match="ended by itself"):
            one.start()
        assert one.process is not None
        assert one.process.wait() == 78
        for name in ("AETHER_KAFKA_PORT", "AETHER_NAT_PORT", "AETHER_RELEASE", "AETHER_BOOK_DEPTH"):
            assert name in one.log


def test_metrics_keep_their_established_names(pipeline: Pipeline) -> None:
    with pipeline.ingest() as ingest:
        names = (
            "kraken_ws_messages_total", "kraken_ws_kafka_publish_duration_seconds_bucket",
            "kraken_ws_kafka_publish_errors_total", "kraken_ws_heartbeat_age_seconds", "ws_sequence_gap_ratio",
            "ws_delivery_latency_seconds_bucket", "risk_marketdata_latest_timestamp_seconds",
            "aether_ingest_checksum_failures_total", "aether_ingest_lag_seconds", "aether_ingest_conflated_total",
            "aether_ingest_channel_silent",
        )  # fmt: skip
        # A book may be usable before anything else was received, and before anything was delivered.
        ingest.until(
            lambda: all(f"\n{name}" in (ingest.get("/metrics") or b"").decode() for name in names),
            "all names are there",
        )
        ingest.until(
            lambda: ingest.buckets("aether_ingest_output_delay_seconds", output="kafka").get("+Inf"), "a delivery"
        )
        assert ingest.buckets("kraken_ws_kafka_publish_duration_seconds").keys() >= {"0.25", "0.3"}
        assert json.loads(ingest.get("/openapi.json") or b"{}")["paths"].keys() >= {"/status", "/books/{base}/{quote}"}
        assert IngestStatus.model_validate_json(ingest.get("/status") or b"").service == "ingest"
