"""Describes errors of connections in words of ours.

A library's own text is for its developers, and may quote the credentials; these texts quote nothing.
"""

from __future__ import annotations

import errno
import re
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

AUTHENTICATION_FAILED: Final = "authentication failed: check username and password in the Secret"
NOT_RESOLVED: Final = "the host name does not resolve: check the name, and the cluster's DNS"
REFUSED: Final = "connection refused: check the port, and that the server runs"
NO_ROUTE: Final = "no route to the host: check the address and the network policies"
TIMED_OUT: Final = "no response in time: check the address and the network policies, and that the server runs"
CLOSED: Final = "the connection was closed: check that the server runs, and whether it requires TLS"
NOT_TRUSTED: Final = "its certificate is not trusted: put the certificate of its CA into ca.crt of the Secret"
TLS_FAILED: Final = "the TLS handshake failed: check that the server offers TLS"
_BY_ERRNO: Final[Mapping[int, str]] = {
    errno.ECONNREFUSED: REFUSED,
    errno.EHOSTUNREACH: NO_ROUTE,
    errno.ENETUNREACH: NO_ROUTE,
    errno.ETIMEDOUT: TIMED_OUT,
    errno.ECONNRESET: CLOSED,
    errno.ECONNABORTED: CLOSED,
    errno.EPIPE: CLOSED,
}
_BY_CLASS: Final[Mapping[type[BaseException], str]] = {
    TimeoutError: TIMED_OUT,
    UnicodeError: NOT_RESOLVED,
    EOFError: CLOSED,
}
_BY_TEXT: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (r"resolve|translate host name|name or service|No address associated|Errno -\d", NOT_RESOLVED),
        (r"connection refused|Errno 111\b", REFUSED),
        (r"no route to host|network is unreachable|Errno (101|113)\b", NO_ROUTE),
        (r"timeout expired|timed out|Errno 110\b", TIMED_OUT),
        (
            r"reset by peer|broken pipe|closed the connection|closed by|connection is closed|\bEOF\b|Errno (32|104)\b",
            CLOSED,
        ),
        (r"certificate", NOT_TRUSTED),
        (r"\b(SSL|TLS)\b", TLS_FAILED),
    )
)


def describe(fault: BaseException) -> str:
    """Why a connection could not be opened, or broke, and what to do; empty if the error is of another class."""
    if isinstance(fault, ssl.SSLError):
        untrusted = isinstance(fault, ssl.SSLCertVerificationError)
        detail = getattr(fault, "verify_message" if untrusted else "reason", None) or ""
        return (NOT_TRUSTED if untrusted else TLS_FAILED) + (f" ({detail})" if detail else "")
    if isinstance(fault, UnicodeDecodeError):
        return ""  # of a response: what cannot be encoded is a host name
    for kind, words in _BY_CLASS.items():
        if isinstance(fault, kind):
            return words
    if not isinstance(fault, OSError):
        return ""
    if fault.errno is None:  # asyncio joins the errors of several addresses into one text
        return describe_text(str(fault))
    return NOT_RESOLVED if fault.errno < 0 else _BY_ERRNO.get(fault.errno, "")


def describe_text(text: str) -> str:
    """The same for the text of a library that has no error classes for it."""
    return next((words for pattern, words in _BY_TEXT if pattern.search(text)), "")
