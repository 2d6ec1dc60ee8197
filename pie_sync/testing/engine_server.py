"""EngineServer: the real Pie server in a child process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import PieValueError
from ._engine.cache import cache_path, new_log, tiny_checkpoint
from ._engine.checkpoint import SKU
from ._engine.configuration import Machine, choose_engine, configuration, model_path
from ._engine.errors import EngineError
from ._engine.process import Addresses, EngineProcess
from ._engine.requirements import check_vulkan, software_driver

__all__ = ["EngineServer"]


class EngineServer:
    r"""The real Pie server (``pie-server`` 0.5) in a child process, with a model that generates tokens.

    .. code-block:: python

        with EngineServer() as server, PieClient(server.uri) as client:
            client.authenticate("alice")

    It needs the extra ``engine``: ``pip install 'pie-sync[engine]'``. Its packages are for Linux (glibc 2.35 or
    newer), macOS and Windows, and Python 3.10 or newer. On Linux it also needs the Vulkan loader, and on a CPU
    Mesa's software driver: the Debian packages ``libvulkan1`` and ``mesa-vulkan-drivers``.

    Without a model of yours it loads a tiny one with random weights, made on first use, 50 MB on disk. Nothing is
    downloaded. It answers with words that mean nothing, such as ``kavumo``, the same for the same prompt. (Its
    tokenizer covers the whole vocabulary of 248320 ids, so each generated id is a text that one can read.) It
    takes 1.5 GB of memory, 2 seconds to start, and 0.7 seconds of a processor for each token.

    The server begins without programs, forgets those that you install when it is closed, and accepts every user
    name. It ends with :meth:`close`, and with this process however that ends, also by SIGKILL. Compiled programs
    are kept in the cache folder: on a machine's first server, the first Python program takes half a minute, later
    2 seconds.

    All methods are safe to call from any thread. In a forked copy of this process, ``close`` does nothing.

    ``wgpu`` on Linux on a CPU is tested. What this page says of other engines and of real models is read from
    pie-server 0.5.2, and was not tried.

    Args:
        model: None, the default, is the tiny model. A folder with a checkpoint is an ``os.PathLike``, or a text
            that is absolute or begins with ``.`` or ``~``. Any other text is the name of a model that was imported
            by ``pie model import NAME``, into ``$PIE_HOME/models`` or ``~/.pie/models``.
        port: the TCP port; 0, the default, takes a free one.
        host: the address to listen on; ``127.0.0.1`` by default. The server lets everybody in.
        engine: ``"cuda"``, ``"metal"``, ``"vulkan"`` or ``"wgpu"``. None, the default, takes what is there: for a
            model of yours CUDA, Metal or Vulkan if there is such a graphics card, else ``wgpu`` on the CPU; for
            the tiny model ``wgpu`` on the CPU (on the graphics card ``wgpu`` on macOS and ``vulkan`` on Windows).
        device: the engine's name for a device, such as ``"cuda:1"``; None, the default, is the first one.
        memory: how much memory ``wgpu`` may reserve for the model and its caches, such as ``"8GiB"``; by default
            ``"4GiB"``. The tiny model needs at least ``"3GiB"``, of which it uses a part.
        options: further options of the engine, such as ``{"max_total_pages": 1024}``, which take precedence. With
            the tiny model one step has up to 4 instances and 256 tokens, and the KV cache has 512 pages.
        cache_folder: where the tiny model, compiled programs and logs are kept. None, the default, is the system's
            place: ``$XDG_CACHE_HOME/pie-sync`` or ``~/.cache/pie-sync``, ``~/Library/Caches/pie-sync`` on macOS,
            ``%LOCALAPPDATA%\pie-sync\Cache`` on Windows.
        python: the interpreter that runs the server. It needs the packages of the extra ``engine``, but not
            pie-sync. None, the default, is this process's.
        timeout: how many seconds :meth:`start` may take until the model is loaded; 300 by default.

    Raises:
        ValueError: an option can't be used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        engine: str | None = None,
        device: str | None = None,
        memory: str | None = None,
        options: Mapping[str, Any] | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        python: str | os.PathLike[str] | None = None,
        timeout: float = 300.0,
    ) -> None:
        if not timeout > 0:
            raise PieValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
        chosen, on_cpu = choose_engine(Machine.here(), tiny=model is None)
        self._model = model
        self._engine = engine or chosen
        # Who names another engine, or a device, means a graphics card.
        self._on_cpu = on_cpu and self._engine == "wgpu" and device is None
        self._arguments: dict[str, Any] = {
            "host": host,
            "port": port,
            "engine": self._engine,
            "device": device,
            "memory": memory,
            "options": dict(options or {}),
        }
        configuration("", sku=None, **self._arguments)  # complains now rather than later
        self._given_cache = cache_folder
        self._python = os.fspath(python) if python is not None else sys.executable
        self._timeout = timeout
        self._owner = os.getpid()
        # Serialises start() and close(), and guards the four below.
        self._lock = threading.Lock()
        self._process: EngineProcess | None = None
        self._addresses: Addresses | None = None
        self._log: Path | None = None
        self._closed = False

    def start(self) -> None:
        """Start the server, and block until it answers: about 2 seconds for the tiny model, ``timeout`` at most.

        Does nothing if the server was started already.

        Raises:
            EngineUnavailableError: something is missing on this machine; the text says what is to be
                installed.
            EngineError: the server did not start; the text has the reason and the last lines of the log.
            OSError: the cache folder can't be written.
            RuntimeError: the server was closed. Make a new one.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("a closed server can't be started again")
            if self._addresses is not None:
                return
            environment = self._driver()
            cache = cache_path(self._given_cache)
            if self._model is None:
                model, sku = str(tiny_checkpoint(cache)), SKU
            else:
                model, sku = model_path(self._model) or os.fspath(self._model), None
                if os.path.isabs(model) and not os.path.isdir(model):
                    raise EngineError(f"there is no folder {model} with a checkpoint")
            settings = configuration(model, sku=sku, **self._arguments)
            pie_home = Path(os.environ.get("PIE_HOME") or Path.home() / ".pie")
            self._log = new_log(cache)
            process = EngineProcess(
                self._python, settings, environment, log=self._log, cache=cache, models=pie_home / "models"
            )
            try:
                self._addresses = process.wait_until_ready(self._timeout)
            except BaseException:
                process.end()
                raise
            self._process = process

    def close(self) -> None:
        """End the server and its process. Idempotent, and does nothing in a forked copy of this process.

        Blocks until the process has ended, for 15 seconds at most before it is killed.
        """
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.end()

    def __enter__(self) -> EngineServer:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        model = "the tiny model" if self._model is None else repr(os.fspath(self._model))
        where = "not started" if self._addresses is None else self._addresses.uri
        return f"<EngineServer of {model} on {self._engine}, {'closed' if self._closed else where}>"

    @property
    def uri(self) -> str:
        """The URI for clients, such as ``ws://127.0.0.1:40001``.

        Raises:
            RuntimeError: the server was not started.
        """
        return self._started().uri

    @property
    def http_uri(self) -> str:
        """The URI of the server's OpenAI-compatible routes: ``/v1/completions`` comes behind it.

        Raises:
            RuntimeError: the server was not started.
        """
        return self._started().http_uri

    @property
    def log(self) -> Path:
        """The file to which the server's output goes. It is kept; the cache folder has the last 20.

        Raises:
            RuntimeError: the server was not started.
        """
        if self._log is None:
            raise RuntimeError("the server was not started")
        return self._log

    @property
    def pid(self) -> int:
        """The id of the server's process.

        Raises:
            RuntimeError: the server was not started.
        """
        return self._running().pid

    @property
    def home(self) -> Path:
        """The folder in which the server keeps installed programs; removed when it is closed.

        Raises:
            RuntimeError: the server was not started.
        """
        return self._running().home

    @property
    def running(self) -> bool:
        """Whether the server's process is there. Never blocks."""
        process = self._process
        return process is not None and process.is_running()

    def _started(self) -> Addresses:
        if self._addresses is None:
            raise RuntimeError("the server was not started")
        return self._addresses

    def _running(self) -> EngineProcess:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    def _driver(self) -> dict[str, str]:
        """Return the variables that lead the engine to its driver.

        Raises:
            EngineUnavailableError: there is none.
        """
        if self._on_cpu:
            driver = str(software_driver())
            # The software driver even where a graphics card is present. Older loaders know the second name.
            return {"VK_DRIVER_FILES": driver, "VK_ICD_FILENAMES": driver}
        if self._engine == "vulkan" or (self._engine == "wgpu" and sys.platform.startswith("linux")):
            check_vulkan()
        return {}
