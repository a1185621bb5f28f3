"""Files: written to a temporary name and renamed, so a reader never sees half of one. No pickles.

A folder has one writer at a time (:func:`lock`), a killed run leaves at most temporary files, which the next one sweeps
up, and every tensor file names its format and carries a checksum of its content, so that a file of another format or
with a flipped bit is refused by name and never misread.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stability.base.errors import BadInput, CannotWrite, say
from stability.base.identity import differences, raw
from stability.version import __version__

# Of tensor files; files without one are those of format 1.
FORMAT = 1
LOCK, CHECKSUM = ".lock", "sha256"
Read = TypeVar("Read")
Stored = tuple[dict[str, Tensor], dict[str, str]]


def prepare_folder(path: Path) -> Path:
    """Make an output folder and prove that it can be written.

    Raises:
        BadInput: it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise BadInput(f"--out {str(path)!r} cannot be written ({error.strerror}); choose another folder") from error
    return path


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Be the only run that writes to a folder, and sweep up what a killed one left half written.

    The system drops the lock when its process ends, however it ends.

    Raises:
        BadInput: another run holds it.
    """
    path = folder / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(handle, 100).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise BadInput(
                f"--out {str(folder)!r}: another run (process {holder}) is writing there; wait for it, or choose "
                "another folder"
            ) from error
        # The holder before us may have removed the file between our opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                break
        os.close(handle)
    try:
        with contextlib.suppress(OSError):  # a full disk must not hide the message that says so
            os.truncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        _sweep(folder)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _temporary(name: str) -> str:
    return f".{name}.part-"


def _sweep(folder: Path) -> None:
    """Remove the temporary files of runs that were killed."""
    for place in (folder, folder / "state"):
        for file in place.glob(f"{_temporary('*')}*") if place.is_dir() else ():
            file.unlink(missing_ok=True)


def write(path: Path, content: bytes | str) -> Path:
    """Atomic write: the old file or the new one, never a mixture.

    Raises:
        CannotWrite: a full disk, a lost permission; the old file stays.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_temporary(path.name))
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CannotWrite(
                f"{str(path)!r} cannot be written ({error.strerror or error}; {len(data):,} bytes); earlier files stay "
                "as they were: make room or restore access, then go on with --resume"
            ) from error
        raise
    return path


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 of names, dtypes, shapes, values and metadata, in an order of its own."""
    found = hashlib.sha256(json.dumps({k: v for k, v in metadata.items() if k != CHECKSUM}, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(raw(tensor))
    return found.hexdigest()


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """safetensors with string metadata and a checksum, atomically."""
    pairs = [k for k, v in tensors.items() if v.is_complex()]  # safetensors knows no complex128
    content = {k: torch.view_as_real(v.resolve_conj()) if v.is_complex() else v for k, v in tensors.items()}
    content = {k: v.detach().cpu().contiguous() for k, v in content.items()}
    told = {**metadata, "format_version": str(FORMAT)} | ({"complex": json.dumps(pairs)} if pairs else {})
    return write(path, save(content, {**told, CHECKSUM: checksum(content, told)}))


def read_tensors(path: Path, option: str = "--at", metadata_only: bool = False) -> Stored:
    """The tensors and metadata of a safetensors file; those of other programs have no checksum to be held to.

    Raises:
        BadInput: a missing, empty or corrupt file, one of another format, or one that is not what was written.
    """
    if not path.is_file():
        raise BadInput(f"{option}: there is no file {str(path)!r}; check the path")
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
            names = [] if metadata_only else stream.keys()
            tensors = {k: stream.get_tensor(k) for k in names}
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError, TypeError) as error:
        mend = "remove it: what it held is computed anew" if option == "--resume" else "write it anew"
        raise BadInput(f"{option}: {str(path)!r} is no readable safetensors file ({error}); {mend}") from error
    if not metadata_only and CHECKSUM in metadata and metadata[CHECKSUM] != checksum(tensors, metadata):
        mend = (
            "remove it: what it held is computed anew"
            if option == "--resume"
            else "take a sound copy, or write it anew"
        )
        raise BadInput(f"{option}: {str(path)!r} is damaged: its content does not match its checksum; {mend}")
    if (version := metadata.get("format_version", "1")) != str(FORMAT):
        raise BadInput(
            f"{option}: {str(path)!r} is of format {version}, this version reads format {FORMAT}; open it with the "
            "version of stability that wrote it"
        )
    try:
        for name in json.loads(metadata.get("complex", "[]")):
            if name in tensors:
                tensors[name] = torch.view_as_complex(tensors[name])
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadInput(
            f"{option}: {str(path)!r} names no complex tensors that it holds ({error}); write it anew"
        ) from error
    return tensors, metadata


class Checkpoint:
    """Intermediate tensors of a run under DIR/state, tied to the options, the problem and the point they belong to.

    What belongs to another run is refused; a file that is damaged is named on stderr and counts as not there, so that
    what it held is computed again.

    Args:
        folder: DIR/state; None keeps nothing.
        key: options of the run; stored files of other options are refused.
        resume: read what is there, instead of starting over.
    """

    def __init__(self, folder: Path | None, key: dict[str, object], resume: bool) -> None:
        self.folder, self.resume = folder, resume
        self.key = json.dumps({**key, "stability": __version__}, sort_keys=True, default=str)
        self.problem: dict[str, object] | None = None
        self.point = ""
        if folder is None:
            return
        if resume and not folder.is_dir():
            raise BadInput(f"--resume: nothing to resume in {str(folder.parent)!r}; leave the option out")
        if resume:
            for path, metadata in self._stored(folder):
                if metadata.get("key") != self.key and self._sound(path):
                    self._check(path, metadata)
        else:
            self.clear()  # what an earlier run left here belongs to that run
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            why = f"{str(folder)!r} cannot be made ({error.strerror}); make room, or choose another --out"
            raise CannotWrite(why) from error

    def _stored(self, folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
        """Every file with its metadata; damaged ones are said and removed."""
        for path in sorted(folder.glob("*.safetensors")):
            try:
                yield path, read_tensors(path, "--resume", metadata_only=True)[1]
            except BadInput as error:
                self._lost(path, str(error))

    def _sound(self, path: Path) -> bool:
        """Whether a file is what was written, before its metadata are believed; one that is not is lost."""
        try:
            read_tensors(path, "--resume")
        except BadInput as error:
            self._lost(path, str(error))
            return False
        return True

    def _lost(self, path: Path, why: str) -> None:
        say(f"{why.removeprefix('--resume: ').partition('; ')[0]}; what it held is computed again")
        path.unlink(missing_ok=True)

    def belongs_to(self, problem: dict[str, object]) -> None:
        """Tie what is kept to a problem, see :func:`stability.problem.identity.identity`.

        Raises:
            BadInput: what is to be resumed belongs to another one; the message says what changed.
        """
        # Through JSON, as it comes back: tuples are lists there.
        self.problem, self.point = json.loads(json.dumps(problem)), ""
        if self.folder is None or not self.resume:
            return
        for path, metadata in self._stored(self.folder):
            try:
                stored = json.loads(metadata.get("problem", "null"))
                changed = differences(stored, self.problem) if stored is not None else ["it names no problem"]
            except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
                self._lost(path, f"{str(path)!r} is damaged: its metadata cannot be read ({type(error).__name__})")
                continue
            if changed and self._sound(path):
                more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
                raise BadInput(
                    f"--resume: {str(path)!r} belongs to another problem: {changed[0]}{more}; restore what it was "
                    "computed with, or start over without --resume"
                )

    def at(self, point: str) -> None:
        """Tie what is kept from here on to a point, named by a digest of it."""
        self.point = point

    @overload
    def load(self, name: str, read: None = None) -> Stored | None: ...

    @overload
    def load(self, name: str, read: Callable[[dict[str, Tensor], dict[str, str]], Read]) -> Read | None: ...

    def load(
        self, name: str, read: Callable[[dict[str, Tensor], dict[str, str]], Read] | None = None
    ) -> Read | Stored | None:
        """What was saved under a name; None when nothing was, this run starts over, or the file is damaged.

        Args:
            name: given to ``save``.
            read: makes of tensors and metadata what is wanted; whatever it raises says that they are not that.

        Raises:
            BadInput: files of a run with other options or of another version.
        """
        path = self.folder / f"{name}.safetensors" if self.folder else None
        if path is None or not self.resume or not path.is_file():
            return None
        try:
            tensors, metadata = read_tensors(path, "--resume")
        except BadInput as error:
            self._lost(path, str(error))
            return None
        self._check(path, metadata)
        if CHECKSUM not in metadata:
            self._lost(path, f"{str(path)!r} carries no checksum")
        elif metadata.get("point", "") != self.point:
            self._lost(path, f"{str(path)!r} belongs to another point")
        else:
            try:
                return read(tensors, metadata) if read else (tensors, metadata)
            except (BadInput, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
                reason = str(error) if isinstance(error, BadInput) else repr(error)
                self._lost(path, f"{str(path)!r} is damaged: {reason}")
        return None

    def _check(self, path: Path, metadata: dict[str, str]) -> None:
        if metadata.get("key") != self.key:
            raise BadInput(f"--resume: {str(path)!r} {self._differs(metadata.get('key'))}")

    def _differs(self, stored: str | None) -> str:
        """Why a stored key is not this run's."""
        mend = "use the same options, or another --out"
        try:
            theirs, ours = json.loads(stored or ""), json.loads(self.key)
            names = [k for k in sorted({*theirs, *ours}) if theirs.get(k) != ours.get(k)]
        except (ValueError, TypeError, AttributeError):
            return f"names no run; {mend}"
        if names == ["stability"]:
            wrote = theirs.get("stability", "before 0.1.0 or unnamed")
            return f"was written by version {wrote}, this is {__version__}; start over without --resume"
        shown = ", ".join(f"{k} {theirs.get(k)!r}" for k in names if k != "stability")
        return f"belongs to a run with other options ({shown}); {mend}"

    def save(self, name: str, tensors: dict[str, Tensor], **metadata: str) -> None:
        """Keep tensors for a later ``load``."""
        if self.folder is not None:
            told = {"key": self.key, "point": self.point, **metadata}
            if self.problem is not None:
                told["problem"] = json.dumps(self.problem)
            write_tensors(self.folder / f"{name}.safetensors", tensors, told)

    def forget(self, name: str) -> None:
        """Remove one file of the state."""
        if self.folder is not None:
            (self.folder / f"{name}.safetensors").unlink(missing_ok=True)

    def leave_no_trace(self) -> None:
        """Remove the folder of a state that holds nothing."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def clear(self) -> None:
        """Remove the state of a finished run."""
        if self.folder is not None and self.folder.is_dir():
            for file in [*self.folder.glob("*.safetensors"), *self.folder.glob(f"{_temporary('*')}*")]:
                file.unlink(missing_ok=True)
            self.leave_no_trace()  # a file that is not ours stays, and so does the folder


def only(tensor: Tensor, shape: tuple[int, ...], like: Tensor, what: str) -> Tensor:
    """A tensor that was read, once its shape, dtype and numbers are what was kept.

    Raises:
        BadInput: they are not.
    """
    if tuple(tensor.shape) != shape or tensor.dtype != like.dtype:
        raise BadInput(f"{what} is {tensor.dtype} of shape {tuple(tensor.shape)}, not {like.dtype} of shape {shape}")
    if not torch.isfinite(tensor).all():
        raise BadInput(f"{what} holds {int((~torch.isfinite(tensor)).sum())} values that are not finite")
    return tensor.to(like.device)
