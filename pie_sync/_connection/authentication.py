"""Who this connection is, and with it which generation of the protocol the server speaks.

A server that may speak either is spoken to in both: it ignores the other generation's first message without a
sound, so that exactly one is answered (protocol: "Telling them apart"). That takes no extra round trip.
"""

from __future__ import annotations

import base64
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable

from .._printable import SHORT, printable
from .._protocol.generation import AUTHENTICATION_DISABLED
from .._protocol.messages import Answer
from .._session.pending_request import PendingRequest
from .._support.time_limits import acquire
from ..errors import AuthenticationError, PieConnectionError, RequestError
from .validation import check_challenge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._protocol import Protocol
    from .._session.session import Session
    from .._support.time_limits import TimeLimit
    from ..keys import ParsedPrivateKey

__all__ = ["Authentication"]

#: The answer to a second authentication; on 0.5, which accepts everybody, to any.
_ALREADY_AUTHENTICATED = "Already authenticated"

#: How many bytes the signature of an RSA key has at most that Pie 0.3 and 0.4 take: one of 4096 bits.
_LONGEST_SIGNATURE = 512


class Authentication:
    """The authentication of one session. Thread-safe.

    Attributes:
        is_spent: whether an attempt failed behind which servers up to 0.2 end the connection, at once or at the
            next attempt. So that one needs a new connection.
    """

    def __init__(self, session: Session) -> None:
        self.is_spent = False
        self._session = session
        # Serialises authentication: a connection has one user.
        self._lock = threading.Lock()
        self._username: str | None = None
        # How to do the same on another connection.
        self._repeat: Callable[[Authentication, TimeLimit], None] | None = None

    def repeat_on(self, other: Authentication, limit: TimeLimit) -> None:
        """Authenticate another session in the same way. Does nothing if this one was not authenticated."""
        if self._repeat is not None:
            self._repeat(other, limit)

    @property
    def is_done(self) -> bool:
        """Whether other requests may be sent. Pie 0.5 demands no authentication."""
        return self._username is not None or self._session.endpoint.is_gateway

    def identify(self, username: str, private_key: ParsedPrivateKey | None, limit: TimeLimit) -> None:
        """See :meth:`PieClient.authenticate`."""
        with self._exclusively("authenticate", limit):
            if self._username == username:
                return
            self._refuse_another(f"use another PieClient for {username!r}")
            answer = self._ask("authenticate", lambda protocol: protocol.identify, username, limit)
            if not answer.ok:
                raise AuthenticationError(f"the server refuses {username!r}: {printable(answer.text, SHORT)}")
            if answer.kind == "challenge" or not self._is_accepted(answer.text):
                self._prove(username, private_key, answer.text, limit)
            self._username = username
            self._session.is_authenticated = True
            self._repeat = lambda other, limit: other.identify(username, private_key, limit)

    def by_token(self, token: str, limit: TimeLimit) -> None:
        """See :meth:`PieClient.internal_authenticate`."""
        with self._exclusively("internal_authenticate", limit):
            self._refuse_another("use another PieClient")
            if self._session.endpoint.is_gateway:
                raise AuthenticationError(
                    "a Pie 0.5 server has no internal tokens: it leaves authentication to the proxy before it"
                )
            try:
                answer = self._ask(
                    "internal_authenticate",
                    lambda protocol: protocol.authenticate_by_token,
                    token,
                    limit,
                )
            except RequestError as error:  # 0.5 at a path of the user's does not know the message
                reason = _without(token, error.reason)
                raise AuthenticationError(f"the server does not know internal tokens: {reason}") from None
            if not answer.ok:
                raise AuthenticationError(f"the server refuses the token: {_without(token, answer.text)}")
            self._username = "(internal)"
            self._session.is_authenticated = True
            self._session.probes.trusts_lists = False
            self._repeat = lambda other, limit: other.by_token(token, limit)

    @contextmanager
    def _exclusively(self, name: str, limit: TimeLimit) -> Iterator[None]:
        """Wait until no other thread is authenticating."""
        acquired: list[bool] = []
        try:
            if not acquire(self._lock, limit.deadline(), acquired):
                raise limit.expired(name, "another thread has not ended authenticating")
            try:
                yield
            except PieConnectionError:
                raise
            except BaseException:
                self.is_spent = self._username is None and self._session.protocol_name != "process"
                raise
        finally:
            if True in acquired:
                self._lock.release()

    def _refuse_another(self, hint: str) -> None:
        if self._username is not None:
            raise AuthenticationError(f"this connection is already authenticated as {self._username!r}: {hint}")

    def _is_accepted(self, text: str) -> bool:
        protocol = self._session.protocol
        return text == AUTHENTICATION_DISABLED or (protocol.name == "process" and text == _ALREADY_AUTHENTICATED)

    def _ask(
        self,
        name: str,
        method: Callable[[Protocol], Callable[[int, str], bytes]],
        argument: str,
        limit: TimeLimit,
    ) -> Answer:
        """Send the first message of every generation that the server may speak; the answer tells which it is."""
        session = self._session
        candidates = (session.protocol,) if session.protocol_name else session.endpoint.candidates
        request = PendingRequest(name, ("response", "challenge"))
        pending = session.router.pending
        by_corr_id: dict[int, Protocol] = {}
        try:
            for candidate in candidates:
                by_corr_id[pending.add(request)] = candidate
            messages = [method(protocol)(corr_id, argument) for corr_id, protocol in by_corr_id.items()]
            session.request_by_any(request, messages, limit.deadline())
            if not request.wait(limit.deadline()):
                raise limit.expired(name, "no answer from the server")
        finally:
            pending.remove(request)
        answer = request.result()
        assert isinstance(answer, Answer)
        session.router.protocol = by_corr_id[answer.corr_id]
        return answer

    def _prove(
        self, username: str, private_key: ParsedPrivateKey | None, challenge: str, limit: TimeLimit
    ) -> None:
        if challenge == _ALREADY_AUTHENTICATED:
            raise AuthenticationError("the server says that this connection is authenticated already")
        if private_key is None:
            raise AuthenticationError(
                f"the server wants {username!r} to sign a challenge: pass"
                " private_key=ParsedPrivateKey.from_file(path)"
            )
        raw_signature = private_key.sign(check_challenge(challenge))
        signature = base64.b64encode(raw_signature).decode()
        try:
            self._session.call(
                "authenticate",
                lambda corr_id: self._session.protocol.prove(corr_id, signature),
                limit,
            )
        except RequestError as error:
            is_too_long = len(raw_signature) > _LONGEST_SIGNATURE and self._session.protocol.name == "process"
            hint = " (Pie 0.3 and 0.4 take RSA keys of 2048 to 4096 bits)" if is_too_long else ""
            raise AuthenticationError(
                f"the server refuses the signature for {username!r}: {printable(error.reason, SHORT)}{hint}"
            ) from None


def _without(secret: str, text: str) -> str:
    """Return what a server says, without what it was told in confidence: it may repeat that."""
    return printable(text.replace(secret, "...") if secret else text, SHORT)
