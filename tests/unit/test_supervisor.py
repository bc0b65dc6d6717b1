"""The cause that is reported when a component ends."""

from __future__ import annotations

import signal

import pytest

from aether_cli.local import supervisor

KLOG = """\
I1122 05:24:08.084586      29 shared_informer.go:349] "Waiting for caches to sync" controller="job"
E1122 05:24:08.384676      29 run.go:72] "command failed" err="unknown flag: --nonsense"
I1122 05:24:08.406623      29 shared_informer.go:356] "Caches are synced" controller="cronjob"
"""


@pytest.mark.parametrize(
    ("status", "log", "cause"),
    [
        (1 << 8, KLOG, 'ended with 1: E1122 05:24:08.384676      29 run.go:72] "command failed"'),
        (0, '{"level":"fatal","msg":"bind: address already in use"}\n', 'ended with 0: {"level":"fatal"'),
        (2 << 8, "flag provided but not defined\nUsage:\n  -conf\n", "ended with 2: -conf"),
        (2 << 8, "goroutine 1\npanic: boom\nmain.main()\n", "ended with 2: panic: boom"),
        (signal.SIGKILL, KLOG, "was killed by SIGKILL: "),
        (1 << 8, "\n\n", "ended with 1: it printed nothing"),
    ],
)
def test_cause_is_how_it_ended_and_its_last_error(status: int, log: str, cause: str) -> None:
    result = supervisor.cause_of(status, log)
    assert result.startswith(cause)
    assert "\n" not in result
