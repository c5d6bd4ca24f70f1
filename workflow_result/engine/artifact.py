"""The artifact of a product: fetched with the launch role, and unpacked so that it does no harm."""

import gzip
import itertools
import os
import re
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

MOST_BYTES = 2**30
"""What an archive may have, packed and unpacked: a mistake or a bomb is larger."""

MOST_MEMBERS = 100_000

_CONFIGURATION = re.compile(r"[^.].*\.(tf|tofu)(\.json)?", re.DOTALL)
"""Names of files of configuration. Hidden ones are none, such as ._main.tf of macOS's tar."""

_MOST_HEADER = 2**20
"""Bytes before a member: its name, and what else is said of it."""

_MOST_NAME = 4096
"""Characters of a path: Linux takes no more (PATH_MAX)."""

_MOST_PARTS = 100
"""Parts of a path: Python walks folders, and removes them, with a call and an open file a part."""

_CHUNK = 2**20

_OF_ANOTHER_RUN = re.compile(r"(.*/)?\.terraform(/.*)?|terraform\.tfstate[^/]*(/.*)?", re.DOTALL)
"""What a run in the artifact's folder has left: it is not this product's. Providers in it are often
links to a cache on the author's machine."""


class Unfit(Exception):
    """An artifact that cannot be used. Its text is for the person who ordered."""


class NotAllowed(Unfit):
    """An artifact that may not be read."""


def fetch(s3: Any, path: str, folder: Path, reader: str = "the launch role") -> None:
    """Fetch the artifact at `path` and unpack it to `folder`, which is made.

    `s3` is a client of boto3's with the credentials of `reader`; `path` is s3://BUCKET/KEY, and
    Service Catalog writes S3:// in capitals, too. Raises `Unfit`.
    """
    place = re.fullmatch(r"[sS]3://([^/]+)/(.+)", path, re.DOTALL)
    name = f"The artifact {path}"
    if not place:
        raise Unfit(f"The path of the artifact is not s3://BUCKET/KEY: {path}")
    archive = folder.with_suffix(".tar.gz")
    _download(s3, place[1], place[2], archive, name, reader)
    unpack(archive, folder, name)
    archive.unlink()
    _check_configuration(folder, name)


def unpack(archive: Path, folder: Path, name: str, *, is_own: bool = False) -> None:
    """Unpack a tar.gz archive, told of as `name`, to `folder`, which is made.

    One that `is_own`, by `pack`, has no limits: it holds what was within them, and something more.
    What a run of Terraform in it has left (.terraform, terraform.tfstate*) is left out. Raises
    `Unfit` where it is no archive, is too large, or has anything but files, folders and links that
    stay inside.
    """
    folder.mkdir()
    with gzip.open(archive) as stream:
        unpacking: Any = _Unpacking(stream, folder, name, is_own)
        with unpacking.reading():
            tar: Any = tarfile.open(fileobj=unpacking, mode="r|")  # noqa: SIM115 - it holds nothing
        for number in itertools.count(1):
            with unpacking.reading():
                member = tar.next()
            if member is None:
                break
            if number > MOST_MEMBERS and not is_own:
                raise Unfit(f"{name} has more than {MOST_MEMBERS:,} files.")
            tar.members.clear()  # what headers have would pile up in memory
            unpacking.extract(tar, member)
        with unpacking.reading(unpacking.most_bytes):  # to its end, where its checksum is
            while unpacking.read(_CHUNK):
                pass
    for link in _links(folder):
        if not (link.exists() and _is_within(link, folder)):
            raise _leads_outside(name, str(link.relative_to(folder)))


def pack(folder: Path, archive: Path) -> None:
    """Make a tar.gz archive of what is in `folder`, without what `terraform init` has fetched."""

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if ".terraform" in PurePosixPath(member.name).parts else member

    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        tar.add(folder, ".", filter=wanted)


def _download(s3: Any, bucket: str, key: str, archive: Path, name: str, reader: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
        if answer["ContentLength"] > MOST_BYTES:
            raise Unfit(f"{name} is larger than {MOST_BYTES >> 20:,} MiB.")
        with archive.open("wb") as file:
            shutil.copyfileobj(answer["Body"], file, _CHUNK)
    except ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message")
        cause = f"{name} could not be fetched with {reader}: {code}: {said}"
        if code in ("AccessDenied", "403"):
            raise NotAllowed(
                f"{cause}. The role has to allow s3:GetObject for it; Service Catalog tags what it "
                "keeps itself with servicecatalog:provisioning=true. Without s3:ListBucket, S3 "
                "says the same of a key that does not exist."
            ) from error
        raise Unfit(cause) from error
    except (BotoCoreError, OSError, ValueError) as error:
        raise Unfit(f"{name} could not be fetched with {reader}: {error}") from error


class _Unpacking:
    """An archive that is unpacked: what tarfile reads, and where it is written, within limits."""

    def __init__(
        self, stream: BinaryIO | gzip.GzipFile, folder: Path, name: str, is_own: bool
    ) -> None:
        self._stream = stream
        self._folder = folder
        self._name = name
        self._folders: set[PurePosixPath] = set()  # they stay: nothing takes a folder's place
        self.most_bytes = sys.maxsize if is_own else MOST_BYTES
        self._most_parts = sys.maxsize if is_own else _MOST_PARTS
        self._left = self._in_header = self.most_bytes
        self._to_write = self.most_bytes  # apart: the holes of a sparse file are in no archive

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, as tarfile wants it."""
        chunk = self._stream.read(size)
        self._left -= len(chunk)
        self._in_header -= len(chunk)
        if self._left < 0:
            raise self._too_large()
        if self._in_header < 0:
            raise Unfit(f"{self._name} is no tar.gz archive: a header is too large")
        return chunk

    @contextmanager
    def reading(self, most: int | None = None) -> Iterator[None]:
        """Raise `Unfit` where the archive is at fault, or where more than `most` bytes are read:
        those of a header, which tarfile reads into memory whole."""
        self._in_header = _MOST_HEADER if most is None else most
        try:
            yield
        except Unfit:
            raise
        # A hostile header makes tarfile raise ValueError, OverflowError, RecursionError and others.
        except Exception as error:
            raise Unfit(f"{self._name} is no tar.gz archive: {error}") from error

    def extract(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Extract one member. Nothing is written through a link, nor outside of the folder."""
        name, folder = self._name, self._folder
        if len(member.name) > _MOST_NAME:
            raise Unfit(f"{name} has a file whose name is too long: {member.name[:100]}…")
        path = PurePosixPath(member.name)
        if len(path.parts) > self._most_parts:
            raise Unfit(f"{name} has a file in too many folders: {member.name[:100]}…")
        if path.is_absolute() or ".." in path.parts or "\0" in member.name:
            raise Unfit(f"{name} has a file that leads outside: {member.name}")
        target = folder.joinpath(*path.parts)
        if _OF_ANOTHER_RUN.fullmatch(path.as_posix()):
            if member.isreg():
                with open(os.devnull, "wb") as nowhere:
                    self._copy(tar, member, nowhere)
            return
        try:
            if path.parent not in self._folders:
                self._make(path.parent, member)
            if member.isdir():
                if target.is_symlink() or target.is_file():
                    target.unlink()
                target.mkdir(exist_ok=True)
                return
            if target == folder or (target.is_dir() and not target.is_symlink()):
                raise Unfit(f"{name} has a file in the place of a folder: {member.name}")
            if member.isreg():
                target.unlink(missing_ok=True)
                with target.open("wb") as file:
                    self._copy(tar, member, file)
                target.chmod(0o700 if member.mode & stat.S_IXUSR else 0o600)
            elif member.issym():
                target.unlink(missing_ok=True)
                target.symlink_to(member.linkname)
            elif member.islnk():
                self._link(target, member)
            else:
                raise Unfit(f"{name} has something that is no file, folder or link: {member.name}")
        except (OSError, ValueError) as error:  # a name that is too long, or no UTF-8
            reason = getattr(error, "strerror", None) or error
            raise Unfit(
                f"{name} has a file that cannot be written: {member.name}: {reason}"
            ) from error

    def _make(self, parent: PurePosixPath, member: tarfile.TarInfo) -> None:
        """Make the folder that a member is in."""
        for above in (*reversed(parent.parents[:-1]), parent):
            place = self._folder / above
            if above.parts and place.is_symlink():
                raise Unfit(f"{self._name} has a file behind a link: {member.name}")
            if place.is_file():
                raise Unfit(f"{self._name} has a file in a file: {member.name}")
            place.mkdir(exist_ok=True)
        self._folders.add(parent)

    def _copy(self, tar: tarfile.TarFile, member: tarfile.TarInfo, file: BinaryIO) -> None:
        self._to_write -= max(member.size, 0)
        if self._to_write < 0:
            raise self._too_large()
        content = tar.extractfile(member)
        assert content
        while True:
            with self.reading(self.most_bytes):
                chunk = content.read(_CHUNK)
            if not chunk:
                return
            file.write(chunk)

    def _link(self, target: Path, member: tarfile.TarInfo) -> None:
        """Make a hard link to a file that came before."""
        origin = self._folder / member.linkname
        is_file = origin.is_file() and not origin.is_symlink()
        if not (is_file and _is_within(origin, self._folder)):
            raise _leads_outside(self._name, member.name)
        if origin != target:
            target.unlink(missing_ok=True)
            os.link(origin, target)

    def _too_large(self) -> Unfit:
        return Unfit(f"{self._name} unpacks to more than {MOST_BYTES >> 20:,} MiB.")


def _leads_outside(name: str, member: str) -> Unfit:
    return Unfit(f"{name} has a link that leads outside, or nowhere: {member}")


def _is_within(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        for found in sorted((*folders, *files)):
            if (path := Path(place, found)).is_symlink():
                yield path


def _check_configuration(folder: Path, name: str) -> None:
    """Raise `Unfit` where the artifact's top has no configuration: it is packed with a folder
    around it, most of the time."""
    found = [
        place
        for place, _, files in os.walk(folder)
        if any(_CONFIGURATION.fullmatch(file) for file in files)
    ]
    if str(folder) in found:
        return
    but = f", but in ./{Path(min(found)).relative_to(folder)}" if found else ""
    raise Unfit(f"{name} has no Terraform configuration at its top{but}.")
