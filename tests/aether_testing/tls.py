"""Certificates of servers under test, each by an authority of its own."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aether_cli.local import certificates

if TYPE_CHECKING:
    from pathlib import Path

    from aether_cli.local.certificates import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A server's certificate, and the authority that clients trust."""

    leaf: Pair
    authority: Pair

    @property
    def ca(self) -> str:
        return self.authority.certificate.decode()

    def written(self, folder: Path) -> tuple[Path, Path, Path]:
        """Certificate, key and authority as files; the key is for their owner alone."""
        files = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
        for file, data in zip(files, (self.leaf.certificate, self.leaf.key, self.authority.certificate), strict=True):
            file.touch(mode=0o600)
            file.write_bytes(data)
        return files


def a_certificate(*hosts: str) -> Tls:
    """Of a server with these names, as of now."""
    now = datetime.datetime.now(datetime.UTC)
    authority = certificates.new_ca("servers-under-test", now=now)
    leaf = certificates.issue(certificates.Identity(user="server", hosts=hosts), authority, now=now)
    return Tls(leaf=leaf, authority=authority)
