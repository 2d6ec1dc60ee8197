"""Runs the real Pie server until stdin closes.

This program, ``serve.py CHECKPOINT``, runs with the interpreter of the server's environment. Once the server
answers, it prints one line of JSON, ``{"uri": "ws://127.0.0.1:PORT", "http_uri": "http://127.0.0.1:PORT"}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading

from pie.config import Config, EngineConfig, ModelConfig, ServerConfig
from pie.server import Server

# How long a server may take to shut down after the end of stdin, including the rest of its boot.
SHUTDOWN_LIMIT = 10.0  # seconds


def configuration(checkpoint: str) -> Config:
    """Returns the smallest settings that the server accepts for the tiny model on a software Vulkan driver."""
    engine = EngineConfig(
        type="wgpu",
        device=["wgpu:0"],
        options={
            "device_memory": "4GiB",
            "max_forward_tokens": 256,
            "max_forward_requests": 4,
            "max_total_pages": 64,
        },
    )
    model = ModelConfig(hf_repo=os.path.abspath(checkpoint), sku="qwen35-tiny-u4g64-kv-bf16", engine=engine)
    return Config(server=ServerConfig(host="127.0.0.1", port=0), model=model)


def claim_stdout() -> int:
    """Keeps stdout for the one line of JSON; the engine's output goes to stderr."""
    own = os.dup(1)
    os.dup2(2, 1)
    return own


def watch_stdin() -> threading.Event:
    """Starts the thread that sets the returned event at the end of stdin.

    The parent process holds the other end of the pipe, which closes however the parent ends. The server must not
    outlive its parent, so a server that does not shut down in time is killed.
    """
    closed = threading.Event()

    def wait_for_end() -> None:
        while os.read(0, 4096):
            pass
        closed.set()
        threading.Event().wait(SHUTDOWN_LIMIT)
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()
    return closed


async def serve(checkpoint: str, stdout: int, closed: threading.Event) -> None:
    """Boots the server, prints its URIs, and keeps it running until ``closed`` is set."""
    async with Server(configuration(checkpoint)) as server:
        line = json.dumps({"uri": server.url, "http_uri": server.http_url}) + "\n"
        os.write(stdout, line.encode())
        await asyncio.to_thread(closed.wait)


if __name__ == "__main__":
    output = claim_stdout()
    asyncio.run(serve(sys.argv[1], output, watch_stdin()))
