"""A counting proxy between a client and the API server: it numbers every write, and fails as it is told to.

It speaks plain HTTP on the loopback towards the client and TLS towards the API server. It does not carry what is no
request with one answer, watches excepted: no `exec`, no `logs --follow`.
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
OWN: Final = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)
"""Headers that aiohttp would add by itself."""
REASONS: Final[Mapping[int, str]] = {
    409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError",
    503: "ServiceUnavailable",
}  # fmt: skip
CLOSING: Final = 20.0
"""Seconds that the end of a proxy may take."""
PATIENCE: Final = 60.0
LOOK: Final = 0.05


# ---- values


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request is about, by its path."""

    group: str
    version: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


def target(path: str) -> Target | None:
    """Read a path; nothing where it is not a resource's: discovery, health, OpenAPI."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, *rest = "", *parts[1:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, *rest = parts[1:]
    else:
        return None
    namespace = ""
    # Of a namespace itself there are only these two subresources; what else follows its name lives in it.
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    resource, name, *sub = *rest, *([] if len(rest) > 1 else [""])
    return Target(
        group=group, version=version, resource=resource, namespace=namespace, name=name, subresource="/".join(sub)
    )


def but_leases_and_events(about: Target) -> bool:
    """What counts as a write unless a test says otherwise: not the Lease, not Events, and no question to the server."""
    return about.resource not in {"leases", "events"} and about.group not in {
        "authentication.k8s.io", "authorization.k8s.io",
    } and about.subresource != "token"  # fmt: skip


def status(code: int, message: str = "", *, retry_after: int | None = None) -> dict[str, Any]:
    """What the API server answers instead of an object."""
    details = {"retryAfterSeconds": retry_after} if retry_after is not None else {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or f"the proxy was told to answer {code}",
        "reason": REASONS[code],
        **({"details": details} if details else {}),
        "code": code,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write that came by."""

    number: int
    verb: str
    path: str
    about: Target
    user_agent: str
    sha256: str
    """Of its body."""
    fault: str = ""
    """What was done to it."""
    forwarded: bool = False
    code: int | None = None
    """The API server's answer, or ours where it was told one; nothing while there is none."""


@dataclass(frozen=True, slots=True)
class KillBefore:
    """Nothing is forwarded; `kill` is called, and the connection is dropped."""

    kill: Callable[[], object]


@dataclass(frozen=True, slots=True)
class KillAfter:
    """It is forwarded and answered; then `kill` is called, and the answer is never delivered."""

    kill: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """This is answered, and nothing is forwarded; 429 and 503 ask the client to come back."""

    code: int
    retry_after: int = 1


@dataclass(frozen=True, slots=True)
class AppliedThenSilent:
    """It is forwarded, and the answer never comes: until the client gives up, or for so many seconds."""

    longest: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing is forwarded, and no answer ever comes: until the client gives up, or for so many seconds."""

    longest: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is cut, and nothing is forwarded."""


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
class _Asked:
    """How a list or an object was asked for, so that it can be asked for again."""

    url: yarl.URL
    headers: CIMultiDict[str]


@dataclass(slots=True, kw_only=True)
class Proxy:
    """The proxy. Every method may be called from any thread but its own."""

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
    _broken: list[BaseException] = field(default_factory=list)
    # What follows belongs to the loop's thread.
    _watches: set[_Watch] = field(default_factory=set)
    _stall_new: bool = False
    _swallow_new: bool = False
    _swallowed: int = 0
    _lists: dict[tuple[str, ...], _Asked] = field(default_factory=dict)
    _objects: dict[tuple[str, ...], _Asked] = field(default_factory=dict)
    _old: dict[tuple[str, ...], tuple[int, bytes, str]] = field(default_factory=dict)
    _serve_old: bool = False
    _forwarding: set[asyncio.Task[tuple[int, CIMultiDict[str], bytes]]] = field(default_factory=set)
    _as_admin: aiohttp.ClientSession | None = None
    _as_said: aiohttp.ClientSession | None = None

    # ---- what it saw

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> tuple[Write, ...]:
        """Every counted write since the last `reset`, in the order in which they came."""
        with self._changed:
            return tuple(self._journal)

    @property
    def reads(self) -> Counter[str]:
        """GETs that were no watches, by path."""
        with self._changed:
            return Counter(self._reads)

    @property
    def watched(self) -> Counter[str]:
        """Watches that were begun, by path."""
        with self._changed:
            return Counter(self._watched)

    @property
    def watching(self) -> int:
        """Watches that are open now."""
        return self._there(lambda: len(self._watches))

    @property
    def swallowed(self) -> int:
        """Events of watches that were thrown away."""
        with self._changed:
            return self._swallowed

    @property
    def planned(self) -> Mapping[int, Fault]:
        """The faults that have not happened yet."""
        with self._changed:
            return dict(self._plan)

    def until(self, holds: Callable[[Proxy], bool], expected: str, deadline: float = PATIENCE) -> None:
        """Wait until something holds, judged after every request and now and then."""
        ends = time.monotonic() + deadline
        while not holds(self):
            assert time.monotonic() < ends, f"{expected}: not within {deadline:g} s; seen: {self.writes[-20:]}"
            with self._changed:  # not while it judges: the loop's thread must go on meanwhile
                self._changed.wait(LOOK)

    # ---- what it is told

    def kubeconfig(self, path: Path, token: str = "") -> Path:
        """Write a file for a client: without a token it is the cluster's admin.

        kubectl sends no token over plain HTTP, so with kubectl it is the admin always.
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
        """Count from 1 again, and forget the plan."""
        with self._changed:
            self._journal, self._plan = [], {}
            self._reads.clear()
            self._watched.clear()

    def at(self, number: int, fault: Fault) -> None:
        """At this write, counted since the last `reset`, let this happen, once."""
        with self._changed:
            assert number > len(self._journal), f"write {number} has come by already"
            self._plan[number] = fault

    def cut_watches(self) -> int:
        """Cut every open watch; returns how many."""
        return self._there(self._cut)

    def stall_watches(self, *, existing_only: bool = False) -> int:
        """From now on not a byte comes out of a watch, and none is ended; returns how many were open."""
        return self._there(lambda: self._stall(existing_only=existing_only))

    def swallow_watches(self) -> int:
        """From now on what a watch brings is lost, of new ones too, and none is ended; returns how many were open."""
        return self._there(self._swallow)

    def resume(self) -> None:
        """Let watches flow again: what was stalled comes now, what was swallowed never."""
        self._there(self._flow)

    def fail_watches(self, code: int) -> int:
        """End every open watch with an error event; returns how many."""
        return self._there(lambda: self._fail(code))

    def snapshot(self, *, objects: bool = False) -> int:
        """Keep what every list that was asked for until now would answer now; returns how many are kept.

        Args:
            objects: Keep every single object that was asked for as well, or that it is not there.
        """
        asked = asyncio.run_coroutine_threadsafe(self._keep(objects=objects), self._loop)
        return asked.result(PATIENCE)

    def serve_old_lists(self) -> None:
        """Answer from the snapshot; what was never asked for before it is passed on."""
        self._there(lambda: self._serve(old=True))

    def serve_fresh(self) -> None:
        """Pass everything on again."""
        self._there(lambda: self._serve(old=False))

    def _there(self, what: Callable[[], T]) -> T:
        """Do it on the loop's thread."""

        async def doing() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(doing(), self._loop).result(PATIENCE)

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

    async def _keep(self, *, objects: bool) -> int:
        self._old.clear()
        # That an object is not there is an answer; a page of a list that has expired is no list.
        kept: tuple[tuple[dict[tuple[str, ...], _Asked], set[int]], ...] = ((self._lists, {200}),)
        if objects:
            kept = *kept, (self._objects, {200, 404})
        for asked, answers in kept:
            for key, one in tuple(asked.items()):
                code, headers, body = await self._forward("GET", one.url, one.headers, b"")
                if code in answers:
                    self._old[key] = code, body, headers[hdrs.CONTENT_TYPE]
        return len(self._old)

    # ---- its life

    async def _run(self, ready: Callable[[], object], stop: asyncio.Event) -> None:
        config = json.loads(self.cluster.kubeconfig.read_text())
        self._upstream = config["clusters"][0]["cluster"]["server"]
        admin, anybody = _tls(config, admin=True), _tls(config, admin=False)
        sockets: list[socket.socket] = []
        async with _session(admin, sockets) as self._as_admin, _session(anybody, sockets) as self._as_said:
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
            await asyncio.wait(left, timeout=CLOSING)
        assert all(one.done() for one in left), f"left running: {left}"
        async with asyncio.timeout(CLOSING):  # TLS takes its leave, and nobody tells when it has
            while any(one.fileno() != -1 for one in sockets):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    # ---- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except (ConnectionError, aiohttp.ClientError):  # one of the two sides is gone: the other shall know
            return _drop(request)
        except Exception as broken:
            self._broken.append(broken)
            raise
        finally:
            with self._changed:
                self._changed.notify_all()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        about = target(request.path)
        url = yarl.URL(self._upstream + request.raw_path, encoded=True)
        headers = _passed_on(request.headers)
        if request.method in WRITING and about and self.counts(about) and not _only_tried(request, body):
            return await self._write(request, about, url, headers, body)
        if request.method == "GET":
            watch = request.query.get("watch") in {"1", "true"}
            with self._changed:
                (self._watched if watch else self._reads)[request.path] += 1
            if watch:
                return await self._watch(request, url, headers)
            if about and not about.subresource:
                key, asked = _key(request), self._objects if about.name else self._lists
                asked[key] = _Asked(url, CIMultiDict(_but(headers, hdrs.ACCEPT_ENCODING)))
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
                await asyncio.sleep(longest)  # the client's going ends this, too
                return _drop(request)
            case Answer(code, retry_after):
                note(code=code)
                return _said(code, retry_after)
            case _:
                pass
        note(forwarded=True)
        # A client that goes away meanwhile does not undo it: what became of it is to be known.
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
                await asyncio.sleep(longest)  # the client's going ends this, too
            case _:
                return _response(*answer)
        return _drop(request)

    async def _forward(
        self, method: str, url: yarl.URL, headers: CIMultiDict[str], body: bytes
    ) -> tuple[int, CIMultiDict[str], bytes]:
        async with self._speaker(headers).request(
            method, url, headers=headers, data=body or None, skip_auto_headers=OWN, allow_redirects=False
        ) as answer:
            return answer.status, _passed_on(answer.headers), await answer.read()

    def _speaker(self, headers: CIMultiDict[str]) -> aiohttp.ClientSession:
        """A certificate would win over a token, so a request with a token goes without one."""
        session = self._as_said if hdrs.AUTHORIZATION in headers else self._as_admin
        assert session is not None, "not running"
        return session

    async def _watch(self, request: web.BaseRequest, url: yarl.URL, headers: CIMultiDict[str]) -> web.StreamResponse:
        one = _Watch(request, asyncio.Event(), asyncio.get_running_loop().create_future(), self._swallow_new)
        if not self._stall_new:
            one.flowing.set()
        self._watches.add(one)
        try:
            await one.flowing.wait()
            async with self._speaker(headers).get(url, headers=headers, skip_auto_headers=OWN) as answer:
                if answer.status != web.HTTPOk.status_code:
                    return _response(answer.status, _passed_on(answer.headers), await answer.read())
                response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
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
        """Pass events on, each whole, so that neither our own words nor a gap come in the middle of one."""
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


def _only_tried(request: web.BaseRequest, body: bytes) -> bool:
    """Whether the client asked for a dry run."""
    if request.query.get("dryRun"):
        return True
    if request.method != "DELETE" or not body.startswith(b"{"):
        return False
    return bool(json.loads(body).get("dryRun"))


def _key(request: web.BaseRequest) -> tuple[str, ...]:
    """What makes two lists the same: where it begins and how long it may take does not matter."""
    aside = {"resourceVersion", "resourceVersionMatch", "timeoutSeconds"}
    asked = sorted(f"{name}={value}" for name, value in request.query.items() if name not in aside)
    return request.path, request.headers.get(hdrs.ACCEPT, ""), *asked


def _passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in {*ONE_HOP, "host"})


def _but(headers: CIMultiDict[str], name: str) -> list[tuple[str, str]]:
    return [(key, value) for key, value in headers.items() if key.lower() != name.lower()]


def _response(code: int, headers: CIMultiDict[str], body: bytes) -> web.Response:
    return web.Response(status=code, headers=headers, body=body)


def _said(code: int, retry_after: int) -> web.Response:
    later = retry_after if code in {429, 503} else None
    more = {} if later is None else {hdrs.RETRY_AFTER: str(later)}
    return web.json_response(status(code, retry_after=later), status=code, headers=more)


def _drop(request: web.BaseRequest) -> web.Response:
    """Cut the connection; what is returned reaches nobody."""
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
    """The cluster's certificate authority and, for the admin, the client certificate of its kubeconfig."""

    def inline(where: dict[str, str], key: str) -> bytes:
        return base64.b64decode(where[key])

    authority = inline(config["clusters"][0]["cluster"], "certificate-authority-data")
    tls = ssl.create_default_context(cadata=authority.decode())
    if admin:
        user = config["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder, "pair")
            pair.touch(mode=0o600)
            pair.write_bytes(inline(user, "client-certificate-data") + b"\n" + inline(user, "client-key-data"))
            tls.load_cert_chain(pair)
    return tls


@contextlib.contextmanager
def between(cluster: Cluster, counts: Callable[[Target], bool] = but_leases_and_events) -> Iterator[Proxy]:
    """A proxy for the length of a block, in a thread of its own.

    Args:
        cluster: What is behind it.
        counts: Which writes are numbered.
    """
    proxy = Proxy(cluster=cluster, counts=counts)
    ready, stop = threading.Event(), asyncio.Event()
    ended: list[BaseException] = []

    def live() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: proxy._loop) as runner:  # noqa: SLF001 - it is this module's own
                runner.run(proxy._run(ready.set, stop))  # noqa: SLF001
        except BaseException as broken:  # noqa: BLE001 - told by whoever has the block
            ended.append(broken)
        finally:
            ready.set()

    thread = threading.Thread(target=live, name="proxy")
    thread.start()
    try:
        assert ready.wait(PATIENCE), "the proxy did not start"
        if not ended:
            yield proxy
    finally:
        if thread.is_alive():
            proxy._loop.call_soon_threadsafe(stop.set)  # noqa: SLF001
        thread.join(2 * CLOSING)
    assert not thread.is_alive(), "the proxy did not end"
    problems: Sequence[BaseException] = (*ended, *proxy._broken)  # noqa: SLF001
    if problems:
        raise problems[0]
