"""A small application: a program on a Pie server summarises files.

PIE_URI in the environment is the server's address. test_summarise.py, beside this file,
shows how to test such an application.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from pie_sync import InstanceFailed, PieClient, PieError, PieTimeoutError

PROGRAM = "summarise@1.2.0"


def summarise(
    client: PieClient, text: str, words: int, timeout: float
) -> Optional[str]:
    """Return a summary, or None if the program fails."""
    instance = client.launch(PROGRAM, {"words": words})
    instance.send(text)
    try:
        return instance.wait(timeout, check=True).message
    except InstanceFailed:
        return None
    except PieTimeoutError:
        instance.terminate()  # otherwise the instance would go on
        raise


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description="Summarise files.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument(
        "--words", type=int, default=20, help="how long a summary may be"
    )
    parser.add_argument(
        "--timeout", type=float, default=60, help="seconds for each step"
    )
    options = parser.parse_args(arguments)
    try:
        with PieClient(os.environ["PIE_URI"], timeout=options.timeout) as client:
            client.authenticate("summarise")
            for file in options.files:
                summary = summarise(
                    client, file.read_text(), options.words, options.timeout
                )
                print(f"{file.name}: {'(no summary)' if summary is None else summary}")
    except PieTimeoutError:
        print("the server takes too long", file=sys.stderr)
    except (PieError, ConnectionError) as error:
        print(f"no summaries: {error}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
