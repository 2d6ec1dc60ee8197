"""Finds instances by the first characters of their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._failures import Failure, printable

if TYPE_CHECKING:
    from ..client import PieClient

__all__ = ["find"]


def find(client: PieClient, prefix: str) -> str:
    """Return the id of the only instance whose id begins with ``prefix``.

    Raises:
        Failure: there is no such instance, or more than one.
    """
    prefix = prefix.lower()
    found = [info.id for info in client.list_instances() if info.id.lower().startswith(prefix)] if prefix else []
    if not found:
        raise Failure(
            f"there is no instance whose id begins with {printable(prefix)!r}", "`pie-sync list` shows all"
        )
    if len(found) > 1:
        raise Failure(
            f"the ids of {len(found)} instances begin with {prefix!r}: {printable(', '.join(found))}",
            "give more digits of the one that you mean",
        )
    return found[0]
