"""Reads and writes a cluster through kubectl: single requests, and watches until a condition holds."""

from __future__ import annotations

import codecs
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_cli import problems, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

Object = dict[str, Any]
"""A Kubernetes object, or a list of them, as JSON."""
Objects = dict[str, Object]
"""`namespace/name`, or the name alone where there is no namespace → the object."""

RELIST_AFTER: Final = 2.0
"""Seconds without a watch event after which the objects are listed again, in case the watch is dead."""


class NotFound(problems.ProgramFailed):
    """The object, or the path, does not exist."""


class Forbidden(problems.ProgramFailed):
    """RBAC does not allow the user this request."""


class Unreachable(problems.ProgramFailed):
    """No API server responds at that address."""

    exit_code = problems.NotRunning.exit_code


class UnknownKind(problems.ProgramFailed):
    """The cluster has no such kind: its CRD is not installed, or kubectl has not discovered it yet."""


_ERRORS: Final = {
    "the server doesn't have a resource type": UnknownKind,
    "(NotFound)": NotFound,
    "(Forbidden)": Forbidden,
    # kubectl reports every failed connection with one of these two.
    "Unable to connect to the server": Unreachable,
    "The connection to the server": Unreachable,
}
"""A part of kubectl's last line → the error that it means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """A client of one cluster: kubectl with a kubeconfig file, a context, or both."""

    program: str | Path
    kubeconfig: Path | None = None
    context: str = ""
    cache: Path | None = None
    """kubectl's folder for discovery; by default the user's own."""

    def command(self, *words: str | Path) -> list[str]:
        """Kubectl's command line for this cluster."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        which = [f"--context={self.context}"] if self.context else []
        cache_dir = [f"--cache-dir={self.cache}"] if self.cache else []
        return [str(self.program), *where, *which, *cache_dir, *map(str, words)]

    def text(self, *words: str | Path, stdin: str | None = None, deadline: float = 60) -> str:
        """Run kubectl and return what it prints.

        Raises:
            NotFound: The object does not exist.
            UnknownKind: The cluster has no objects of this kind.
            Forbidden: The user may not do that.
            Unreachable: No API server responds.
            ProgramFailed: kubectl failed for another reason, or took longer than `deadline` seconds.
        """
        try:
            return processes.run(self.command(*words), stdin=stdin, deadline=deadline)
        except problems.ProgramFailed as failed:
            for text, error in _ERRORS.items():
                if text in failed.cause:
                    raise error(failed.cause, remedy=failed.remedy) from failed
            raise

    def get(self, *words: str | Path, deadline: float = 60) -> Object:
        """`kubectl get`: one object, or one list."""
        return self.json("get", *words, deadline=deadline)

    def json(self, *words: str | Path, deadline: float = 60) -> Object:
        """Run a kubectl command that knows `-o json` and parse what it prints."""
        text = self.text(*words, "-o", "json", deadline=deadline)
        try:
            response: Object = json.loads(text)
        except ValueError as other:
            raise problems.ProgramFailed(f"kubectl {words[0]} did not print JSON: {text[:80]!r}") from other
        return response

    def raw(self, path: str, *, deadline: float) -> Object:
        """GET a path of the API server, which may proxy it to a pod, and parse the response.

        Raises:
            NotFound: There is no such path or object.
            ProgramFailed: As in `text`; also where the response is not JSON.
        """
        text = self.text("get", "--raw", path, f"--request-timeout={deadline:g}s", deadline=deadline + 5)
        try:
            response: Object = json.loads(text)
        except ValueError as other:
            raise problems.ProgramFailed(f"{path}: the response is not JSON: {text[:80]!r}") from other
        return response

    def apply(self, *objects: Object) -> None:
        """Server-side apply, with the field manager `aether-cli`."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.text(
            "apply", "--server-side", "--force-conflicts", "--field-manager=aether-cli", "-f", "-",
            stdin=json.dumps(bundle),
        )  # fmt: skip

    def until(self, holds: Callable[[Objects], bool], *what: str, deadline: float, expected: str) -> Objects:
        """List and watch objects until a condition holds, and return them.

        Args:
            holds: The condition, over all the objects.
            what: What to watch: the arguments of `kubectl get`.
            deadline: Seconds to wait.
            expected: The condition in words, for the error.

        Raises:
            NotReady: The deadline passed; the error shows the last observed objects.
        """
        ends = time.monotonic() + deadline
        objects: Objects = {}
        error = ""
        while (left := ends - time.monotonic()) > 0:
            try:
                objects = _by_name(self.get(*what, deadline=max(1.0, left)))
                error = ""
            except problems.ProgramFailed as failed:  # the API server is just starting, or the name does not exist yet
                error = failed.cause
            if error:  # the condition is checked only against a complete list
                select.select([], [], [], min(0.2, max(0.0, ends - time.monotonic())))
                continue
            if holds(objects):
                return objects
            for event in self.watch(*what, until=ends, idle_timeout=RELIST_AFTER):
                _apply_event(objects, event)
                if holds(objects):
                    return objects
        raise problems.NotReady(f"{expected}: not within {deadline:g} s", remedy=summary(objects.values(), error))

    def watch(self, *what: str, until: float, idle_timeout: float) -> Iterator[Object]:
        """Watch events `{"type", "object"}` as they come.

        Ends after `idle_timeout` seconds without an event, at `until` (monotonic seconds), or when the watch ends.
        """
        wrapper = ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []
        with subprocess.Popen(
            # setpriv kills it when this process dies: a watch without events would never notice.
            [*wrapper, *self.command("get", *what, "--watch", "--output-watch-events", "-o", "json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            if child.stdout is None:  # narrows the type
                return
            try:
                text, decoder, characters = "", json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")("replace")
                while True:
                    timeout = min(idle_timeout, until - time.monotonic())
                    if timeout <= 0 or not select.select([child.stdout], [], [], timeout)[0]:
                        return
                    data = os.read(child.stdout.fileno(), 1 << 16)
                    if not data:
                        # The watch ended by itself. The pause keeps the caller from watching again in a tight loop.
                        select.select([], [], [], min(0.2, max(0.0, until - time.monotonic())))
                        return
                    text += characters.decode(data)
                    while text := text.lstrip():
                        try:
                            event, end = decoder.raw_decode(text)
                        except json.JSONDecodeError:
                            break  # the rest of this event is still to come
                        text = text[end:]
                        yield event
            finally:
                child.kill()


def _by_name(response: Object) -> Objects:
    items = response.get("items", [response])
    return {_name(item): item for item in items}


def _name(item: Object) -> str:
    meta = item["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])


def _apply_event(objects: Objects, event: Object) -> None:
    if event["type"] == "DELETED":
        objects.pop(_name(event["object"]), None)
    elif event["type"] in {"ADDED", "MODIFIED"}:
        objects[_name(event["object"])] = event["object"]


def summary(items: Iterable[Object], error: str = "") -> str:
    """The last observed objects for an error message: a line for each with its status, and the last error."""
    lines = [f"  {item.get('kind', '?')} {_name(item)}: {_status(item.get('status', {}))}" for item in items]
    return "\n".join(["Last observed:", *(lines or ["  nothing"]), *([f"  {error}"] if error else [])])


def _status(status: Object) -> str:
    conditions: Sequence[Object] = status.get("conditions", [])
    shown_conditions = [
        f"{c.get('type')}={c.get('status')}"
        + (f" ({c.get('reason')}: {c.get('message', '')})" if c.get("reason") else "")
        for c in conditions
    ]
    states = [
        f"{c['name']}: {json.dumps(c.get('state', {}))}"
        for c in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    ]
    short = {key: value for key, value in status.items() if isinstance(value, str | int | bool)}
    return "; ".join([json.dumps(short), *shown_conditions, *states])


def condition(item: Object, kind: str) -> str:
    """The status of a condition: True, False or Unknown; Unknown also where the object has no such condition."""
    for one in (item.get("status") or {}).get("conditions") or []:  # null in a new CRD's status
        if one.get("type") == kind:
            return str(one.get("status"))
    return "Unknown"
