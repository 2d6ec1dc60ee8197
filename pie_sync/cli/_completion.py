"""What the shell's Tab key offers beside commands, options and files: instances and profiles.

Nothing is asked of the user here, and nothing is told: what goes wrong offers nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    import typer

__all__ = ["complete_instance", "complete_profile"]

#: Seconds that connecting, and then each answer, may take. Who presses Tab waits for it.
_TIMEOUT = 2.0

_GIVEN = ("uri", "username", "key", "identity", "profile", "config")


def _typed(ctx: typer.Context) -> dict[str, Any]:
    """Return the common options on the command line, those behind the command first."""
    contexts: list[Any] = []
    current: Any = ctx
    while current is not None:
        contexts.append(current)
        current = current.parent
    found: dict[str, Any] = {}
    for context in contexts:
        for name in _GIVEN:
            source = context.get_parameter_source(name) if name in context.params else None
            if source is not None and source.name == "COMMANDLINE" and context.params[name]:
                found.setdefault(name, context.params[name])
    return found


def _quietly(offer: Callable[[typer.Context], list[tuple[str, str]]]) -> Callable[..., list[tuple[str, str]]]:
    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return [(value, text) for value, text in offer(ctx) if value.startswith(incomplete)]
        except Exception:
            return []

    # typer looks for parameters by their types, and can't read those of this module, which are text.
    complete.__annotations__ = {}
    return complete


def _instances(ctx: typer.Context) -> list[tuple[str, str]]:
    from .._connection.settings import ClientSettings, Given, UserKey  # noqa: PLC0415
    from ..client import PieClient  # noqa: PLC0415

    settings = ClientSettings.find(Given(**_typed(ctx)))
    identity = settings.identity.value
    with PieClient(settings.uri.value, timeout=_TIMEOUT, connect_timeout=_TIMEOUT, identity=identity) as client:
        client.authenticate(settings.username.value, UserKey(settings))  # type: ignore[arg-type]
        return [
            (info.id, " ".join([info.program or "", *info.arguments])[:60]) for info in client.list_instances()
        ]


def _profiles(ctx: typer.Context) -> list[tuple[str, str]]:
    from .._connection.config_file import ConfigFile  # noqa: PLC0415

    config = _typed(ctx).get("config")
    file = ConfigFile.load(None if config is None else Path(config))
    return [(name, str(values.get("uri", ""))) for name, values in sorted(file.profiles.items())]


#: The ids of the user's instances.
complete_instance = _quietly(_instances)

#: The names of the profiles in the configuration file.
complete_profile = _quietly(_profiles)
