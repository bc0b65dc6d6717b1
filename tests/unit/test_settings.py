"""Writing and reading a cluster's settings."""

from __future__ import annotations

import json

from aether_cli.local.settings import Profile, Settings


def test_settings_survive_a_round_trip_through_their_file() -> None:
    chosen = Settings(
        profile=Profile.CONTROL_PLANE, port=1, egress=True, kwok=True, durable=False, platforms=False, owned=True
    )
    assert Settings.read(json.loads(json.dumps(chosen.record()))) == chosen


def test_setting_missing_in_an_earlier_release_has_its_default() -> None:
    record = Settings(port=1, platforms=False).record()
    del record["platforms"]
    assert Settings.read(record) == Settings(port=1)
