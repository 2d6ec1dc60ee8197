"""Outcomes as JSON: one object for each input, which holds the input, and its result or its error."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from .. import errors
from .._connection.validation import check_args
from ..errors import InstanceFailed, PieError, RequestError
from ..events import Blob, CompletedInstance, Event, ResultForm

__all__ = ["Args", "normalised", "record", "restore"]

#: The arguments of an instance as JSON has them: a list of strings, or an object.
Args = Union[list[str], Mapping[str, Any]]


def record(args: Args, outcome: CompletedInstance[Any] | Exception, blobs: Path | None = None) -> dict[str, Any]:
    """Return the line of one input, as a dict.

    Args:
        args: the arguments of the instance.
        outcome: its result, or the error.
        blobs: the folder to save its blobs in; None puts them into the line, in base64.
    """
    more = {}
    if isinstance(outcome, InstanceFailed):
        more = {"instance": outcome.instance_id}
        outcome = outcome.completed
    if isinstance(outcome, Exception):
        text = outcome.reason if isinstance(outcome, RequestError) else str(outcome)
        return {"input": args, "event": None, "message": text, "error": type(outcome).__name__}
    return {
        "input": args,
        "event": outcome.event.name,
        "message": outcome.message,
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "messages": outcome.messages,
        "blobs": [_blob(blob if isinstance(blob, Blob) else Blob(blob), blobs) for blob in outcome.blobs],
        **more,
    }


def _blob(blob: Blob, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {"name": blob.name, "base64": base64.b64encode(blob).decode()}
    try:
        return {"name": blob.name, "path": str(blob.save(folder))}
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise


def restore(line: Mapping[str, Any], form: ResultForm = ResultForm.JSON) -> CompletedInstance[Any] | Exception:
    """Return the outcome that :func:`record` was given, but for the time that it took.

    Blobs that were saved are read from their files.

    Args:
        line: the line, as a dict.
        form: the form of the program's result.
    """
    if line["event"] is None:
        kind: Any = getattr(errors, line.get("error", ""), PieError)
        error: Exception = (
            kind("map", line["message"]) if issubclass(kind, RequestError) else kind(line["message"])
        )
        return _with_input(error, line)
    completed = CompletedInstance(
        Event[line["event"]],
        line["message"],
        line["stdout"],
        line["stderr"],
        tuple(line["messages"]),
        tuple(_restored_blob(blob) for blob in line["blobs"]),
        line.get("instance", ""),
        line["input"],
        None,
        form,
    )
    if completed.event is Event.Completed:
        return completed
    return _with_input(InstanceFailed(completed.id, completed), line)


def _with_input(error: Exception, line: Mapping[str, Any]) -> Exception:
    if isinstance(error, PieError):
        error.input = line["input"]
    return error


def _restored_blob(blob: Mapping[str, Any]) -> Blob:
    content = base64.b64decode(blob["base64"]) if "base64" in blob else Path(blob["path"]).read_bytes()
    return Blob(content, blob["name"])


def normalised(args: Any) -> Any:
    """Return arguments as JSON gives them back; None for what are no arguments, or can't be in a journal."""
    try:
        return json.loads(json.dumps(check_args(args)))
    except (TypeError, ValueError):
        return None
