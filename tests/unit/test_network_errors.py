"""Errors of connections in our words, in the operator and in services alike."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from aether_runtime import network_errors


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 9092)"), network_errors.REFUSED),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect call failed"),
            network_errors.REFUSED,
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), network_errors.NOT_RESOLVED),
        (UnicodeError("label too long"), network_errors.NOT_RESOLVED),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), ""),
        (OSError(errno.EHOSTUNREACH, "No route to host"), network_errors.NO_ROUTE),
        (TimeoutError(), network_errors.TIMED_OUT),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), network_errors.CLOSED),
        (EOFError(), network_errors.CLOSED),
        (ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]"), network_errors.NOT_TRUSTED),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), network_errors.TLS_FAILED),
        (OSError(errno.ENOSPC, "No space left on device"), ""),
        (KeyError("x"), ""),
    ],
)
def test_error_of_a_connection_is_named_in_our_words(fault: BaseException, words: str) -> None:
    assert network_errors.describe(fault).partition(" (")[0] == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('connection to server at "10.0.0.1", port 5432 failed: Connection refused', network_errors.REFUSED),
        ("failed to resolve host 'db.desk': [Errno -2] Name or service not known", network_errors.NOT_RESOLVED),
        ("connection timeout expired", network_errors.TIMED_OUT),
        ("server closed the connection unexpectedly", network_errors.CLOSED),
        ("SSL error: certificate verify failed", network_errors.NOT_TRUSTED),
        ("server does not support SSL, but SSL was required", network_errors.TLS_FAILED),
        ("value too long for type", ""),
    ],
)
def test_text_of_a_library_is_replaced_by_our_words(text: str, words: str) -> None:
    assert network_errors.describe_text(text) == words
