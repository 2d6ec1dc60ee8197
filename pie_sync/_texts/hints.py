"""Hints: what helps against the known causes of errors. The errors carry them, and the command shows them.

Each hint is one line. Where it names something of Python, there is another one for the shell. The words of the
servers that are looked for here were measured, on the releases that docs/compatibility.md lists.
"""

from __future__ import annotations

import re

__all__ = ["hint_for_connecting", "hint_for_refusal", "in_a_shell"]

_REFUSED = "is the server running? `pie-sync serve` starts one to try things out"
_PERHAPS_NO_TLS = "does this server speak TLS? if not, its address begins with ws://"
_PLAIN_HTTP = "this server speaks no TLS: its address begins with ws://"
_PERHAPS_TLS = "does this server speak TLS? then its address begins with wss://"
_TLS = "this server speaks TLS: its address begins with wss://"
_CERTIFICATE = "a certificate of your own needs PieClient(ssl_context=...), or the variable SSL_CERT_FILE"
_HOST = "is the name of the host right?"
_TIMEOUT = "are host and port right, and does a firewall let you through? connect_timeout waits longer"

#: Schemes, the class of the error or one that it derives from, a pattern for its text, and what helps. The first
#: that fits counts. (The classes are given by their names, so that this module imports no network.)
_CONNECTING: tuple[tuple[str, str, str, str], ...] = (
    ("wss", "SSLCertVerificationError", "", _CERTIFICATE),
    ("wss", "SSLError", "WRONG_VERSION_NUMBER|HTTP_REQUEST|PACKET_LENGTH_TOO_LONG|RECORD_LAYER", _PLAIN_HTTP),
    # A plain server that takes our greeting for nonsense hangs up.
    ("wss", "SSLEOFError|SSLZeroReturnError|ConnectionResetError", "", _PERHAPS_NO_TLS),
    # A TLS alert: its first byte, and the first of its version; and what web servers say instead.
    ("ws", "Exception", r"\\+x15\\+x03|HTTP request to an HTTPS|plain HTTP request was sent to HTTPS", _TLS),
    ("ws", "ConnectionResetError", "", _PERHAPS_TLS),
    ("wss?", "ConnectionRefusedError", "", _REFUSED),
    ("wss?", "gaierror", "", _HOST),
    ("wss?", "TimeoutError|timeout", "", _TIMEOUT),
)


def hint_for_connecting(scheme: str, error: BaseException) -> str | None:
    """Return what helps against an error of connecting.

    Args:
        scheme: ``ws`` or ``wss``.
        error: what the network, OpenSSL or the HTTP upgrade raised.
    """
    classes = [kind.__name__ for kind in type(error).__mro__]
    for schemes, kinds, pattern, hint in _CONNECTING:
        if (
            re.fullmatch(schemes, scheme)
            and any(re.fullmatch(kinds, name) for name in classes)
            and re.search(pattern, str(error))
        ):
            return hint
    return None


_UPLOAD_FIRST = "is it on the server? a program goes by a name that the server knows, or by the hash of its upload"
_WANTS_VERSION = "this server wants the version as well: NAME@1.2.3"
_GENERATION = "is it a program for this server? which kind of program each release of Pie takes differs"
_LIST = "`pie-sync list` and list_instances() show those that the server has"
_GONE = f"has it ended? {_LIST}"
_MALFORMED = f"an id is a UUID, such as 3f2a9c51-6d0e-4b7a-9a53-1c8d2e4f6071; {_LIST}"
_TAKEN = "a connection is attached to it: end that one first"
_BOUND = f"has it ended? what was attached before can't be attached to again; {_LIST}"
_TEXT_FORMAT = "wasmtime.wat2wasm() makes the binary format"
_NO_LANGUAGE = "install pie-language-python beside pie-server, and start it again"
_OTHERS = "it belongs to another user"

#: Which requests, what a server says (a pattern), and what helps. The first that fits counts.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    ("launch|run|map", r"Invalid program identifier|has no version", _WANTS_VERSION),
    (
        "launch|run|map",
        r"No such program|no program named|not installed|Program not found|Failed to download",
        _UPLOAD_FIRST,
    ),
    ("", r"looks like WebAssembly text", _TEXT_FORMAT),
    ("", r"no \w+ language component", _NO_LANGUAGE),
    (
        "launch|run|map|upload",
        r"compile|No '?run'? interface|parse WebAssembly|Invalid component|is no component|exports? no",
        _GENERATION,
    ),
    # The process protocol says the same of what is bound to another connection, also to one that was lost.
    ("attach", r"Process not found", _BOUND),
    ("", r"(?:Invalid|Malformed) (?:process|instance)[ _]id", _MALFORMED),
    ("", r"(?:Instance|Process) not found|No such (?:instance|process)", _GONE),
    ("attach", r"already attached", _TAKEN),
    ("", r"Permission denied", _OTHERS),
)


def hint_for_refusal(request: str, reason: str) -> str | None:
    """Return what helps against a refusal.

    Args:
        request: the name of the client's method.
        reason: why, in the server's words.
    """
    for requests, pattern, hint in _REFUSALS:
        if re.match(requests, request) and re.search(pattern, reason[:2000], re.IGNORECASE):
            return hint
    return None


#: For each part of a hint that only a program can use: what helps in a shell.
_IN_A_SHELL: tuple[tuple[str, str], ...] = (
    (_CERTIFICATE, "the variable SSL_CERT_FILE names the file of a certificate of your own"),
    (_LIST, "`pie-sync list` shows those that the server has"),
    ("connect_timeout waits longer", "--timeout SECONDS waits longer"),
)


def in_a_shell(hint: str) -> str:
    """Return a hint for a user of the command, who can pass nothing to a function."""
    for text, other in _IN_A_SHELL:
        hint = hint.replace(text, other)
    return hint
