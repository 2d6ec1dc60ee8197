"""Which way to take to a host: directly, or through the HTTP proxy that the environment names. Pure.

The rules are those of curl and requests, where these agree:

- ``http_proxy`` is for ``ws://``, ``https_proxy`` for ``wss://``; ``all_proxy`` is not looked at. The name in
  lower case counts before the one in capitals, also if it's empty. In a CGI program (``REQUEST_METHOD`` is set)
  ``HTTP_PROXY`` is not looked at: there it's a header of somebody's request.
- A proxy without a scheme is ``http://``, one without a port is at port 80.
- Only ``http://`` proxies are spoken to. Any other scheme is an error.
- ``no_proxy`` lists the exceptions, with commas or blanks between them. ``*`` is every host. A name is that host
  and all below it, with or without a dot before it. IP addresses and networks (``10.0.0.0/8``) are for hosts that
  are IP addresses. ``host:port`` is an exception for this port only.
- This machine's own loopback never takes a proxy, whatever the variables say.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .._printable import printable
from .uri import ascii_host, is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .uri import Address

__all__ = ["Proxy", "proxy_for"]


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: as :class:`Address` has it.
        port: a number from 1 to 65535.
        login: user name and password for it.
        variable: the environment variable that names it.
    """

    host: str
    port: int
    login: tuple[str, str] | None = field(repr=False)
    variable: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}, from {self.variable}"


def proxy_for(address: Address, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy through which to connect; None is directly.

    Raises:
        ValueError: the environment names something that is not spoken here. A password is not in the text.
    """
    if is_loopback(address.host):
        return None
    variable, value = _variable("https_proxy" if address.is_secure else "http_proxy", environ)
    if not value or _is_exempt(address.host, address.port, _variable("no_proxy", environ)[1]):
        return None
    try:
        return _parse(value, variable)
    except ValueError as error:
        reason = "" if "@" in value else f", {printable(value, 100)!r}"
        raise ValueError(f"the proxy in the environment variable {variable}{reason}: {error}") from None


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the name and the value of an environment variable, which may be in capitals."""
    if name in environ:
        return name, environ[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return name, ""
    return name.upper(), environ.get(name.upper(), "").strip()


def _parse(value: str, variable: str) -> Proxy:
    parts = urlsplit(value if "://" in value else f"http://{value}")
    if parts.scheme != "http":
        raise ValueError(
            f"{printable(parts.scheme, 20)}:// is not spoken here, http:// is; nothing was sent;"
            " hint: name an http:// proxy, or list the server in no_proxy"
        )
    if not parts.hostname:
        raise ValueError("it names no host")
    port = 80 if parts.port is None else parts.port
    if port == 0:
        raise ValueError("its port is not from 1 to 65535")
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return Proxy(ascii_host(parts.hostname), port, login, variable)


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    host = host.rstrip(".")
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        name, only_port = _split_port(entry)
        if not name or only_port not in ("", str(port)):
            continue
        if name == "*":
            return True
        if ip is not None:
            if _is_in(ip, name):
                return True
        else:
            # With the dot in front the comparison is one of whole labels.
            name = _encoded(name.strip("."))
            if name and f".{host}".endswith(f".{name}"):
                return True
    return False


def _split_port(entry: str) -> tuple[str, str]:
    """Take the port off an entry of ``no_proxy``, where it has one."""
    bracketed = re.fullmatch(r"\[(.*)\](?::(\d+))?", entry)
    if bracketed:
        return bracketed[1], bracketed[2] or ""
    name, colon, port = entry.rpartition(":")
    # An IPv6 address without brackets has more colons than one.
    return (name, port) if colon and port.isdigit() and ":" not in name else (entry, "")


def _is_in(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return ip in ipaddress.ip_network(network, strict=False)  # an address is a network of one
    except ValueError:
        return False


def _encoded(name: str) -> str:
    try:
        return ascii_host(name)
    except ValueError:
        return ""
