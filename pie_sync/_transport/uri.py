"""What a WebSocket URI says: the host, the port and the resource, as they go over the wire. Pure."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

__all__ = ["Address", "ascii_host", "is_loopback", "parse_uri"]

_DEFAULT_PORTS = {"ws": 80, "wss": 443}

#: One label of a host's name. Underscores are not in RFC 1123, but in the names of many internal networks.
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")

#: What IDNA 2003, which Python has, and IDNA 2008, which browsers have, take for different hosts: sharp s, final
#: sigma, and the two joiners (UTS 46 section 2.3).
_DEVIATIONS = "\u00df\u1e9e\u03c2\u200c\u200d"

#: Characters that stay as they are in a path, "%" among them: what is escaped already is not escaped again. ";" is
#: not among them, since websocket-client would drop what follows it.
_PATH_SAFE = "/%:@!$&'()*+,=~"


class Address(NamedTuple):
    """Where a WebSocket is.

    Attributes:
        host: a name in ASCII and lower case, or an IP address, an IPv6 one without brackets.
        port: a number from 1 to 65535.
        resource: path and query, percent-encoded, for the request line.
        is_secure: whether it's ``wss://``.
    """

    host: str
    port: int
    resource: str
    is_secure: bool

    @property
    def host_header(self) -> str:
        """The value of the header ``Host``: without the port if that is the default one (RFC 9110 section 7.2)."""
        host = self.host.partition("%")[0]  # the zone of an IPv6 address means nothing elsewhere (RFC 6874)
        host = f"[{host}]" if ":" in host else host
        return host if self.port == (443 if self.is_secure else 80) else f"{host}:{self.port}"


# A client parses its one URI again with each connection.
@lru_cache(maxsize=128)
def parse_uri(uri: str) -> Address:
    """Return what a ``ws://`` or ``wss://`` URI says.

    Raises:
        ValueError: nobody can connect to that; the text goes on after the URI's name, as in "must look like".
            A password that may be in the URI is not in the text.
    """
    if any(char < " " or "\x7f" <= char <= "\x9f" for char in uri):  # urlsplit() takes some out without a word
        raise ValueError("must not contain control characters or line breaks")
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError as error:
        reason = "" if "@" in uri else f", got {uri!r}: {error}"
        raise ValueError(f"must look like ws://host:port or wss://host:port{reason}") from None
    if "@" in parts.netloc:
        raise ValueError(
            "must not contain a user name or a password: Pie takes neither from there;"
            " authenticate with client.authenticate(username, private_key)"
        )
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise ValueError(f"must look like ws://host:port or wss://host:port, got {uri!r}")
    try:
        if "[" in parts.netloc and ":" not in host:  # Python up to 3.11.3 lets pass whatever is in brackets
            raise ValueError("brackets are for IPv6 addresses")
        host = ascii_host(host)
    except ValueError as error:
        raise ValueError(f"has no usable host, got {uri!r}: {error}") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"must have a port from 1 to 65535, or none, got {uri!r}")
    resource = quote(parts.path, safe=_PATH_SAFE) or "/"
    if parts.query:
        resource += "?" + quote(parts.query, safe=_PATH_SAFE + "?;")
    return Address(host, port or _DEFAULT_PORTS[parts.scheme], resource, parts.scheme == "wss")


def ascii_host(host: str) -> str:
    """Return a host as it's looked up: an IP address as it is, a name in lower case and encoded by IDNA.

    Args:
        host: without brackets, if it's an IPv6 address; a zone may follow that behind "%" or "%25".

    Raises:
        ValueError: it can't be a host.
    """
    if ":" in host:
        address, _, zone = host.replace("%25", "%").partition("%")
        ipaddress.IPv6Address(address)
        if zone and not _LABEL.fullmatch(zone):
            raise ValueError(f"{zone!r} is no zone of an IPv6 address")
        return f"{address}%{zone}" if zone else address
    if not host.isascii():
        for char in _DEVIATIONS:
            if char in host:
                raise ValueError(
                    f"the two versions of IDNA differ over {char!r}: write the name in its form xn--..."
                )
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise ValueError(f"the name can't be encoded: {error}") from None
    labels = (host[:-1] if host.endswith(".") else host).split(".")
    if len(host) > 254 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("names consist of letters, digits and dashes, at most 63 between two dots")
    return host.lower()


@lru_cache(maxsize=128)
def is_loopback(host: str) -> bool:
    """Whether a host, in the form of :func:`ascii_host`, is always this machine.

    These are 127.0.0.0/8 and ::1, and the names of RFC 6761 section 6.3: localhost and whatever ends with
    .localhost. Connections to them take no proxy, and a look-up that leads elsewhere is not followed.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return f".{host.rstrip('.')}".endswith(".localhost")
