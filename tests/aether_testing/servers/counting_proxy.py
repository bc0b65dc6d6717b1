"""A counting proxy between a client and the API server: it numbers every write, and fails on request.

It serves plain HTTP on the loopback, and uses TLS towards the API server. It forwards requests with one response, and
watches; not `exec` and `logs --follow`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import ssl
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiohttp
import yarl
from aiohttp import hdrs, web
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aether_cli.local.startup import Cluster

T = TypeVar("T")
WRITING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
ONE_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
)
DEFAULT_HEADERS: Final = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)
"""Headers that aiohttp would add by default."""
REASONS: Final[Mapping[int, str]] = {
    409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError",
    503: "ServiceUnavailable",
}  # fmt: skip
CLOSE_TIMEOUT: Final = 20.0
"""Seconds that a proxy may take to close."""
TIMEOUT: Final = 60.0
POLL_INTERVAL: Final = 0.05


# ---- values


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The object or collection that a path identifies."""

    group: str
    version: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


def target(path: str) -> Target | None:
    """Parse a path; None for discovery, health and OpenAPI."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, *rest = "", *parts[1:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, *rest = parts[1:]
    else:
        return None
    namespace = ""
    # A namespace itself has only these two subresources; anything else after its name is an object in it.
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    resource, name, *sub = *rest, *([] if len(rest) > 1 else [""])
    return Target(
        group=group, version=version, resource=resource, namespace=namespace, name=name, subresource="/".join(sub)
    )


def is_counted_by_default(about: Target) -> bool:
    """What counts as a write by default: not Leases, Events, and review requests."""
    return about.resource not in {"leases", "events"} and about.group not in {
        "authentication.k8s.io", "authorization.k8s.io",
    } and about.subresource != "token"  # fmt: skip


def status(code: int, message: str = "", *, retry_after: int | None = None) -> dict[str, Any]:
    """A Status, as the API server returns it instead of an object."""
    details = {"retryAfterSeconds": retry_after} if retry_after is not None else {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or f"the proxy was set to return {code}",
        "reason": REASONS[code],
        **({"details": details} if details else {}),
        "code": code,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write that passed the proxy."""

    number: int
    verb: str
    path: str
    about: Target
    user_agent: str
    sha256: str
    """Of the body."""
    fault: str = ""
    """The injected fault's class name, if any."""
    forwarded: bool = False
    code: int | None = None
    """The API server's status code, or the injected one; None while there is no response."""


@dataclass(frozen=True, slots=True)
class KillBefore:
    """Do not forward the write; call `kill`, and drop the connection."""

    kill: Callable[[], object]


@dataclass(frozen=True, slots=True)
class KillAfter:
    """Forward the write; then call `kill`, and drop the response."""

    kill: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """Return this status code without forwarding; 429 and 503 have a Retry-After."""

    code: int
    retry_after: int = 1


@dataclass(frozen=True, slots=True)
class AppliedThenSilent:
    """Forward the write and withhold the response until the client gives up, for at most so many seconds."""

    longest: float = TIMEOUT


@dataclass(frozen=True, slots=True)
class Hang:
    """Do not forward, and do not respond until the client gives up, for at most so many seconds."""

    longest: float = TIMEOUT


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection without forwarding."""


Fault = KillBefore | KillAfter | Answer | AppliedThenSilent | Hang | Reset


# ---- what acts


@dataclass(slots=True, eq=False)
class _Watch:
    """One watch connection."""

    request: web.BaseRequest
    flowing: asyncio.Event
    failing: asyncio.Future[int]
    swallowing: bool


@dataclass(slots=True, frozen=True)
class _Request:
    """How a list or an object was requested, so that the request can be repeated."""

    url: yarl.URL
    headers: CIMultiDict[str]


@dataclass(slots=True, kw_only=True)
class Proxy:
    """The proxy. Its public methods may be called from any thread but the proxy's."""

    cluster: Cluster
    counts: Callable[[Target], bool]
    port: int = 0
    _upstream: str = ""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _journal: list[Write] = field(default_factory=list)
    _plan: dict[int, Fault] = field(default_factory=dict)
    _reads: Counter[str] = field(default_factory=Counter)
    _watched: Counter[str] = field(default_factory=Counter)
    _errors: list[BaseException] = field(default_factory=list)
    # The following are used on the loop's thread only.
    _watches: set[_Watch] = field(default_factory=set)
    _stall_new: bool = False
    _swallow_new: bool = False
    _swallowed: int = 0
    _lists: dict[tuple[str, ...], _Request] = field(default_factory=dict)
    _objects: dict[tuple[str, ...], _Request] = field(default_factory=dict)
    _old: dict[tuple[str, ...], tuple[int, bytes, str]] = field(default_factory=dict)
    _serve_old: bool = False
    _forwarding: set[asyncio.Task[tuple[int, CIMultiDict[str], bytes]]] = field(default_factory=set)
    _admin_session: aiohttp.ClientSession | None = None
    _token_session: aiohttp.ClientSession | None = None

    # ---- what it recorded

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> tuple[Write, ...]:
        """Every counted write since the last `reset`, in order of arrival."""
        with self._changed:
            return tuple(self._journal)

    @property
    def reads(self) -> Counter[str]:
        """GETs except watches, by path."""
        with self._changed:
            return Counter(self._reads)

    @property
    def watched(self) -> Counter[str]:
        """Watches that were started, by path."""
        with self._changed:
            return Counter(self._watched)

    @property
    def watching(self) -> int:
        """The number of open watches."""
        return self._on_loop(lambda: len(self._watches))

    @property
    def swallowed(self) -> int:
        """The number of watch events that were discarded."""
        with self._changed:
            return self._swallowed

    @property
    def planned(self) -> Mapping[int, Fault]:
        """The faults that have not happened yet."""
        with self._changed:
            return dict(self._plan)

    def until(self, holds: Callable[[Proxy], bool], expected: str, deadline: float = TIMEOUT) -> None:
        """Wait until a condition holds; it is evaluated after every request and at intervals."""
        ends = time.monotonic() + deadline
        while not holds(self):
            assert time.monotonic() < ends, f"{expected}: not within {deadline:g} s; seen: {self.writes[-20:]}"
            with self._changed:  # not during `holds`: the loop's thread must continue meanwhile
                self._changed.wait(POLL_INTERVAL)

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
        with self._changed:
            self._journal, self._plan = [], {}
            self._reads.clear()
            self._watched.clear()

    def at(self, number: int, fault: Fault) -> None:
        """Plan a fault, once, for the write with this number since the last `reset`."""
        with self._changed:
            assert number > len(self._journal), f"write {number} has passed already"
            self._plan[number] = fault

    def cut_watches(self) -> int:
        """Disconnect every open watch; returns their number."""
        return self._on_loop(self._cut)

    def stall_watches(self, *, existing_only: bool = False) -> int:
        """Send nothing on watches from now on, without ending them; returns the number of open ones."""
        return self._on_loop(lambda: self._stall(existing_only=existing_only))

    def swallow_watches(self) -> int:
        """Discard the events of all watches from now on, without ending them; returns the number of open ones."""
        return self._on_loop(self._swallow)

    def resume(self) -> None:
        """Let watches continue: stalled events are sent now, swallowed ones never."""
        self._on_loop(self._flow)

    def fail_watches(self, code: int) -> int:
        """End every open watch with an error event; returns their number."""
        return self._on_loop(lambda: self._fail(code))

    def snapshot(self, *, objects: bool = False) -> int:
        """Store the present response of every list requested so far; returns their number.

        Args:
            objects: Store single objects too, and that one does not exist.
        """
        asked = asyncio.run_coroutine_threadsafe(self._take_snapshot(objects=objects), self._loop)
        return asked.result(TIMEOUT)

    def serve_old_lists(self) -> None:
        """Respond from the snapshot; requests that it does not contain are forwarded."""
        self._on_loop(lambda: self._serve(old=True))

    def serve_fresh(self) -> None:
        """Forward every request again."""
        self._on_loop(lambda: self._serve(old=False))

    def _on_loop(self, what: Callable[[], T]) -> T:
        """Run a function on the loop's thread."""

        async def doing() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(doing(), self._loop).result(TIMEOUT)

    def _cut(self) -> int:
        watches = tuple(self._watches)
        for one in watches:
            _drop(one.request)
        return len(watches)

    def _stall(self, *, existing_only: bool) -> int:
        self._stall_new = not existing_only
        for one in self._watches:
            one.flowing.clear()
        return len(self._watches)

    def _swallow(self) -> int:
        self._swallow_new = True
        for one in self._watches:
            one.swallowing = True
        return len(self._watches)

    def _flow(self) -> None:
        self._stall_new = self._swallow_new = False
        for one in self._watches:
            one.swallowing = False
            one.flowing.set()

    def _fail(self, code: int) -> int:
        for one in self._watches:
            if not one.failing.done():
                one.failing.set_result(code)
        return len(self._watches)

    def _serve(self, *, old: bool) -> None:
        self._serve_old = old

    async def _take_snapshot(self, *, objects: bool) -> int:
        self._old.clear()
        # 404 for an object is a result to store; an expired page of a list is not.
        kept: tuple[tuple[dict[tuple[str, ...], _Request], set[int]], ...] = ((self._lists, {200}),)
        if objects:
            kept = *kept, (self._objects, {200, 404})
        for asked, answers in kept:
            for key, one in tuple(asked.items()):
                code, headers, body = await self._forward("GET", one.url, one.headers, b"")
                if code in answers:
                    self._old[key] = code, body, headers[hdrs.CONTENT_TYPE]
        return len(self._old)

    # ---- running

    async def _run(self, ready: Callable[[], object], stop: asyncio.Event) -> None:
        config = json.loads(self.cluster.kubeconfig.read_text())
        self._upstream = config["clusters"][0]["cluster"]["server"]
        admin, anybody = _tls(config, admin=True), _tls(config, admin=False)
        sockets: list[socket.socket] = []
        async with _session(admin, sockets) as self._admin_session, _session(anybody, sockets) as self._token_session:
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
                if self._forwarding:
                    await asyncio.wait(self._forwarding)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            await asyncio.wait(left, timeout=CLOSE_TIMEOUT)
        assert all(one.done() for one in left), f"left running: {left}"
        async with asyncio.timeout(CLOSE_TIMEOUT):  # closing TLS takes a moment, and aiohttp does not report its end
            while any(one.fileno() != -1 for one in sockets):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    # ---- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except (ConnectionError, aiohttp.ClientError):  # one side has disconnected: disconnect the other
            return _drop(request)
        except Exception as error:
            self._errors.append(error)
            raise
        finally:
            with self._changed:
                self._changed.notify_all()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        about = target(request.path)
        url = yarl.URL(self._upstream + request.raw_path, encoded=True)
        headers = _end_to_end(request.headers)
        if request.method in WRITING and about and self.counts(about) and not _is_dry_run(request, body):
            return await self._write(request, about, url, headers, body)
        if request.method == "GET":
            watch = request.query.get("watch") in {"1", "true"}
            with self._changed:
                (self._watched if watch else self._reads)[request.path] += 1
            if watch:
                return await self._watch(request, url, headers)
            if about and not about.subresource:
                key, asked = _key(request), self._objects if about.name else self._lists
                asked[key] = _Request(url, CIMultiDict(_without(headers, hdrs.ACCEPT_ENCODING)))
                if self._serve_old and key in self._old:
                    code, kept, content = self._old[key]
                    return web.Response(status=code, body=kept, headers={hdrs.CONTENT_TYPE: content})
        return _response(*await self._forward(request.method, url, headers, body))

    async def _write(
        self, request: web.BaseRequest, about: Target, url: yarl.URL, headers: CIMultiDict[str], body: bytes
    ) -> web.StreamResponse:
        with self._changed:
            journal, number = self._journal, len(self._journal) + 1
            fault = self._plan.pop(number, None)
            entry = Write(
                number=number, verb=request.method, path=request.path, about=about,
                user_agent=request.headers.get(hdrs.USER_AGENT, ""), sha256=hashlib.sha256(body).hexdigest(),
                fault="" if fault is None else type(fault).__name__,
            )  # fmt: skip
            journal.append(entry)

        def note(**changes: Any) -> None:
            with self._changed:
                journal[number - 1] = replace(journal[number - 1], **changes)
                self._changed.notify_all()

        match fault:
            case Reset():
                return _drop(request)
            case KillBefore(kill):
                await asyncio.to_thread(kill)
                return _drop(request)
            case Hang(longest):
                await asyncio.sleep(longest)  # a disconnect of the client ends this too
                return _drop(request)
            case Answer(code, retry_after):
                note(code=code)
                return _status_response(code, retry_after)
            case _:
                pass
        note(forwarded=True)
        # A write whose client disconnects is still applied: record its result.
        doing = asyncio.create_task(self._forward(request.method, url, headers, body))
        self._forwarding.add(doing)

        def ended(task: asyncio.Task[tuple[int, CIMultiDict[str], bytes]]) -> None:
            self._forwarding.discard(task)
            if not task.cancelled() and task.exception() is None:
                note(code=task.result()[0])

        doing.add_done_callback(ended)
        answer = await asyncio.shield(doing)
        note(code=answer[0])
        match fault:
            case KillAfter(kill):
                await asyncio.to_thread(kill)
            case AppliedThenSilent(longest):
                await asyncio.sleep(longest)  # a disconnect of the client ends this too
            case _:
                return _response(*answer)
        return _drop(request)

    async def _forward(
        self, method: str, url: yarl.URL, headers: CIMultiDict[str], body: bytes
    ) -> tuple[int, CIMultiDict[str], bytes]:
        async with self._client(headers).request(
            method, url, headers=headers, data=body or None, skip_auto_headers=DEFAULT_HEADERS, allow_redirects=False
        ) as answer:
            return answer.status, _end_to_end(answer.headers), await answer.read()

    def _client(self, headers: CIMultiDict[str]) -> aiohttp.ClientSession:
        """The session for a request: one with a token has no client certificate, which would take precedence."""
        session = self._token_session if hdrs.AUTHORIZATION in headers else self._admin_session
        assert session is not None, "not running"
        return session

    async def _watch(self, request: web.BaseRequest, url: yarl.URL, headers: CIMultiDict[str]) -> web.StreamResponse:
        one = _Watch(request, asyncio.Event(), asyncio.get_running_loop().create_future(), self._swallow_new)
        if not self._stall_new:
            one.flowing.set()
        self._watches.add(one)
        try:
            await one.flowing.wait()
            async with self._client(headers).get(url, headers=headers, skip_auto_headers=DEFAULT_HEADERS) as answer:
                if answer.status != web.HTTPOk.status_code:
                    return _response(answer.status, _end_to_end(answer.headers), await answer.read())
                response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
                response.enable_chunked_encoding()
                await one.flowing.wait()
                await response.prepare(request)
                pumping = asyncio.create_task(self._pump(answer, response, one))
                either: tuple[asyncio.Future[Any], ...] = (pumping, one.failing)
                try:
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    pumping.cancel()
                    await asyncio.wait({pumping})
                if one.failing.done():
                    event = {"type": "ERROR", "object": status(one.failing.result())}
                    await response.write(json.dumps(event).encode() + b"\n")
                else:
                    pumping.result()
                await response.write_eof()
                return response
        finally:
            self._watches.discard(one)

    async def _pump(self, answer: aiohttp.ClientResponse, response: web.StreamResponse, one: _Watch) -> None:
        """Forward whole events, so that neither an injected event nor a gap splits one."""
        lines = "json" in answer.headers.get(hdrs.CONTENT_TYPE, "")
        rest = b""
        async for chunk in answer.content.iter_any():
            whole, end, rest = (rest + chunk).rpartition(b"\n") if lines else (chunk, b"", b"")
            if not whole and not end:
                continue
            await one.flowing.wait()
            if one.swallowing and lines:
                with self._changed:
                    self._swallowed += (whole + end).count(b"\n")
                    self._changed.notify_all()
                continue
            await response.write(whole + end)


def _is_dry_run(request: web.BaseRequest, body: bytes) -> bool:
    """Whether the request is a dry run."""
    if request.query.get("dryRun"):
        return True
    if request.method != "DELETE" or not body.startswith(b"{"):
        return False
    return bool(json.loads(body).get("dryRun"))


def _key(request: web.BaseRequest) -> tuple[str, ...]:
    """The identity of a list request: resource version and timeout do not matter."""
    aside = {"resourceVersion", "resourceVersionMatch", "timeoutSeconds"}
    asked = sorted(f"{name}={value}" for name, value in request.query.items() if name not in aside)
    return request.path, request.headers.get(hdrs.ACCEPT, ""), *asked


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in {*ONE_HOP, "host"})


def _without(headers: CIMultiDict[str], name: str) -> list[tuple[str, str]]:
    return [(key, value) for key, value in headers.items() if key.lower() != name.lower()]


def _response(code: int, headers: CIMultiDict[str], body: bytes) -> web.Response:
    return web.Response(status=code, headers=headers, body=body)


def _status_response(code: int, retry_after: int) -> web.Response:
    later = retry_after if code in {429, 503} else None
    more = {} if later is None else {hdrs.RETRY_AFTER: str(later)}
    return web.json_response(status(code, retry_after=later), status=code, headers=more)


def _drop(request: web.BaseRequest) -> web.Response:
    """Abort the connection; the returned response is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _session(tls: ssl.SSLContext, sockets: list[socket.socket]) -> aiohttp.ClientSession:
    def make(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        sockets[:] = [one for one in sockets if one.fileno() != -1]
        sockets.append(socket.socket(family, kind, protocol))
        return sockets[-1]

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=make),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        read_bufsize=1 << 20,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _tls(config: dict[str, Any], *, admin: bool) -> ssl.SSLContext:
    """The cluster's CA and, for the admin, the client certificate of its kubeconfig."""

    def inline(where: dict[str, str], key: str) -> bytes:
        return base64.b64decode(where[key])

    ca = inline(config["clusters"][0]["cluster"], "certificate-authority-data")
    tls = ssl.create_default_context(cadata=ca.decode())
    if admin:
        user = config["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder, "pair")
            pair.touch(mode=0o600)
            pair.write_bytes(inline(user, "client-certificate-data") + b"\n" + inline(user, "client-key-data"))
            tls.load_cert_chain(pair)
    return tls


@contextlib.contextmanager
def between(cluster: Cluster, counts: Callable[[Target], bool] = is_counted_by_default) -> Iterator[Proxy]:
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
