"""Ask the model for the next word of 20 texts, and match the results to the texts.

The script starts the real Pie server with a tiny model, which the extra "engine"
installs. With a server's address in the environment variable PIE_URI it uses that one.
"""

import os
import sys
from contextlib import nullcontext

from generate_text import generate

from pie_sync import PieClient
from pie_sync.testing import EngineServer, EngineUnavailableError

ANIMALS = ["ant", "bat", "cat", "dog", "eel"]
VERBS = ["eats", "sees", "likes", "knows"]


def main() -> int:
    prompts = [f"The {animal} {verb}" for animal in ANIMALS for verb in VERBS]
    uri = os.environ.get("PIE_URI")
    try:
        with (
            nullcontext() if uri else EngineServer() as server,
            PieClient(uri or server.uri) as client,
        ):
            client.authenticate("alice")
            inputs = ({"prompt": prompt, "max_tokens": 1} for prompt in prompts)
            # Each result has the input that it is for, so the order doesn't matter. The
            # engine abandons an instance that has waited too long for its turn, as may
            # happen on a busy processor: that one is launched again, and so is one of
            # which no end comes.
            for result in client.map(
                generate, inputs, concurrency=2, ordered=False, timeout=60, retries=3
            ):
                print(f"{result.input['prompt']}...{result.value['text']}")
    except EngineUnavailableError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
