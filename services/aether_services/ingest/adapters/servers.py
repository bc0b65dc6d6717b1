"""Where the servers of the data plane are, and with which credentials: read anew for each connection."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aether_services.ingest.ports import OutputUnavailable
from aether_services.ingest.settings import Tls
from aether_services.kit import secrecy

if TYPE_CHECKING:
    from typing import Final

CA_FILE: Final = "ca.crt"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Login:
    """What was read of a server's credentials. `hidden` is all of it, whatever the file."""

    username: str
    password: str
    hidden: frozenset[str]

    def words(self, fault: BaseException, kind: str = "") -> str:
        """A fault in one line: its own words, or only of which kind it is where they quote the credentials."""
        if isinstance(fault, TimeoutError):
            return "no answer in time"
        kind, said = kind or type(fault).__name__, " ".join(str(fault).split())
        return f"{kind} {secrecy.WITHHELD}" if secrecy.quotes(said, self.hidden) else said or kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server. `credentials` is a folder with the files username and password, and ca.crt where there is one."""

    host: str
    port: int
    tls: Tls
    credentials: Path

    @property
    def address(self) -> str:
        """Host and port, as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def login(self) -> Login:
        """Username and password, as they are now.

        Raises:
            OutputAway: They are not there.
        """
        try:
            username, password = self._read("username"), self._read("password")
            ca_file = self.ca_file
            others = {ca_file.read_text(encoding="utf-8", errors="replace")} if ca_file else set[str]()
        except OSError as fault:
            raise OutputUnavailable(f"credentials: {Path(str(fault.filename)).name} cannot be read") from fault
        return Login(username=username, password=password, hidden=frozenset({username, password, *others}))

    def _read(self, name: str) -> str:
        return (self.credentials / name).read_text(encoding="utf-8").strip("\n")

    @property
    def ca_file(self) -> Path | None:
        """The file of the authority's certificate, where it is not one of the system's."""
        file = self.credentials / CA_FILE
        return file if file.exists() and file.stat().st_size else None

    def ssl_context(self) -> ssl.SSLContext | None:
        """What verifies the server; nothing where the connection is not protected.

        Raises:
            OutputAway: The authority's certificate is none.
        """
        if self.tls is Tls.OFF:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (ssl.SSLError, OSError) as fault:
            raise OutputUnavailable("credentials: ca.crt is no certificate") from fault
