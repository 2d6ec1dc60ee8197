"""The programs of one session: uploads, and the names by which to launch them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from blake3 import blake3

from .._protocol import ProcessProtocol
from .._protocol.program_names import ProgramName, manifest_of, parse_name
from .._session.payloads import open_payload
from ..errors import PieConnectionError, RequestError, UploadError

if TYPE_CHECKING:
    from .._session.payloads import Payload
    from .._session.session import Session
    from .._session.uploads import Progress
    from .._support.time_limits import TimeLimit
    from .manifest import Manifest

__all__ = ["Programs"]

#: On record in place of a hash: the server has refused it, but keeps the name.
_REFUSED = "refused"

#: The smallest WebAssembly component there is: nothing but the header.
_EMPTY_COMPONENT = b"\0asm\x0d\x00\x01\x00"


class Programs:
    """Uploads programs, and knows the names of those that this client uploaded. Thread-safe.

    On the process protocol a program has a name, and the server does not tell which bytes are installed under
    one: ``check_program`` ignores the hashes, and ``add_program`` says yes and does nothing when a name is taken.
    So:

    - Every program is installed under a name made from its hash, under which nothing else can be.
    - A server keeps also what it could not compile, and then says that it has it. So that something was accepted
      is put on record on the server, in the only way there is to leave a note: by installing *markers*, empty
      programs whose names say it.
    - One with a manifest is installed under its own name as well. A marker named after ``name@version`` counts by
      its own version how often that was installed anew; one named after ``name@version`` and the hash, of the same
      version, says with which bytes. So any client can tell by three questions whether it is about to install the
      same bytes, which is free, or others, which is an error.

    What another kind of client installs leaves no marker: such a name counts as taken by other bytes.
    """

    def __init__(self, session: Session, predecessor: Programs | None = None) -> None:
        self._session = session
        # The hashes of what was uploaded under names of their own. Also on the connection before this one, if the
        # client has reconnected.
        self._hashes: dict[str, str] = {} if predecessor is None else predecessor._hashes

    def name_of(self, program_hash: str) -> ProgramName:
        """Return the name by which to launch a program, of which the hash is known."""
        if not isinstance(self._session.protocol, ProcessProtocol):
            # Servers of the variant by name know it by its own name only.
            for name, known in self._hashes.items():
                if known == program_hash:
                    return parse_name(name)
        return self._session.protocol.content_name(program_hash)

    def hash_of(self, name: str) -> str | None:
        """Return the hash of a program to launch by its name, where only this session knows it by that name.

        On the process protocol the server knows, and somebody else may have installed other bytes by now.
        """
        return None if isinstance(self._session.protocol, ProcessProtocol) else self._hashes.get(name)

    def upload(
        self, payload: Payload, manifest: Manifest | None, *, overwrite: bool, limit: TimeLimit, progress: Progress
    ) -> None:
        """Upload a program; see :meth:`PieClient.upload_program`."""
        try:
            self._upload(payload, manifest, overwrite=overwrite, limit=limit, progress=progress)
        except PieConnectionError as error:
            if self._session.error is None:  # raised by a callback or a signal handler
                raise
            raise PieConnectionError(
                f"{error}, during upload_program: a server also does this when it can't compile the program"
            ) from error

    def _upload(
        self, payload: Payload, manifest: Manifest | None, *, overwrite: bool, limit: TimeLimit, progress: Progress
    ) -> None:
        if not isinstance(self._session.protocol, ProcessProtocol):
            self._send(payload, None if manifest is None else manifest.text, limit, progress)
        elif manifest is None:
            self._install_by_hash(payload, None, limit, progress, overwrite=overwrite)
        else:
            # First what may be refused, so that a refusal has changed nothing.
            self._install_by_name(payload, manifest, limit, progress, overwrite=overwrite)
            by_hash = manifest.renamed(self._session.protocol.content_name(payload.hash))
            self._install_by_hash(payload, by_hash, limit, None, overwrite=False)
        if manifest is not None:
            self._hashes[str(manifest.program)] = payload.hash

    def _install_by_hash(
        self, payload: Payload, manifest: str | None, limit: TimeLimit, progress: Progress, *, overwrite: bool
    ) -> None:
        name = self._session.protocol.content_name(payload.hash)
        if not overwrite and self._is_installed(_marker(name, 1, payload.hash), limit):
            if progress is not None:
                progress(payload.size, payload.size)
            return
        # Overwriting, because a server also keeps what it could not compile. The bytes are the same in any case.
        self._send(payload, manifest, limit, progress, overwrite=True)
        self._leave(_marker(name, 1, payload.hash), limit)

    def _install_by_name(
        self, payload: Payload, manifest: Manifest, limit: TimeLimit, progress: Progress, *, overwrite: bool
    ) -> None:
        program = manifest.program
        generation = 0
        if self._is_installed(program, limit):
            generation = self._generation(program, limit)
            if generation and self._is_installed(_marker(program, generation, payload.hash), limit):
                if progress is not None:
                    progress(payload.size, payload.size)
                return
            if generation and self._is_installed(_marker(program, generation, _REFUSED), limit):
                overwrite = True
            if not overwrite:
                raise UploadError(
                    "upload_program",
                    f"the name {program} is taken by other bytes (or by bytes that something else than pie-sync"
                    " uploaded: the server can't compare them); overwrite=True replaces them, another version in"
                    " the manifest goes beside them",
                )
        try:
            self._send(payload, manifest.text, limit, progress, overwrite=overwrite)
            if not self._is_installed(program, limit):
                raise UploadError(
                    "upload_program",
                    f"the server took it, but can't find it by the name {program}:"
                    " use letters, digits, '-' and '_', and a version like 1.0.0",
                )
        except UploadError:
            self._put_on_record(program, generation + 1, _REFUSED, limit)
            raise
        self._put_on_record(program, generation + 1, payload.hash, limit)

    def _put_on_record(self, program: ProgramName, generation: int, content: str, limit: TimeLimit) -> None:
        # The count last: whoever sees it must find what it counts.
        self._leave(_marker(program, generation, content), limit)
        self._leave(_marker(program, generation), limit)

    def _leave(self, marker: ProgramName, limit: TimeLimit) -> None:
        with open_payload(_EMPTY_COMPONENT) as empty:
            self._send(empty, manifest_of(marker), limit, None)

    def _generation(self, program: ProgramName, limit: TimeLimit) -> int:
        """Return how often a name was installed by pie-sync, by asking for the markers that it left."""
        generation = 0
        while self._is_installed(_marker(program, generation + 1), limit):
            generation += 1
        return generation

    def _send(
        self,
        payload: Payload,
        manifest: str | None,
        limit: TimeLimit,
        progress: Progress,
        *,
        overwrite: bool = False,
    ) -> None:
        protocol = self._session.protocol
        options = {"overwrite": overwrite} if isinstance(protocol, ProcessProtocol) else {}

        def head(corr_id: int, index: int, total: int, size: int) -> bytes:
            return protocol.program_chunk(corr_id, payload.hash, index, total, size, manifest=manifest, **options)

        self._session.uploads.upload(
            "upload_program", payload, head, slot="program", limit=limit, progress=progress
        )

    def _is_installed(self, program: ProgramName, limit: TimeLimit) -> bool:
        encode = partial(self._session.protocol.named_program_exists, program=program)
        answer = self._session.call("upload_program", encode, limit, refused=UploadError)
        return bool(answer.text == "true")

    def exists(self, program_hash: str, limit: TimeLimit) -> bool:
        """Say whether the server has a program, by its hash.

        Raises:
            RequestError: the server can't tell.
        """
        protocol = self._session.protocol
        if isinstance(protocol, ProcessProtocol):
            marker = _marker(protocol.content_name(program_hash), 1, program_hash)
            questions = [partial(protocol.named_program_exists, program=marker)]
        else:
            # By hash, then by name: there are servers of both kinds (protocol: "Two variants").
            questions = [
                partial(protocol.program_exists, program_hash=program_hash),
                partial(protocol.named_program_exists, program=self.name_of(program_hash)),
            ]
        refusals = []
        for question in questions:
            try:
                if self._session.call("program_exists", question, limit).text == "true":
                    return True
            except RequestError as error:
                refusals.append(error)
        if len(refusals) == len(questions):
            raise refusals[0]
        return False


def _marker(program: ProgramName, generation: int, program_hash: str = "") -> ProgramName:
    digest = blake3(f"{program} {program_hash}".encode()).hexdigest()
    return ProgramName(f"pie-sync-note-{digest[:40]}", f"0.0.{generation}")
