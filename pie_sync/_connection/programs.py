"""The programs of one session: uploads, and the names by which to launch them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._protocol import ProcessProtocol
from .._protocol.components import MalformedComponentError, find_run_export, is_component
from .._protocol.program_names import ProgramName, manifest_of, parse_name
from .._session.payloads import check_is_wasm, open_payload
from ..errors import LaunchError, PieConnectionError, RequestError, UploadError

if TYPE_CHECKING:
    from .._protocol.components import RunExport
    from .._session.payloads import Payload
    from .._session.session import Session
    from .._session.uploads import Progress
    from .._support.time_limits import TimeLimit
    from .manifest import Manifest

__all__ = ["Programs"]

#: NAME in the run export of components for Pie 0.5, where all have the same and it has a version.
_NAME_FOR_ALL = "inferlet"


class Programs:
    """Uploads programs, and knows the names of those that this client uploaded. Thread-safe.

    On the process protocol a program has a name and a version, and the server does not tell which bytes are
    installed under them: ``check_program`` ignores the hashes, and ``add_program`` says yes and does nothing when
    a name is taken. So every program is installed under a *content-addressed* version, three integers that have
    all bits of its hash:

    - One without a manifest as ``pie-sync@A.B.C``, and nowhere else.
    - One with a manifest as ``pie-sync-named@A.B.C``, and then under its own ``name@version``. If its own name is
      taken, the content-addressed twin tells whether by these bytes: it is there only if they were uploaded with a
      manifest before.

    The name is fixed, not the manifest's, for two reasons: a client that was told only the hash must find the
    program; and a bare ``name`` means its highest version, which a content-addressed one would nearly always be.
    There are two such names, so that a trial without a manifest doesn't make a taken name look like one's own. A
    hash launches the twin first, since a script needs its manifest.

    Servers up to 0.4 run a component only under the name that its run export tells. So what is installed there
    under a content-addressed version has another run export than what the user gave; the rest of it is the same.
    The hash in the version is that of the user's bytes. (To install it as ``NAME@A.B.C``, with NAME from the run
    export, would spare the change, but a client that knows only the hash would not find it.)

    What a server could not compile it keeps, says that it has it, and refuses to launch it.
    """

    def __init__(self, session: Session, predecessor: Programs | None = None) -> None:
        self._session = session
        # The hashes of what was uploaded under names of their own. Also on the connection before this one, if the
        # client has reconnected.
        self._hashes: dict[str, str] = {} if predecessor is None else predecessor._hashes
        # On the process protocol: under which name a program was found or installed, by its hash.
        self._found: dict[str, ProgramName] = {}

    def name_of(self, program_hash: str, method: str, limit: TimeLimit) -> ProgramName:
        """Return the name by which to launch a program, of which the hash is known.

        Asks the server if this session has not found the program before. (A launch of what is missing would do as
        well, but servers up to 0.4 then ask a registry, with the hash in the request.)

        Raises:
            LaunchError: the server doesn't have it.
        """
        if isinstance(self._session.protocol, ProcessProtocol):
            name = self._found.get(program_hash) or self._find(program_hash, method, limit)
            if name is None:
                raise LaunchError(method, f"program {program_hash} is not installed")
            return name
        # Servers of the variant by name know it by its own name only.
        for own_name, known in self._hashes.copy().items():  # a copy, since other threads upload
            if known == program_hash:
                return parse_name(own_name)
        return self._session.protocol.content_name(program_hash)

    def hash_of(self, name: str) -> str | None:
        """Return the hash by which to launch a program that this client uploaded with a manifest; None for others.

        The instance protocol knows it by that name on this session only. On the process protocol somebody else may
        have replaced what has that name. (But not if two manifests have the same bytes: it is not known with which
        of them the server has them.)
        """
        program_hash = self._hashes.get(name)
        if isinstance(self._session.protocol, ProcessProtocol):
            return program_hash if list(self._hashes.values()).count(program_hash or "") == 1 else None
        return program_hash

    # --- uploads ------------------------------------------------------------------------------------------

    def upload(
        self, payload: Payload, manifest: Manifest | None, *, overwrite: bool, limit: TimeLimit, progress: Progress
    ) -> None:
        """Upload a program; see :meth:`PieClient.upload_program`."""
        try:
            if not isinstance(self._session.protocol, ProcessProtocol):
                check_is_wasm(payload)  # these servers may hang up for it
                self.send(payload, None if manifest is None else manifest.text, limit, progress)
            elif manifest is None:
                self._install_unnamed(payload, limit, progress, overwrite=overwrite)
            else:
                self._install_named(payload, manifest, limit, progress, overwrite=overwrite)
        except PieConnectionError as error:
            if self._session.error is None:  # raised by a callback or a signal handler
                raise
            raise PieConnectionError(
                f"{error}, during upload_program: a server also does this when it can't compile the program"
            ) from error
        if manifest is not None:
            self._hashes[str(manifest.program)] = payload.hash

    def _install_unnamed(self, payload: Payload, limit: TimeLimit, progress: Progress, *, overwrite: bool) -> None:
        name = ProcessProtocol.content_name(payload.hash)
        if overwrite or not self.is_installed(name, "upload_program", limit):
            self._install_content(payload, self._run_export(payload), name, manifest_of(name), limit, progress)
        elif progress is not None:
            progress(payload.size, payload.size)
        self._found.setdefault(payload.hash, name)

    def _install_named(
        self, payload: Payload, manifest: Manifest, limit: TimeLimit, progress: Progress, *, overwrite: bool
    ) -> None:
        program, name = manifest.program, ProcessProtocol.content_name(payload.hash, named=True)
        run_export = self._run_export(payload)
        if run_export is not None and run_export.name != program.name:
            raise UploadError(
                "upload_program",
                f"the component exports pie:{run_export.name}/run, but its manifest has the name {program.name!r}:"
                " servers up to Pie 0.4 run it only if the two names are the same",
            )
        renamed = manifest.renamed(name)
        if not self.is_installed(program, "upload_program", limit) or overwrite:
            # The twin first: if the upload is refused, or ends between the two, the name is not taken.
            self._install_content(payload, run_export, name, renamed, limit, progress)
            self.send(payload, manifest.text, limit, None, overwrite=overwrite)
        elif not self.is_installed(name, "upload_program", limit):
            raise UploadError(
                "upload_program",
                f"the name {program} is taken by other bytes (or by bytes that something else than pie-sync"
                " uploaded: the server can't compare them); overwrite=True replaces them, another version in"
                " the manifest goes beside them",
            )
        elif progress is not None:
            progress(payload.size, payload.size)
        self._found[payload.hash] = name

    def _install_content(
        self,
        payload: Payload,
        run_export: RunExport | None,
        name: ProgramName,
        manifest: str,
        limit: TimeLimit,
        progress: Progress,
    ) -> None:
        """Install a program under a content-addressed version, whatever is there: it can't be other bytes."""
        if run_export is None:
            self.send(payload, manifest, limit, progress, overwrite=True)
        else:
            with open_payload(run_export.renamed(_bytes_of(payload), name.name)) as renamed:
                self.send(renamed, manifest, limit, progress, overwrite=True)

    def _run_export(self, payload: Payload) -> RunExport | None:
        """Return the run export of a component if it has to fit the name that it is installed under."""
        if self._session.endpoint.is_gateway or not is_component(bytes(next(payload.chunks())[:8])):
            return None
        try:
            found = find_run_export(_bytes_of(payload))
        except MalformedComponentError:
            return None  # the server will say what is wrong with it
        # (That the server is no gateway is not certain: there may be another path that leads to one.)
        is_for_0_5 = found is not None and found.name == _NAME_FOR_ALL and found.version
        return None if is_for_0_5 else found

    def send(
        self,
        payload: Payload,
        manifest: str | None,
        limit: TimeLimit,
        progress: Progress,
        *,
        overwrite: bool = False,
    ) -> None:
        """Send a program under the name in its manifest, without a question."""
        protocol = self._session.protocol
        options = {"overwrite": overwrite} if isinstance(protocol, ProcessProtocol) else {}

        def head(corr_id: int, index: int, total: int, size: int) -> bytes:
            return protocol.program_chunk(corr_id, payload.hash, index, total, size, manifest=manifest, **options)

        self._session.uploads.upload(
            "upload_program", payload, head, slot="program", limit=limit, progress=progress
        )

    # --- questions ----------------------------------------------------------------------------------------

    def exists(self, program_hash: str, limit: TimeLimit) -> bool:
        """Say whether the server has a program, by its hash.

        Raises:
            RequestError: the server can't tell.
        """
        protocol = self._session.protocol
        if isinstance(protocol, ProcessProtocol):
            return self._find(program_hash, "program_exists", limit) is not None
        # By hash, then by name: there are servers of both kinds (protocol: "Two variants").
        questions = [
            partial(protocol.program_exists, program_hash=program_hash),
            partial(protocol.named_program_exists, program=self.name_of(program_hash, "program_exists", limit)),
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

    def name_exists(self, name: str, limit: TimeLimit) -> bool:
        """Say whether the server has a program, by its ``name@version``.

        Raises:
            RequestError: the server can't tell.
        """
        if not isinstance(self._session.protocol, ProcessProtocol):
            program_hash = self.hash_of(name)  # some of these servers know no names
            if program_hash is not None:
                return self.exists(program_hash, limit)
        return self.is_installed(parse_name(name), "program_exists", limit)

    def find_named(self, program_hash: str, method: str, limit: TimeLimit) -> bool:
        """Ask the server for the twin of a program with a manifest, by its hash; see the class."""
        name = ProcessProtocol.content_name(program_hash, named=True)
        is_there = self._found.get(program_hash) == name or self.is_installed(name, method, limit)
        if is_there:
            self._found[program_hash] = name
        return is_there

    def _find(self, program_hash: str, method: str, limit: TimeLimit) -> ProgramName | None:
        """Ask the server for a program by its hash; return its name."""
        known = self._found.pop(program_hash, None)
        names = [ProcessProtocol.content_name(program_hash, named=named) for named in (True, False)]
        for name in sorted(names, key=lambda name: name != known):  # the known one first
            if self.is_installed(name, method, limit):
                self._found[program_hash] = name
                return name
        return None

    def is_installed(self, program: ProgramName, method: str, limit: TimeLimit) -> bool:
        """Ask the server for a program by its name and version.

        Raises:
            RequestError, UploadError: the server can't tell.
        """
        encode = partial(self._session.protocol.named_program_exists, program=program)
        refused = UploadError if method == "upload_program" else RequestError
        answer = self._session.call(method, encode, limit, refused=refused)
        return bool(answer.text == "true")


def _bytes_of(payload: Payload) -> bytes:
    return b"".join(payload.chunks())
