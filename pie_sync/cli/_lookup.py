"""Finds instances by their ids, or by the first characters of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ._failures import Failure, printable

if TYPE_CHECKING:
    from ..client import PieClient

__all__ = ["find"]


#: A whole id: servers make UUIDs.
_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def find(client: PieClient, prefix: str) -> str:
    """Return the id of the only instance whose id begins with ``prefix``.

    A whole id is returned as it is. The list may lack the instance: Pie 0.2.0 lists only the 50 youngest ones.
    An id that was shortened with an ellipsis, at its end or in its middle, is understood.

    Raises:
        Failure: there is no such instance, or more than one.
    """
    prefix = prefix.lower()
    if _ID.fullmatch(prefix):
        return prefix
    begin, ellipsis, end = prefix.replace("...", "…").partition("…")
    ids = [info.id for info in client.list_instances()] if begin else []
    found = [one for one in ids if one.lower().startswith(begin) and one.lower().endswith(end)]
    if not found:
        wanted = f"begins with {printable(begin)!r}" + (f" and ends with {printable(end)!r}" if end else "")
        if ellipsis and not begin:
            raise Failure(f"{printable(prefix)!r} lacks the beginning of an id", "`pie-sync list` shows all")
        raise Failure(f"there is no instance whose id {wanted}", "`pie-sync list` shows all")
    if len(found) > 1:
        raise Failure(
            f"the ids of {len(found)} instances begin with {prefix!r}: {printable(', '.join(found))}",
            "give more digits of the one that you mean",
        )
    return found[0]
