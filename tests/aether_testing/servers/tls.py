"""Certificates of servers under test, each signed by a CA of its own."""

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
    """A server's certificate, and the CA that clients trust."""

    leaf: Pair
    issuer: Pair

    @property
    def ca(self) -> str:
        return self.issuer.certificate.decode()

    def written(self, folder: Path) -> tuple[Path, Path, Path]:
        """Write certificate, key and CA as files that only their owner may read."""
        files = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
        for file, data in zip(files, (self.leaf.certificate, self.leaf.key, self.issuer.certificate), strict=True):
            file.touch(mode=0o600)
            file.write_bytes(data)
        return files


def a_certificate(*hosts: str) -> Tls:
    """A new certificate for these host names, valid from now."""
    now = datetime.datetime.now(datetime.UTC)
    issuer = certificates.new_ca("servers-under-test", now=now)
    leaf = certificates.issue(certificates.Identity(user="server", hosts=hosts), issuer, now=now)
    return Tls(leaf=leaf, issuer=issuer)
