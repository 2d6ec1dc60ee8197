"""The settings of a command: those of its client, and its time limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._connection.settings import ClientSettings, Given
from ._failures import Failure

if TYPE_CHECKING:
    from .._connection.config_file import ConfigFile
    from ._command import Options

__all__ = ["Settings"]

DEFAULT_TIMEOUT = 30.0


class Settings(NamedTuple):
    """All settings of a connection."""

    client: ClientSettings
    timeout: float
    timeout_origin: str

    @classmethod
    def of(cls, options: Options, file: ConfigFile | None = None) -> Settings:
        """Collect the settings by the order of precedence; see :meth:`ClientSettings.find`.

        Args:
            options: the common options as they were typed.
            file: the configuration file; None reads the one that the options or the environment name.

        Raises:
            Failure, PieValueError: a value is not valid.
            OSError: the configuration file can't be read.
        """
        timeout, timeout_origin = DEFAULT_TIMEOUT, "default"
        if options.timeout is not None:
            timeout, timeout_origin = options.timeout, "--timeout"
        if not timeout > 0:
            raise Failure(f"--timeout must be more than 0 seconds, not {timeout}", "--timeout 30 is the default")
        given = Given(
            uri=options.uri,
            username=options.username,
            key=options.key,
            identity=options.identity,
            profile=options.profile,
            config=options.config,
        )
        return cls(ClientSettings.find(given, file), timeout, timeout_origin)
