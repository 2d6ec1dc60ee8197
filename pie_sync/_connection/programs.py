"""The programs of one session: uploads, and the names by which to launch them."""

from __future__ import annotations

from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from .._protocol import InstanceProtocol, ProcessProtocol
from .._protocol.components import MalformedComponentError, find_run_export, is_component
from .._protocol.program_names import ProgramName, is_content_name, manifest_of, parse_name
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

#: After how many seconds the server is asked again whether somebody has uploaded a program under a name. To ask at
#: each launch of a program of the registry would take too long.
_ASK_AGAIN = 10.0


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
        # Under which name a program was found or installed, by its hash.
        self._found: dict[str, ProgramName] = {}
        # On the instance protocol: until when the server need not be asked again for an upload under a name.
        self._named: dict[ProgramName, float] = {}

    def name_of(self, program_hash: str, method: str, limit: TimeLimit) -> ProgramName:
        """Return the name by which to launch a program, of which the hash is known.

        Asks the server if this session has not found the program before. (A launch of what is missing would do as
        well, but servers from 0.2.0 to 0.4 then ask a registry over HTTP, with the hash in the address.)

        Raises:
            LaunchError: the server doesn't have it.
        """
        name = self._found.get(program_hash)
        if name is None:
            if isinstance(self._session.protocol, ProcessProtocol):
                name = self._find(program_hash, method, limit)
            elif self._may_exist(program_hash, limit, method):
                name = self._name_on_instance_protocol(program_hash)
        if name is None:
            raise LaunchError(method, f"program {program_hash} is not installed")
        return name

    def _name_on_instance_protocol(self, program_hash: str) -> ProgramName:
        # Servers of the variant by name know it by its own name only.
        for own_name, known in self._hashes.copy().items():  # a copy, since other threads upload
            if known == program_hash:
                return parse_name(own_name)
        return InstanceProtocol().content_name(program_hash)

    def _may_exist(self, program_hash: str, limit: TimeLimit, method: str) -> bool:
        try:
            return self._exists(program_hash, limit, method)
        except RequestError:  # it can't tell
            return True

    def upload_named(self, name: str, method: str, limit: TimeLimit) -> tuple[str, ProgramName] | None:
        """Return what launches an upload that has a name of its own: its hash, or "" if unknown, and its name.

        Returns:
            None for all other names: the server is to find the program.

        Raises:
            LaunchError: pie-sync alone makes such names, so no registry has it, and the server doesn't either.
        """
        program_hash = self.hash_of(name)
        if program_hash is not None:
            return program_hash, self.name_of(program_hash, method, limit)
        program = parse_name(name)
        if program.version is None:
            return None
        is_content_addressed = is_content_name(program) and not self._session.endpoint.is_gateway
        if is_content_addressed and not self.is_installed(program, method, limit):
            raise LaunchError(method, f"program {name} is not installed")
        if isinstance(self._session.protocol, ProcessProtocol):
            return None  # a launch is the same request for all
        return ("", program) if is_content_addressed or self._is_uploaded(program, method, limit) else None

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

    def _is_uploaded(self, program: ProgramName, method: str, limit: TimeLimit) -> bool:
        """Ask a server of the instance protocol whether somebody has uploaded a program under its own name.

        Servers of the variant by name launch that like other uploads, and don't find it as a program of the
        registry. The other variant has no such names, and says so.
        """
        until = self._named.get(program)
        if until is None or until < monotonic():
            try:
                is_uploaded = self.is_installed(program, method, limit)
            except RequestError:  # it can't tell
                is_uploaded = False
            self._named[program] = until = inf if is_uploaded else monotonic() + _ASK_AGAIN
        return until == inf

    # --- uploads ------------------------------------------------------------------------------------------

    def upload(
        self, payload: Payload, manifest: Manifest | None, *, overwrite: bool, limit: TimeLimit, progress: Progress
    ) -> None:
        """Upload a program; see :meth:`PieClient.upload_program`."""
        try:
            if not isinstance(self._session.protocol, ProcessProtocol):
                check_is_wasm(payload)  # these servers may hang up for it
                self.send(payload, None if manifest is None else manifest.text, limit, progress)
                self._found[payload.hash] = (
                    self._session.protocol.content_name(payload.hash) if manifest is None else manifest.program
                )
            elif manifest is None:
                # Servers since 0.4 keep what they can't compile, and take it for installed from then on.
                check_is_wasm(payload)
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
        return self._exists(program_hash, limit, "program_exists")

    def _exists(self, program_hash: str, limit: TimeLimit, method: str) -> bool:
        """Ask a server of the instance protocol."""
        protocol = self._session.protocol
        assert isinstance(protocol, InstanceProtocol)
        # By hash, then by name: there are servers of both kinds (protocol: "Two variants").
        questions = [
            partial(protocol.program_exists, program_hash=program_hash),
            partial(protocol.named_program_exists, program=self._name_on_instance_protocol(program_hash)),
        ]
        refusals = []
        for question in questions:
            try:
                if self._session.call(method, question, limit).text == "true":
                    self._found[program_hash] = self._name_on_instance_protocol(program_hash)
                    return True
            except RequestError as error:
                refusals.append(error)
        if len(refusals) == len(questions):
            raise refusals[0]
        self._found.pop(program_hash, None)
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
