"""A counting proxy between a client and the API server: it numbers every write, and fails on request.

It serves plain HTTP on the loopback, and uses TLS towards the API server. It forwards requests with one response, and
watches; not `exec` and `logs --follow`. Its parts are in `api_proxy`; here they are one proxy, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
from aiohttp import web

from aether_testing import wait
from aether_testing.servers.api_proxy import faults, targets, upstream, writes
from aether_testing.servers.api_proxy.snapshots import Snapshots
from aether_testing.servers.api_proxy.watches import Watches
from aether_testing.servers.api_proxy.writes import WriteLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_testing.servers.api_proxy.faults import Fault
    from aether_testing.servers.api_proxy.targets import Target
    from aether_testing.servers.api_proxy.upstream import Headers, Upstream
    from aether_testing.servers.api_proxy.writes import Write

T = TypeVar("T")
CLOSE_TIMEOUT: Final = 20.0
"""Seconds that a proxy may take to close."""
TIMEOUT: Final = 60.0


@dataclass(slots=True, kw_only=True)
class Proxy:
    """The proxy. Its public methods may be called from any thread but the proxy's."""

    cluster: Cluster
    counts: Callable[[Target], bool]
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _log: WriteLog = field(default_factory=WriteLog)
    _errors: list[BaseException] = field(default_factory=list)
    # The following are used on the loop's thread only.
    _reads: Counter[str] = field(default_factory=Counter)
    _watched: Counter[str] = field(default_factory=Counter)
    _watches: Watches = field(default_factory=Watches)
    _snapshots: Snapshots = field(default_factory=Snapshots)
    _upstream: Upstream | None = None

    # ---- what it recorded

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> tuple[Write, ...]:
        """Every counted write since the last `reset`, in order of arrival."""
        return self._log.writes

    @property
    def reads(self) -> Counter[str]:
        """GETs except watches, by path."""
        return self._on_loop(self._reads.copy)

    @property
    def watched(self) -> Counter[str]:
        """Watches that were started, by path."""
        return self._on_loop(self._watched.copy)

    @property
    def watching(self) -> int:
        """The number of open watches."""
        return self._on_loop(lambda: len(self._watches))

    @property
    def swallowed(self) -> int:
        """The number of watch events that were discarded."""
        return self._on_loop(lambda: self._watches.swallowed)

    @property
    def planned(self) -> Mapping[int, Fault]:
        """The faults that have not happened yet."""
        return self._log.planned

    def until(self, holds: Callable[[Proxy], bool], expected: str, deadline: float = TIMEOUT) -> None:
        """Wait until a condition of the proxy holds; the error shows the last writes."""
        wait.until(lambda: holds(self), expected, seconds=deadline, detail=lambda: f"seen: {self.writes[-20:]}")

    # ---- what tests request

    def kubeconfig(self, path: Path, token: str = "") -> Path:
        """Write a client's kubeconfig: without a token the client is the cluster's admin.

        kubectl sends no token over plain HTTP, so kubectl is always the admin.
        """
        user = {"token": token} if token else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "proxy", "user": user}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    def reset(self) -> None:
        """Count from 1 again, and drop planned faults."""

        def forget() -> None:
            self._log.reset()
            self._reads.clear()
            self._watched.clear()

        self._on_loop(forget)

    def at(self, number: int, fault: Fault) -> None:
        """Plan a fault, once, for the write with this number since the last `reset`."""
        self._log.plan(number, fault)

    def cut_watches(self) -> int:
        """Disconnect every open watch; returns their number."""
        return self._on_loop(self._watches.cut)

    def stall_watches(self, *, existing_only: bool = False) -> int:
        """Send nothing on watches from now on, without ending them; returns the number of open ones."""
        return self._on_loop(lambda: self._watches.stall(existing_only=existing_only))

    def swallow_watches(self) -> int:
        """Discard the events of all watches from now on, without ending them; returns the number of open ones."""
        return self._on_loop(self._watches.swallow)

    def resume(self) -> None:
        """Let watches continue: stalled events are sent now, swallowed ones never."""
        self._on_loop(self._watches.resume)

    def fail_watches(self, code: int) -> int:
        """End every open watch with an error event; returns their number."""
        return self._on_loop(lambda: self._watches.fail(code))

    def snapshot(self, *, objects: bool = False) -> int:
        """Store the present response of every list requested so far; returns their number.

        Args:
            objects: Store single objects too, and that one does not exist.
        """
        taking = self._snapshots.take(self._running, objects=objects)
        return asyncio.run_coroutine_threadsafe(taking, self._loop).result(TIMEOUT)

    def serve_old_lists(self) -> None:
        """Respond from the snapshot; requests that it does not contain are forwarded."""
        self._serve_snapshot(on=True)

    def serve_fresh(self) -> None:
        """Forward every request again."""
        self._serve_snapshot(on=False)

    def _serve_snapshot(self, *, on: bool) -> None:
        def switch() -> None:
            self._snapshots.serving = on

        self._on_loop(switch)

    def _on_loop(self, what: Callable[[], T]) -> T:
        """Run a function on the loop's thread."""

        async def doing() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(doing(), self._loop).result(TIMEOUT)

    @property
    def _running(self) -> Upstream:
        assert self._upstream is not None, "not running"
        return self._upstream

    # ---- running

    async def _run(self, ready: Callable[[], object], stop: asyncio.Event) -> None:
        config = json.loads(self.cluster.kubeconfig.read_text())
        async with upstream.connected(config) as self._upstream:
            server = web.Server(self._handle, access_log=None, keepalive_timeout=3600, handler_cancellation=True)  # type: ignore[arg-type, unused-ignore]
            runner = web.ServerRunner(server, shutdown_timeout=1)
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self.port = runner.addresses[0][1]
                ready()
                await stop.wait()
            finally:
                await runner.cleanup()
                await self._upstream.finish()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            await asyncio.wait(left, timeout=CLOSE_TIMEOUT)
        assert all(one.done() for one in left), f"left running: {left}"

    # ---- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except (ConnectionError, aiohttp.ClientError):  # one side has disconnected: disconnect the other
            return upstream.drop(request)
        except Exception as error:
            self._errors.append(error)
            raise

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        about = targets.parse(request.path)
        url = self._running.of(request)
        headers = upstream.end_to_end(request.headers)
        if request.method in writes.WRITING and about and self.counts(about) and not _is_dry_run(request, body):
            return await self._write(request, about, headers, body)
        if request.method == "GET":
            watch = request.query.get("watch") in {"1", "true"}
            (self._watched if watch else self._reads)[request.path] += 1
            if watch:
                return await self._watches.forward(request, self._running, headers)
            if about and not about.subresource:
                stored = self._snapshots.response(request, about, url, headers)
                if stored is not None:
                    return stored
        return upstream.response(*await self._running.forward(request.method, url, headers, body))

    async def _write(
        self, request: web.BaseRequest, about: Target, headers: Headers, body: bytes
    ) -> web.StreamResponse:
        note, fault = self._log.begin(request, about, body)
        match fault:
            case faults.Reset():
                return upstream.drop(request)
            case faults.KillBefore(kill):
                await asyncio.to_thread(kill)
                return upstream.drop(request)
            case faults.Hang(longest):
                await asyncio.sleep(longest)  # a disconnect of the client ends this too
                return upstream.drop(request)
            case faults.Answer(code):
                note(code=code)
                return faults.response(fault)
            case _:
                pass
        note(forwarded=True)
        doing = self._running.forwarding(request.method, self._running.of(request), headers, body)

        def ended(task: asyncio.Task[upstream.Answer]) -> None:
            """A write whose client disconnects is still applied: record its result."""
            if not task.cancelled() and task.exception() is None:
                note(code=task.result()[0])

        doing.add_done_callback(ended)
        answer = await asyncio.shield(doing)
        note(code=answer[0])
        match fault:
            case faults.KillAfter(kill):
                await asyncio.to_thread(kill)
            case faults.AppliedThenSilent(longest):
                await asyncio.sleep(longest)  # a disconnect of the client ends this too
            case _:
                return upstream.response(*answer)
        return upstream.drop(request)


def _is_dry_run(request: web.BaseRequest, body: bytes) -> bool:
    """Whether the request is a dry run, by its query or, for a deletion, by its options."""
    if request.query.get("dryRun"):
        return True
    if request.method != "DELETE" or not body.startswith(b"{"):
        return False
    return bool(json.loads(body).get("dryRun"))


@contextlib.contextmanager
def between(cluster: Cluster, counts: Callable[[Target], bool] = targets.is_counted_by_default) -> Iterator[Proxy]:
    """Run a proxy for the length of a block, in a thread of its own.

    Args:
        cluster: The API server behind it.
        counts: Which writes are numbered.
    """
    proxy = Proxy(cluster=cluster, counts=counts)
    ready, stop = threading.Event(), asyncio.Event()
    ended: list[BaseException] = []

    def live() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: proxy._loop) as runner:  # noqa: SLF001 - it is this module's own
                runner.run(proxy._run(ready.set, stop))  # noqa: SLF001
        except BaseException as error:  # noqa: BLE001 - raised by the thread of the block
            ended.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=live, name="proxy")
    thread.start()
    try:
        assert ready.wait(TIMEOUT), "the proxy did not start"
        if not ended:
            yield proxy
    finally:
        if thread.is_alive():
            proxy._loop.call_soon_threadsafe(stop.set)  # noqa: SLF001
        thread.join(2 * CLOSE_TIMEOUT)
    assert not thread.is_alive(), "the proxy did not end"
    problems: Sequence[BaseException] = (*ended, *proxy._errors)  # noqa: SLF001
    if problems:
        raise problems[0]
