"""What was chosen about a cluster is what is read back."""

from __future__ import annotations

import json

from aether_cli.local.settings import Profile, Settings


def test_settings_survive_being_written_down() -> None:
    chosen = Settings(profile=Profile.CONTROL_PLANE, port=1, egress=True, kwok=True, durable=False, owned=True)
    assert Settings.read(json.loads(json.dumps(chosen.record()))) == chosen
