"""Subscriptions: which requests are sent and when, and how replies and data change their state."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aether_services.domain.instruments import Symbol
from aether_services.ingest.core import subscriptions, wire
from aether_services.ingest.core.subscriptions import ReplyResult, State, Subscriptions
from aether_services.ingest.core.wire import Channel
from aether_services.ingest.service.receiver import TICK

BTC, ETH, SOL = (Symbol(f"{base}/USD") for base in ("BTC", "ETH", "SOL"))
BOOK: Final = (Channel.BOOK, BTC)
TRADE: Final = (Channel.TRADE, BTC)
MANY: Final = [Symbol(f"X{number:03}/USD") for number in range(150)]
ALREADY, NOT_THERE, TOO_FAST = "Already subscribed", "Subscription Not Found", "Exceeded msg rate"


def some_subscriptions(**more: Any) -> Subscriptions:
    return Subscriptions(
        params={Channel.BOOK: {"depth": 100}}, extra={Channel.BOOK: {"snapshot": True}}, jitter=lambda: 0.5, **more
    )


def requests(
    one: Subscriptions, required: set[subscriptions.Key], now: float = 0.0, limit: int = 100
) -> list[dict[str, Any]]:
    return [json.loads(request) for request in one.requests(required, now, limit=limit)]


def methods(one: Subscriptions, required: set[subscriptions.Key], now: float = 0.0) -> list[str]:
    return [request["method"] for request in requests(one, required, now)]


def reply(req_id: int, *, error: str = "", symbol: str = "") -> wire.Head:
    """As Kraken formats it: a rejection has its symbol beside the error, if at all; other replies in the result."""
    words: dict[str, Any] = {"method": "x", "req_id": req_id, "success": not error}
    if error:
        words |= {"error": error} | ({"symbol": symbol} if symbol else {})
    else:
        words["result"] = {"channel": "x", "snapshot": True} | ({"symbol": symbol} if symbol else {})
    return wire.head(json.dumps(words))


def a_held_book(**more: Any) -> Subscriptions:
    """Whose snapshot has come."""
    one = some_subscriptions(**more)
    requests(one, {BOOK})
    one.handle_reply(reply(1), 0)
    one.data_received(BOOK, 0)
    return one


def test_subscription_is_requested_once_and_ended_with_its_key() -> None:
    one = some_subscriptions()
    (request,) = requests(one, {BOOK})
    assert request == {
        "method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 100, "snapshot": True},
        "req_id": 1,
    }  # fmt: skip
    assert requests(one, {BOOK}) == []
    assert one.handle_reply(reply(1), 0) == ReplyResult((BOOK,), State.SUBSCRIBED)
    (request,) = requests(one, set())
    assert request == {
        "method": "unsubscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 100}, "req_id": 2,
    }  # fmt: skip
    assert one.handle_reply(reply(2), 0) == ReplyResult((BOOK,), State.UNSUBSCRIBING)
    assert one.state(BOOK) is None


def test_rejection_is_matched_by_request_id_and_retried_later() -> None:
    one = some_subscriptions()
    requests(one, {BOOK})
    words = "Currency pair not supported BTC/USD"
    assert one.handle_reply(reply(1, error=words), 0) == ReplyResult((BOOK,), State.REJECTED, words)
    assert one.error(BOOK) == words
    assert requests(one, {BOOK}, subscriptions.RETRY_REJECTED - 1) == []
    assert len(requests(one, {BOOK}, subscriptions.RETRY_REJECTED)) == 1
    assert requests(one, set(), subscriptions.RETRY_REJECTED) == []  # it is answered first
    assert one.handle_reply(reply(2), subscriptions.RETRY_REJECTED) == ReplyResult((BOOK,), State.SUBSCRIBED)
    assert one.error(BOOK) == ""
    assert methods(one, set(), subscriptions.RETRY_REJECTED) == ["unsubscribe"]


def test_rejected_market_that_is_not_required_is_forgotten() -> None:
    one = some_subscriptions()
    requests(one, {BOOK})
    one.handle_reply(reply(1, error="no"), 0)
    assert requests(one, set()) == []
    assert one.state(BOOK) is None


def test_unanswered_request_is_repeated() -> None:
    one = some_subscriptions()
    requests(one, {BOOK})
    assert requests(one, {BOOK}, subscriptions.REPLY_TIMEOUT - 1) == []
    (request,) = requests(one, {BOOK}, subscriptions.REPLY_TIMEOUT)
    assert (request["method"], request["req_id"]) == ("subscribe", 2)
    assert one.handle_reply(reply(1), 11) is None  # the answer to a question that counts no more
    assert one.handle_reply(reply(2), 11) == ReplyResult((BOOK,), State.SUBSCRIBED)


def test_unanswered_subscription_that_is_no_longer_required_is_ended() -> None:
    one = some_subscriptions()
    requests(one, {BOOK})
    assert methods(one, set(), subscriptions.REPLY_TIMEOUT) == ["unsubscribe"]


def test_renewed_book_is_unsubscribed_and_subscribed_again() -> None:
    one = some_subscriptions()
    one.resubscribe(BOOK, 0)  # nothing is held yet: a snapshot comes anyway
    assert methods(one, {BOOK}) == ["subscribe"]
    one.handle_reply(reply(1), 0)
    one.resubscribe(BOOK, 0)  # as here
    assert methods(one, {BOOK}) == []
    one.data_received(BOOK, 0)
    one.resubscribe(BOOK, 0)
    assert methods(one, {BOOK}) == ["unsubscribe"]
    assert methods(one, {BOOK}) == []
    one.handle_reply(reply(2), 0)
    assert methods(one, {BOOK}) == ["subscribe"]


def test_requests_at_once_are_limited() -> None:
    one = some_subscriptions(symbols_at_once=1)
    required: set[subscriptions.Key] = {(Channel.TRADE, symbol) for symbol in MANY[:5]}
    assert len(requests(one, required, limit=3)) == 3
    assert len(requests(one, required)) == 2


# What the venue holds.


@pytest.mark.parametrize("channel", [Channel.BOOK, Channel.TRADE, Channel.TICKER, Channel.INSTRUMENT])
@pytest.mark.parametrize("words", [ALREADY, "already  Subscribed"])
def test_existing_subscription_is_ended_and_renewed_for_its_snapshot(channel: Channel, words: str) -> None:
    key = (channel, None if channel is Channel.INSTRUMENT else BTC)
    one = some_subscriptions()
    requests(one, {key})  # it is done, and the answer lost
    requests(one, {key}, 10)
    assert one.handle_reply(reply(2, error=words), 10) == ReplyResult((key,), State.UNSUBSCRIBING)
    assert one.error(key) == ""
    assert methods(one, {key}, 10) == ["unsubscribe"]
    one.handle_reply(reply(3), 10)
    assert methods(one, {key}, 10) == ["subscribe"]
    assert one.handle_reply(reply(4), 10) == ReplyResult((key,), State.SUBSCRIBED)


def test_subscription_that_survives_its_accepted_end_backs_off() -> None:
    one = some_subscriptions()
    requests(one, {TRADE})
    subscribed, req_id, now = list[float](), 1, 0.0
    while now < 100:
        one.handle_reply(reply(req_id, error=ALREADY), now)
        while not (left := requests(one, {TRADE}, now)):
            now += 0.5
        one.handle_reply(reply(left[0]["req_id"]), now)
        (joined,) = requests(one, {TRADE}, now)
        subscribed.append(now)
        req_id = joined["req_id"]
    assert subscribed == [0, 1, 3, 7, 15, 31, 63, 123]
    one.handle_reply(reply(req_id), now)
    assert one.failures == {}


@pytest.mark.parametrize("answers", [{}, {"error": ALREADY}])
def test_data_prove_a_subscription_whatever_its_reply(answers: dict[str, str]) -> None:
    one = some_subscriptions()
    requests(one, {BOOK})
    one.data_received(BOOK, 1)
    assert one.state(BOOK) is State.SUBSCRIBED
    assert one.handle_reply(reply(1, **answers), 1) == ReplyResult((BOOK,), State.SUBSCRIBED)
    assert requests(one, {BOOK}, 100) == []


def test_last_data_of_an_ended_subscription_prove_nothing() -> None:
    one = a_held_book()
    one.resubscribe(BOOK, 0)
    requests(one, {BOOK})
    one.data_received(BOOK, 0)
    assert one.state(BOOK) is State.UNSUBSCRIBING
    one.handle_reply(reply(2), 0)
    one.data_received(BOOK, 0)
    assert methods(one, {BOOK}) == ["subscribe"]


@pytest.mark.parametrize("required", [{BOOK}, set[subscriptions.Key]()])
def test_unsubscription_with_a_lost_reply_is_complete(required: set[subscriptions.Key]) -> None:
    one = a_held_book()
    one.resubscribe(BOOK, 0)
    requests(one, required)  # it is done, and the answer lost
    assert methods(one, required, 10) == ["unsubscribe"]
    assert one.handle_reply(reply(3, error=NOT_THERE), 10) == ReplyResult((BOOK,), State.UNSUBSCRIBING)
    assert methods(one, required, 10) == (["subscribe"] if required else [])


def test_rejected_unsubscription_is_repeated() -> None:
    one = a_held_book()
    requests(one, set())
    assert one.handle_reply(reply(2, error="Malformed request"), 0) == ReplyResult(
        (BOOK,), State.UNSUBSCRIBING, "Malformed request"
    )
    assert methods(one, set(), 9) == []
    assert methods(one, set(), 10) == ["unsubscribe"]


@pytest.mark.parametrize("key", [BOOK, (Channel.INSTRUMENT, None)])
def test_subscription_without_its_snapshot_is_renewed(key: subscriptions.Key) -> None:
    one, timeout = some_subscriptions(), subscriptions.SNAPSHOT_TIMEOUT[key[0]]
    requests(one, {key})
    one.handle_reply(reply(1), 5)
    assert requests(one, {key}, 5 + timeout - 0.1) == []
    assert methods(one, {key}, 5 + timeout) == ["unsubscribe"]
    assert one.failures == {key: 1}
    one.handle_reply(reply(2), 9)
    requests(one, {key}, 9)
    one.data_received(key, 9)
    assert one.failures == ({key: 1} if key == BOOK else {})


def test_rate_limit_pauses_and_is_no_rejection() -> None:
    one = some_subscriptions()
    required: set[subscriptions.Key] = {(Channel.TRADE, BTC), (Channel.TRADE, ETH)}
    requests(one, required)
    result = one.handle_reply(reply(1, error=TOO_FAST), 0)
    assert result is not None
    assert (set(result.keys), result.state, result.error) == (required, State.SUBSCRIBING, TOO_FAST)
    assert requests(one, {*required, BOOK}, subscriptions.TOO_FAST_PAUSE - 0.1) == []
    assert {one["params"]["channel"] for one in requests(one, {*required, BOOK}, subscriptions.TOO_FAST_PAUSE)} == {
        "book",
        "trade",
    }


def test_unattributed_rate_limit_pauses_too() -> None:
    one = a_held_book()
    words = {"method": "subscribe", "success": False, "error": TOO_FAST}
    assert one.handle_reply(wire.head(json.dumps(words)), 0) is None
    assert requests(one, {BOOK, TRADE}, subscriptions.TOO_FAST_PAUSE - 0.1) == []
    assert methods(one, {BOOK, TRADE}, subscriptions.TOO_FAST_PAUSE) == ["subscribe"]


# Several symbols in one request.


def test_a_hundred_and_fifty_books_are_three_requests() -> None:
    one = some_subscriptions()
    sent = requests(one, set[subscriptions.Key]((Channel.BOOK, symbol) for symbol in MANY))
    assert [request["params"]["symbol"] for request in sent] == [MANY[:50], MANY[50:100], MANY[100:]]
    for request in sent:
        for symbol in request["params"]["symbol"]:
            one.handle_reply(reply(request["req_id"], symbol=symbol), 0)
    assert all(one.state((Channel.BOOK, symbol)) is State.SUBSCRIBED for symbol in MANY)


def test_each_symbol_of_a_request_has_its_own_reply() -> None:
    one, required = (
        some_subscriptions(),
        set[subscriptions.Key]({(Channel.TRADE, symbol) for symbol in (BTC, ETH, SOL)}),
    )
    assert len(requests(one, required)) == 1
    one.handle_reply(reply(1, symbol=BTC), 0)
    one.handle_reply(reply(1, symbol=BTC), 0)  # twice
    words = "Currency pair not supported ETH/USD"
    assert one.handle_reply(reply(1, error=words, symbol=ETH), 0) == ReplyResult(
        ((Channel.TRADE, ETH),), State.REJECTED, words
    )
    assert one.handle_reply(reply(1, symbol=ETH), 0) is None
    assert [one.state((Channel.TRADE, symbol)) for symbol in (BTC, ETH, SOL)] == [
        State.SUBSCRIBED,
        State.REJECTED,
        State.SUBSCRIBING,
    ]
    (renewed,) = requests(one, required, 10)  # the reply to it was lost
    assert renewed["params"]["symbol"] == [SOL]


def test_rejection_that_names_no_symbol_splits_the_request() -> None:
    one, required = (
        some_subscriptions(),
        set[subscriptions.Key]({(Channel.TRADE, symbol) for symbol in (BTC, ETH, SOL)}),
    )
    requests(one, required)
    one.handle_reply(reply(1, symbol=BTC), 0)
    assert one.handle_reply(reply(1, error="Malformed request"), 0) is None
    assert [request["params"]["symbol"] for request in requests(one, required, 10)] == [[ETH], [SOL]]
    one.handle_reply(reply(2, error="Malformed request"), 10)
    one.handle_reply(reply(3), 10)
    assert [one.state((Channel.TRADE, symbol)) for symbol in (BTC, ETH, SOL)] == [
        State.SUBSCRIBED,
        State.REJECTED,
        State.SUBSCRIBED,
    ]


def test_healthy_books_are_renewed_one_by_one_after_all_others() -> None:
    one, required = some_subscriptions(), set[subscriptions.Key]({(Channel.BOOK, symbol) for symbol in (BTC, ETH, SOL)})
    requests(one, required)
    for key in required:
        one.handle_reply(reply(1, symbol=str(key[1])), 0)
        one.data_received(key, 0)
    for key in required - {(Channel.BOOK, SOL)}:
        one.resubscribe(key, 300, failed=False)
    one.resubscribe((Channel.BOOK, SOL), 300)
    sent = requests(one, {*required, TRADE}, 300)
    assert [(request["params"]["channel"], request["params"]["symbol"]) for request in sent] == [
        ("trade", [BTC]), ("book", [SOL]), ("book", [BTC]), ("book", [ETH]),
    ]  # fmt: skip


# A market that fails.


def fail(one: Subscriptions, key: subscriptions.Key, now: float) -> None:
    """The venue answers everything, and its snapshot does not verify."""
    for req_id, keys in list(one._pending.items()):  # noqa: SLF001 - all that is open
        for requested in list(keys):
            one.handle_reply(reply(req_id, symbol=str(requested[1])), now)
            one.data_received(requested, now)
    one.resubscribe(key, now)


def test_failing_book_is_subscribed_with_growing_backoff() -> None:
    one, times, now = some_subscriptions(), list[float](), 0.0
    while now < 300:
        times += [now for request in requests(one, {BOOK}, now) if request["method"] == "subscribe"]
        fail(one, BOOK, now)
        now = round(now + 0.1, 1)
    snapshot_wait = [round(later - earlier) for earlier, later in itertools.pairwise(times)]
    assert snapshot_wait == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_backoff_ends_after_a_verified_period_not_after_one_snapshot() -> None:
    one = a_held_book()
    for now in range(0, 1000, 100):
        one.resubscribe(BOOK, now)
        requests(one, {BOOK}, now + 60)
        fail(one, TRADE, now + 60)
        requests(one, {BOOK}, now + 60)
        fail(one, TRADE, now + 60)
        assert one.state(BOOK) is State.SUBSCRIBED
    one.resubscribe(BOOK, 1000)
    assert one.backoff(BOOK, 1000) == subscriptions.LONGEST_BACKOFF
    assert one.backoff(BOOK, 1059) == 1
    requests(one, {BOOK}, 1060)
    assert one.backoff(BOOK, 1060) == 0
    fail(one, TRADE, 1060)
    requests(one, {BOOK}, 1060)
    fail(one, TRADE, 1060)
    one.mark_stable(BOOK)
    one.resubscribe(BOOK, 1100)
    assert methods(one, {BOOK}, 1100) == ["unsubscribe"]


def test_a_backoff_outlives_its_connection_and_ends_with_its_market() -> None:
    failures: dict[subscriptions.Key, int] = {}
    a_held_book(failures=failures).resubscribe(BOOK, 0)
    renewed = a_held_book(failures=failures)
    renewed.resubscribe(BOOK, 0)
    assert renewed.backoff(BOOK, 0) == 1
    requests(renewed, set())
    renewed.handle_reply(reply(2), 0)
    requests(renewed, set())
    assert failures == {}


def test_book_in_backoff_no_longer_required_is_ended_at_once() -> None:
    one = a_held_book(failures={BOOK: 9})
    one.resubscribe(BOOK, 0)
    assert methods(one, set()) == ["unsubscribe"]
    one.handle_reply(reply(2), 0)
    assert requests(one, set()) == []
    assert one.state(BOOK) is None


def test_healthy_book_that_fails_before_its_renewal_counts_as_failed() -> None:
    one = a_held_book(failures={BOOK: 1})
    one.resubscribe(BOOK, 0, failed=False)
    one.resubscribe(BOOK, 0)
    assert methods(one, {BOOK}) == []
    assert methods(one, {BOOK}, 1) == ["unsubscribe"]


@given(bad=st.sets(st.sampled_from(MANY[:20]), min_size=1), delay=st.sampled_from([1, 2, 4]))
@settings(max_examples=10)
def test_failing_market_blocks_no_other_subscription(bad: set[Symbol], delay: int) -> None:
    """One request per tick and one symbol per request; replies come some ticks later."""
    symbols, channels = MANY[:20], (Channel.BOOK, Channel.TRADE, Channel.TICKER)
    required: set[subscriptions.Key] = {(channel, symbol) for channel in channels for symbol in symbols}
    one = some_subscriptions(symbols_at_once=1)
    sent: list[tuple[int, dict[str, Any]]] = []
    for step in range(2000):
        now = step * TICK
        for request in [request for at, request in sent if at + delay == step]:
            key = (Channel(request["params"]["channel"]), Symbol(request["params"]["symbol"][0]))
            one.handle_reply(reply(request["req_id"]), now)
            if request["method"] == "subscribe":
                one.data_received(key, now)
                if key[0] is Channel.BOOK and key[1] in bad:
                    one.resubscribe(key, now)
        sent += [(step, request) for request in requests(one, required, now, limit=1)]
        if step == len(required) - 1:
            assert {(request["params"]["channel"], request["params"]["symbol"][0]) for _, request in sent} == required
    books = [request["params"]["symbol"][0] for _, request in sent if request["method"] == "unsubscribe"]
    assert set(books) == bad
    assert max(books.count(symbol) for symbol in bad) <= 8  # in a hundred seconds


def test_late_reply_does_not_count_for_a_later_request() -> None:
    one = some_subscriptions()
    requests(one, {TRADE})
    one.data_received(TRADE, 1)  # before its reply
    one.resubscribe(TRADE, 2)
    assert methods(one, {TRADE}, 2) == ["unsubscribe"]
    assert one.handle_reply(reply(1, symbol=BTC), 3) is None
    assert one.state(TRADE) is State.UNSUBSCRIBING
    one.handle_reply(reply(2, symbol=BTC), 3)
    assert methods(one, {TRADE}, 3) == ["subscribe"]
    assert one.state(TRADE) is State.SUBSCRIBING


@pytest.mark.parametrize("error", ["", "no", TOO_FAST])
def test_late_reply_to_a_forgotten_request_is_ignored(error: str) -> None:
    one = some_subscriptions()
    requests(one, {TRADE})
    one.data_received(TRADE, 1)
    one.resubscribe(TRADE, 2)
    requests(one, {TRADE}, 2)
    one.handle_reply(reply(2, symbol=BTC), 3)
    assert requests(one, set(), 3) == []
    assert one.handle_reply(reply(1, error=error, symbol=BTC), 4) is None
