"""Generate text with a function that runs next to the model; print each token at once.

``generate_text.py [PROMPT]`` starts the real Pie server with a tiny model, whose words
mean nothing; the extra "engine" installs both. With a server's address in the
environment variable PIE_URI it uses that one.
"""

import os
import sys
from contextlib import nullcontext

from pie_sync import Event, PieClient, PieTimeoutError, inferlet
from pie_sync.testing import EngineServer, EngineUnavailableError


@inferlet
async def generate(prompt: str, max_tokens: int = 16) -> dict:
    """Continue a text with the most probable tokens."""
    # This runs on the server, where the package inferlet is.
    from inferlet import chat, model, session
    from inferlet.eta import (
        Channel,
        ForwardPass,
        KvGeometry,
        Pipeline,
        RsWorkingSet,
        WorkingSet,
        dtype,
        intrinsics,
        kv_page_size,
        reduce_argmax,
        reshape,
    )

    def numbers(values):
        return Channel.from_(list(values), dtype.u32)

    page = kv_page_size()
    batch = model.encode(prompt)  # the tokens of the next step: first all of the prompt
    cache, pipeline = WorkingSet(), Pipeline()
    cache.reserve((len(batch) + max_tokens + page - 1) // page)
    recurrent = (
        [RsWorkingSet()] if model.is_linear() else []
    )  # the state of layers that are no attention

    start, tokens, text = 0, [], ""
    while len(tokens) < max_tokens:
        end = start + len(batch)
        pages = (end + page - 1) // page
        positions = range(start, end)
        step, chosen = ForwardPass(), Channel([1], dtype.i32)
        step.embed(Channel.from_(batch, dtype.i32), numbers([0, len(batch)]))
        geometry = KvGeometry(
            kv_len=numbers([end]),
            pages=numbers(range(pages)),
            page_indptr=numbers([0, pages]),
            w_slot=numbers(position // page for position in positions),
            w_off=numbers(position % page for position in positions),
            positions=numbers(positions),
        )
        step.bind_state(cache, geometry, recurrent)
        step.epilogue(
            lambda: chosen.put(reshape(reduce_argmax(intrinsics.logits()), [1]))  # noqa: B023
        )
        step.submit(pipeline)
        token = await chosen.take_scalar()
        if token in chat.stop_tokens():
            break
        tokens.append(token)
        session.send(model.decode(tokens)[len(text) :])
        text = model.decode(tokens)
        start, batch = end, [token]  # all before is in the KV cache
    pipeline.close()
    return {"text": text, "tokens": tokens}


def show(event, data):
    if event is Event.Message:
        print(data, end="", flush=True)


def main() -> int:
    prompt = " ".join(sys.argv[1:]) or "Hello"
    uri = os.environ.get("PIE_URI")
    try:
        with (
            nullcontext() if uri else EngineServer() as server,
            PieClient(uri or server.uri) as client,
        ):
            client.authenticate("alice")
            print(prompt, end="", flush=True)
            try:
                done = client.run(
                    generate,
                    {"prompt": prompt, "max_tokens": 8},
                    timeout=300,
                    on_event=show,
                )
            except PieTimeoutError as error:
                log = f" (the engine's log: {server.log})" if server else ""
                print(f"\n{error}{log}", file=sys.stderr)
                return 1
            print(f"\n{len(done.value['tokens'])} tokens: {done.value['tokens']}")
    except EngineUnavailableError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
