"""``serve --engine``: the real Pie server, in place of LocalServer."""

from __future__ import annotations

import time

from ..testing import EngineError, EngineServer, EngineUnavailableError
from ._failures import Failure
from ._interruption import INTERRUPTION, NAP
from ._output import echo, say

__all__ = ["serve_engine"]


def serve_engine(model: str | None, host: str, port: int, memory: str | None) -> None:
    """Serve until a signal comes, or until the server ends by itself.

    Raises:
        Failure: the server can't start, or has ended.
    """
    try:
        server = EngineServer(model, host=host, port=port, memory=memory)
    except ValueError as error:
        raise Failure(str(error), "see `pie-sync serve --help`") from error
    try:
        say(f"[loading {model or 'a tiny model with random weights'}]")
        _start(server)
        with INTERRUPTION.hold():
            echo(server.uri)
            say(f"[OpenAI-compatible routes: {server.http_uri}/v1; log: {server.log}; Ctrl-C ends the server]")
            while not INTERRUPTION.has_come:
                if not server.running:
                    raise Failure("the server's process has ended", f"its log is {server.log}")
                time.sleep(NAP)
            say("[ended]")
    except KeyboardInterrupt:
        pass  # the regular end of a server
    finally:
        server.close()


def _start(server: EngineServer) -> None:
    try:
        server.start()
    except EngineUnavailableError as error:
        raise Failure(error.reason, error.hint) from error
    except EngineError as error:
        # The first line is the reason, the others are from the log.
        text, _, _ = str(error).partition("\n")
        raise Failure(text, f"its log is {server.log}") from error
