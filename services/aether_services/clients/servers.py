"""Addresses and credentials of servers. Credentials are read for each connection, so that new ones count."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from aether_runtime import network_errors, secrecy

CA_FILE: Final = "ca.crt"
AUTHENTICATION_FAILED: Final = (
    "authentication failed: the server does not have the login yet, or its password is not that of the Secret"
)


class ServerUnavailable(Exception):
    """A server cannot be reached, or rejects the client; the message has the address and the cause, and no secret."""


class Tls(StrEnum):
    """Whether connections to a server use verified TLS."""

    VERIFY = "Verify"
    OFF = "Disabled"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Login:
    """A server's credentials. `hidden` has the contents of all files, which must not appear in messages."""

    username: str
    password: str
    hidden: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server. `credentials` is a folder with the files username and password, and optionally ca.crt."""

    host: str
    port: int
    tls: Tls
    credentials: Path

    @property
    def address(self) -> str:
        """host:port, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def login(self) -> Login:
        """Read the credentials.

        Raises:
            ServerUnavailable: A file cannot be read.
        """
        try:
            username, password = self._read("username"), self._read("password")
            ca_file = self.ca_file
            others = {ca_file.read_text(encoding="utf-8", errors="replace")} if ca_file else set[str]()
        except OSError as fault:
            raise ServerUnavailable(f"credentials: {Path(str(fault.filename)).name} cannot be read") from fault
        return Login(username=username, password=password, hidden=frozenset({username, password, *others}))

    def cause(self, fault: BaseException, login: Login, known: str = "") -> str:
        """Why the connection failed or broke: the address, and the cause in our words.

        The library's own text is appended, or used, only where there are no words of ours and it does not quote the
        credentials. `known` is the cause where the adapter knows it.
        """
        text = known or network_errors.describe(fault)
        if not text:
            own, text = " ".join(str(fault).split()), type(fault).__name__
            if own and not secrecy.quotes(own, login.hidden):
                text = f"{text}: {own}"
        return f"{self.address}: {text}"

    def _read(self, name: str) -> str:
        return (self.credentials / name).read_text(encoding="utf-8").strip("\n")

    @property
    def ca_file(self) -> Path | None:
        """The file with the CA's certificate; None to use the system's CAs."""
        file = self.credentials / CA_FILE
        return file if file.exists() and file.stat().st_size else None

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context; None without TLS.

        Raises:
            ServerUnavailable: ca.crt is not a certificate.
        """
        if self.tls is Tls.OFF:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (ssl.SSLError, OSError) as fault:
            raise ServerUnavailable("credentials: ca.crt is not a certificate") from fault
