"""Protocol detection: decodes the first answer of a server that may speak either generation."""

from __future__ import annotations

from typing import Any

from . import instance, process
from .messages import Abort, Decoded, Notice, Refusal, decode

__all__ = ["ProtocolDetector"]


def _response(message: dict[str, Any]) -> Decoded:
    """Only this message has the same type in both generations; the name of its flag tells them apart."""
    decoders = process.DECODERS if "ok" in message else instance.DECODERS
    return decoders["response"](message)


_DECODERS = {**instance.DECODERS, **process.DECODERS, "response": _response}


class ProtocolDetector:
    """Decodes what either generation says. Requests are encoded by the generations themselves."""

    name = None

    def decode(self, payload: Any) -> Decoded:
        """Decode one binary message; see :func:`messages.decode`."""
        return decode(_DECODERS, payload)

    def decode_text(self, text: str) -> Notice | Refusal | Abort | None:
        """Decode one text message."""
        return process.decode_text(text)
