"""The servers of a batch: how a worker reaches each, and as whom. Nothing here knows which of them is alive."""

from __future__ import annotations

import getpass
import os
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from .._connection.validation import check_text, check_uri
from ..client import PieClient
from ..errors import PieConnectTimeoutError, PieTimeoutError, PieValueError
from ..keys import ParsedPrivateKey

__all__ = ["Endpoint", "Server", "ServerSource", "endpoints_of"]


@dataclass(frozen=True)
class Server:
    """One server of :func:`run_batch`, with options that differ from those of the other servers.

    Args:
        uri: its address, as for :class:`PieClient`, at which the workers reach it. A path is kept as it is.
        username: the name to authenticate with. None: the one of the batch.
        key: the path of a private key, or ``"agent"``, as for :func:`run_batch`. None: the one of the batch.
        token_file: the path of a file with the token for :meth:`PieClient.internal_authenticate`, which each
            worker reads for itself; it takes the place of a name and a key. The token itself never travels.
        client_options: more arguments of :class:`PieClient`, in addition to those of the batch.
    """

    uri: str
    username: str | None = None
    key: str | os.PathLike[str] | None = None
    token_file: str | os.PathLike[str] | None = None
    client_options: Mapping[str, Any] = field(default_factory=dict)


#: An address, a :class:`Server`, or several of both.
ServerSource = Union[str, Server, Iterable[Union[str, Server]]]


@dataclass(frozen=True)
class Endpoint:
    """A server as the workers have it. Pickled for them, so nothing in it is secret.

    Attributes:
        number: its place among the servers of the batch, from 0.
        uri: its address.
        username: the name to authenticate with.
        key: the path of the private key, or ``"agent"``, or None for none.
        token_file: the path of the file with the internal token, or None.
        client_options: more arguments of :class:`PieClient`.
    """

    number: int
    uri: str
    username: str
    key: str | None = None
    token_file: str | None = None
    client_options: Mapping[str, Any] = field(default_factory=dict)

    def connect(self) -> PieClient:
        """Return a client that is connected and authenticated.

        Raises:
            PieConnectionError: the server can't be reached, or accepts a connection and then does not answer.
            PieError: the server refuses.
            OSError: the key or the token can't be read.
        """
        key = None
        if self.key == "agent":
            key = ParsedPrivateKey.from_agent()
        elif self.key is not None:
            key = ParsedPrivateKey.from_file(self.key)
        client = PieClient(self.uri, **self.client_options)
        try:
            client.connect()
            if self.token_file is not None:
                client.internal_authenticate(
                    Path(self.token_file).expanduser().read_text(encoding="utf-8").strip()
                )
            else:
                client.authenticate(self.username, key)
        except PieTimeoutError as error:
            client.close()
            raise PieConnectTimeoutError(f"{self.uri}: {error}") from error
        except BaseException:
            client.close()
            raise
        return client


def endpoints_of(
    servers: ServerSource,
    username: str | None,
    key: str | os.PathLike[str] | None,
    client_options: Mapping[str, Any] | None,
) -> list[Endpoint]:
    """Return the servers of a batch, with the options of the batch where they have none of their own.

    Raises:
        TypeError, PieValueError: an argument makes no sense, or there is no server.
    """
    if isinstance(servers, (bytes, Mapping)) or not isinstance(servers, (str, Server, Iterable)):
        raise TypeError(f"uri must be an address, a Server or a list of them, not {type(servers).__name__}")
    given = [servers] if isinstance(servers, (str, Server)) else list(servers)
    if not given:
        raise PieValueError("uri must not be an empty list: a batch needs a server")
    default = getpass.getuser() if username is None else check_text(username, "username")
    key = _check_path(key, "key", _A_KEY)
    options = _check_client_options(client_options)
    endpoints = []
    for number, one in enumerate(given):
        server = one if isinstance(one, Server) else Server(one)
        endpoints.append(
            Endpoint(
                number=number,
                uri=check_uri(server.uri, "uri"),
                username=default if server.username is None else check_text(server.username, "username"),
                key=key if server.key is None else _check_path(server.key, "key", _A_KEY),
                token_file=_check_path(server.token_file, "token_file", "a token"),
                client_options={**options, **_check_client_options(server.client_options)},
            )
        )
    return endpoints


_A_KEY = 'a private key, or "agent"'


def _check_path(path: Any, name: str, what: str) -> str | None:
    if path is None or (name == "key" and path == "agent"):
        return path  # type: ignore[no-any-return]
    if not isinstance(path, (str, os.PathLike)):
        thing = name.partition("_")[0]
        raise TypeError(f"{name} must be the path of {what}, not {type(path).__name__}: a {thing} does not travel")
    path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(f"{name} must be str or os.PathLike[str], not bytes")
    # Absolute, since a worker of this machine may have another current folder. The workers expand "~".
    return path if path.startswith("~") else os.path.abspath(path)


def _check_client_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"client_options must be a mapping, not {type(options).__name__}")
    for name, value in options.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise TypeError(f"client_options[{name!r}] can't be sent to the workers: {error}") from error
    return dict(options)
