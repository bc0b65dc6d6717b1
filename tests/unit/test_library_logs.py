"""What libraries log during an ordinary start is no line of ours: our own lines have the cause."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

import pytest

from aether_runtime import logs

CHATTER = """
import logging
{set_up}
logging.getLogger("aiokafka").error('Unable connect to "kafka:9092": [Errno 111]')
logging.getLogger("nats.aio.client").error("nats: encountered error")
logging.getLogger("alembic.runtime.migration").info("Context impl PostgresqlImpl.")
logging.getLogger("psycopg.pool").warning("error connecting")
logging.getLogger("kopf._cogs.clients.api").error("Request attempt 1 failed; will retry")
logging.getLogger("kopf._core.reactor.running").warning("finished unexpectedly")
logging.getLogger("uvicorn.error").info("Uvicorn running")
logging.getLogger("ours").info("ready")
"""


@pytest.mark.parametrize(
    ("set_up", "quiet"),
    [
        ("from aether_runtime import logs; logs.set_up()", {"aiokafka", "alembic", "psycopg", "kopf"}),
        ("from aether_runtime import logs; logs.set_up(service='ingest')", {"aiokafka", "nats", "psycopg", "uvicorn"}),
    ],
    ids=["operator", "services"],
)
def test_library_chatter_is_not_logged(set_up: str, quiet: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHATTER.format(set_up=set_up)], capture_output=True, text=True, check=True
    )
    assert [name for name in quiet if f'"logger": "{name}' in done.stderr] == []
    assert '"event": "ready"' in done.stderr


INSTALLED: Final = """
from aether_runtime import failing, logs
for fail in (failing.ours, failing.of_a_library):
    try:
        fail()
    except Exception as fault:
        print(logs.summary(fault))
"""
FAILING: Final = """
import json

def ours():
    raise ValueError("the cause")

def of_a_library():
    json.loads("{quoted")
"""


def test_installed_code_of_ours_is_no_library(tmp_path: Path) -> None:
    """As in an image, where our packages are beside those of others."""
    venv.create(tmp_path, symlinks=True)
    (packages,) = tmp_path.glob("lib/python3*/site-packages")
    shutil.copytree(Path(logs.__file__).parent, packages / "aether_runtime")
    (packages / "aether_runtime/failing.py").write_text(FAILING)
    done = subprocess.run([tmp_path / "bin/python", "-c", INSTALLED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ValueError: the cause at failing.py:5", "JSONDecodeError at failing.py:8"]
