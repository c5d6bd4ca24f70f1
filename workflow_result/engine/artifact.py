"""The artifact of a product: fetched with the launch role, and unpacked so that it does no harm."""

import gzip
import os
import re
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

MOST_BYTES = 2**30
"""What an archive may have, packed and unpacked: a mistake or a bomb is larger."""

MOST_MEMBERS = 100_000

_CHUNK = 2**20

_STATE_OF_ITS_OWN = re.compile(r"(\.terraform|terraform\.tfstate.*)")
"""What a run in the artifact's folder has left at its top: it is not this product's."""


class Unfit(Exception):
    """An artifact that cannot be used. Its text is for the person who ordered."""


class NotAllowed(Unfit):
    """An artifact that may not be read."""


def fetch(s3: Any, path: str, folder: Path) -> None:
    """Fetch the artifact at `path` and unpack it to `folder`, which is made.

    `s3` is a client of boto3's with the launch role's credentials; `path` is s3://BUCKET/KEY, and
    Service Catalog writes S3:// in capitals, too. Raises `Unfit`.
    """
    place = re.fullmatch(r"[sS]3://([^/]+)/(.+)", path, re.DOTALL)
    name = f"The artifact {path}"
    if not place:
        raise Unfit(f"The path of the artifact is not s3://BUCKET/KEY: {path}")
    archive = folder.with_suffix(".tar.gz")
    _download(s3, place[1], place[2], archive, name)
    unpack(archive, folder, name)
    archive.unlink()
    for found in os.listdir(folder):
        if _STATE_OF_ITS_OWN.fullmatch(found):
            _remove(folder / found)
    _check_configuration(folder, name)


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpack a tar.gz archive, told of as `name`, to `folder`, which is made.

    Raises `Unfit` where it is none, is too large, or has anything but files, folders and links that
    stay inside.
    """
    folder.mkdir()
    try:
        with gzip.open(archive) as stream:
            limited: Any = _Limited(stream, name)
            with tarfile.open(fileobj=limited, mode="r|") as tar:
                for number, member in enumerate(tar, 1):
                    if number > MOST_MEMBERS:
                        raise Unfit(f"{name} has more than {MOST_MEMBERS:,} files.")
                    _extract(tar, member, folder, name)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Unfit(f"{name} is no tar.gz archive: {error}") from error
    for link in _links(folder):
        if not link.resolve().is_relative_to(folder.resolve()) or not link.exists():
            where = link.relative_to(folder)
            raise Unfit(f"{name} has a link that leads outside, or nowhere: {where}")


def pack(folder: Path, archive: Path) -> None:
    """Make a tar.gz archive of what is in `folder`, without what `terraform init` has fetched."""

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if ".terraform" in PurePosixPath(member.name).parts else member

    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        tar.add(folder, ".", filter=wanted)


def _download(s3: Any, bucket: str, key: str, archive: Path, name: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
        if answer["ContentLength"] > MOST_BYTES:
            raise Unfit(f"{name} is larger than {MOST_BYTES >> 20:,} MiB.")
        with archive.open("wb") as file:
            shutil.copyfileobj(answer["Body"], file, _CHUNK)
    except ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message")
        cause = f"{name} could not be fetched with the launch role: {code}: {said}"
        if code in ("AccessDenied", "403"):
            raise NotAllowed(
                f"{cause}. The role has to allow s3:GetObject for it; Service Catalog tags what it "
                "keeps itself with servicecatalog:provisioning=true."
            ) from error
        raise Unfit(cause) from error
    except (BotoCoreError, OSError, ValueError) as error:
        raise Unfit(f"{name} could not be fetched with the launch role: {error}") from error


class _Limited:
    """What unpacks from `stream`, up to the limit."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, name: str) -> None:
        self._stream = stream
        self._name = name
        self._left = MOST_BYTES

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise Unfit(f"{self._name} unpacks to more than {MOST_BYTES >> 20:,} MiB.")
        return chunk


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str) -> None:
    """Extract one member. Nothing is written through a link, nor outside of `folder`."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise Unfit(f"{name} has a file that leads outside: {member.name}")
    target = folder.joinpath(*path.parts)
    for parent in reversed(target.relative_to(folder).parents[:-1]):
        if (folder / parent).is_symlink():
            raise Unfit(f"{name} has a file behind a link: {member.name}")
        if (folder / parent).is_file():
            raise Unfit(f"{name} has a file in a file: {member.name}")
    try:
        if member.isdir():
            if target.is_symlink() or target.is_file():
                target.unlink()
            target.mkdir(parents=True, exist_ok=True)
            return
        if target == folder or (target.is_dir() and not target.is_symlink()):
            raise Unfit(f"{name} has a file in the place of a folder: {member.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if member.isreg():
            content = tar.extractfile(member)
            assert content
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
            target.chmod(0o700 if member.mode & stat.S_IXUSR else 0o600)
        elif member.issym():
            target.symlink_to(member.linkname)
        elif member.islnk():
            _link(folder, target, member, name)
        else:
            raise Unfit(f"{name} has something that is no file, folder or link: {member.name}")
    except (OSError, ValueError) as error:  # a name that is too long, or no UTF-8
        reason = getattr(error, "strerror", None) or error
        raise Unfit(f"{name} has a file that cannot be written: {member.name}: {reason}") from error


def _link(folder: Path, target: Path, member: tarfile.TarInfo, name: str) -> None:
    """A hard link to a file that came before: a copy does as well."""
    source = PurePosixPath(member.linkname)
    origin = folder.joinpath(*source.parts)
    inside = not source.is_absolute() and ".." not in source.parts
    if not inside or origin.is_symlink() or not origin.is_file():
        raise Unfit(f"{name} has a link that leads outside, or nowhere: {member.name}")
    if not origin.resolve().is_relative_to(folder.resolve()):
        raise Unfit(f"{name} has a link that leads outside, or nowhere: {member.name}")
    shutil.copyfile(origin, target)


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        for found in (*folders, *files):
            if (path := Path(place, found)).is_symlink():
                yield path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _check_configuration(folder: Path, name: str) -> None:
    """Raise `Unfit` where the artifact's top has no configuration: it is packed with a folder
    around it, most of the time."""
    endings = (".tf", ".tf.json", ".tofu", ".tofu.json")
    if any(entry.name.endswith(endings) for entry in folder.iterdir()):
        return
    inner = sorted(
        place
        for place, _, files in os.walk(folder)
        if any(file.endswith(endings) for file in files)
    )
    but = f", but in ./{Path(inner[0]).relative_to(folder)}" if inner else ""
    raise Unfit(f"{name} has no Terraform configuration at its top{but}.")
