"""What is unpacked of an artifact, and what each one that cannot be used is refused with."""

import gzip
import io
import os
import stat
import tarfile
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from workflow_result.engine import artifact
from workflow_result.engine.artifact import NotAllowed, Unfit, fetch, pack, unpack

CONTENT = b'output "x" { value = 1 }\n'
KINDS = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "device": tarfile.CHRTYPE,
    "disk": tarfile.BLKTYPE,
}

Member = tuple[str, str, str]
"""Its kind, its name, and where it leads."""


def packed(*members: Member, size: int = len(CONTENT), **pax_headers: str) -> bytes:
    """A tar.gz archive of these members; files have CONTENT."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", pax_headers=pax_headers) as tar:
        for kind, name, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = KINDS[kind], link, 0o6751
            if kind == "file":
                member.size = size
            tar.addfile(member, io.BytesIO(CONTENT.ljust(size)) if kind == "file" else None)
    return file.getvalue()


def unpacked(archive: bytes, folder: Path) -> Path:
    (folder / "a.tar.gz").write_bytes(archive)
    unpack(folder / "a.tar.gz", folder / "a", "The artifact")
    return folder / "a"


FILE = ("file", "main.tf", "")


def test_files_folders_and_links_are_there_and_nothing_has_odd_rights(tmp_path: Path) -> None:
    found = unpacked(
        packed(
            *(("folder", "./", ""), ("file", "./main.tf", ""), ("file", "b/c.tf", "")),
            *(("link", "b/d.tf", "../main.tf"), ("link", "e", "b"), ("hard link", "f", "b/c.tf")),
            *(("link", "later", "z"), ("file", "z", "")),
        ),
        tmp_path,
    )
    names = sorted(str(p.relative_to(found)) for p in found.rglob("*"))
    assert names == ["b", "b/c.tf", "b/d.tf", "e", "f", "later", "main.tf", "z"]
    for name in ("main.tf", "b/c.tf", "b/d.tf", "e/c.tf", "f", "later", "z"):
        assert (found / name).read_bytes() == CONTENT
        assert stat.S_IMODE((found / name).stat().st_mode) == 0o700
    assert os.readlink(found / "b" / "d.tf") == "../main.tf"


def test_last_one_of_a_name_counts(tmp_path: Path) -> None:
    members = (FILE, ("link", "a", "main.tf"), ("file", "a", ""), ("link", "b", "a"), FILE)
    found = unpacked(packed(*members, ("folder", "b", ""), ("hard link", "a", "a")), tmp_path)
    assert (found / "a").is_file()
    assert not (found / "a").is_symlink()
    assert (found / "b").is_dir()
    assert not (found / "b").is_symlink()


def test_what_a_run_has_left_in_it_is_left_out(tmp_path: Path) -> None:
    found = unpacked(
        packed(
            *(FILE, ("file", "terraform.tfstate", ""), ("file", "terraform.tfstate.backup", "")),
            *(("folder", "terraform.tfstate.d", ""), ("file", "terraform.tfstate.d/a/b", "")),
            *(("folder", ".terraform", ""), ("link", ".terraform/p", "/home/me/cache")),
            *(("link", "m/.terraform", "/x"), ("file", "m/.terraform/a", "")),
            *(("file", ".terraform.lock.hcl", ""), ("file", "m/terraform.tfstate", "")),
        ),
        tmp_path,
    )
    names = {str(p.relative_to(found)) for p in found.rglob("*")}
    assert names == {"main.tf", ".terraform.lock.hcl", "m", "m/terraform.tfstate"}


def sparse() -> bytes:
    """A file of 1 EiB, which is a hole."""
    headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "hole",
        "GNU.sparse.realsize": str(2**60),
        "GNU.sparse.size": str(2**60),
        "GNU.sparse.map": f"{2**60},0",
    }
    member = tarfile.TarInfo("hole")
    member.pax_headers = headers
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    return file.getvalue()


def headers_in_a_row(count: int) -> bytes:
    """Long names before long names, which tarfile reads one within the other."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1
    return gzip.compress((header.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * count)


LONG = "a" * 5000
DEEP = "a/" * 100 + "x"
OUTSIDE = "The artifact has a link that leads outside, or nowhere: a"

REFUSED = {
    "an absolute path": (packed(("file", "/etc/a", "")), "has a file that leads outside: /etc/a"),
    "a path up": (packed(("file", "a/../../b", "")), "has a file that leads outside: a/../../b"),
    "a folder up": (packed(("folder", "..", "")), "has a file that leads outside: .."),
    "a link out": (packed(("link", "a", "../b")), OUTSIDE),
    "an absolute link": (packed(("link", "a", "/etc/passwd")), OUTSIDE),
    "a link to nothing": (packed(("link", "a", "b")), OUTSIDE),
    "a link to itself": (packed(("link", "a", "a")), OUTSIDE),
    "links in a circle": (packed(("link", "a", "b"), ("link", "b", "a")), OUTSIDE),
    "a link through a file": (packed(FILE, ("link", "a", "main.tf/../main.tf")), OUTSIDE),
    "a link without a target": (
        packed(("link", "a", "")),
        "has a file that cannot be written: a: No such file or directory",
    ),
    "a hard link out": (packed(("hard link", "a", "../b")), OUTSIDE),
    "an absolute hard link": (packed(("hard link", "a", "/etc/passwd")), OUTSIDE),
    "a hard link to nothing": (packed(("hard link", "a", "b")), OUTSIDE),
    "a hard link to a folder": (packed(("folder", "b", ""), ("hard link", "a", "b")), OUTSIDE),
    "a hard link to a link": (
        packed(FILE, ("link", "b", "main.tf"), ("hard link", "a", "b")),
        OUTSIDE,
    ),
    "a hard link through a link": (
        packed(("link", "b", "/etc"), ("hard link", "a", "b/passwd")),
        OUTSIDE,
    ),
    "a file through a link": (
        packed(("link", "a", "/tmp"), ("file", "a/b", "")),  # noqa: S108
        "has a file behind a link: a/b",
    ),
    "a folder through a link": (
        packed(("link", "a", "."), ("folder", "a/b", "")),
        "has a file behind a link: a/b",
    ),
    "a file in a file": (
        packed(FILE, ("file", "main.tf/a", "")),
        "has a file in a file: main.tf/a",
    ),
    "a file for a folder": (
        packed(("folder", "a", ""), ("file", "a", "")),
        "has a file in the place of a folder: a",
    ),
    "a file for all": (packed(("file", ".", "")), "has a file in the place of a folder: ."),
    "a pipe": (packed(("pipe", "a", "")), "has something that is no file, folder or link: a"),
    "a device": (packed(("device", "a", "")), "has something that is no file, folder or link: a"),
    "a disk": (packed(("disk", "a", "")), "has something that is no file, folder or link: a"),
    "too many files": (packed(*[FILE] * 5), "has more than 4 files."),
    "too much": (packed(FILE, size=2**20 + 1), "unpacks to more than 1 MiB."),
    "too much in all": (
        packed(FILE, ("file", "b", ""), size=2**19 + 1),
        "unpacks to more than 1 MiB.",
    ),
    "too much that is left out": (
        packed(("file", ".terraform/a", ""), size=2**20 + 1),
        "unpacks to more than 1 MiB.",
    ),
    "zeros": (gzip.compress(bytes(2**20 + 1)), "unpacks to more than 1 MiB."),
    "a hole": (sparse(), "unpacks to more than 1 MiB."),
    "a large header": (
        packed(FILE, comment="x" * 2**18),
        "is no tar.gz archive: a header is too large",
    ),
    "headers without end": (
        headers_in_a_row(200),
        "is no tar.gz archive: a header is too large",
    ),
    "headers within headers": (
        headers_in_a_row(120),
        "is no tar.gz archive: empty header",
    ),
    "a long name": (
        packed(("file", LONG, "")),
        f"has a file whose name is too long: {LONG[:100]}…",
    ),
    "a deep folder": (
        packed(("file", DEEP, "")),
        f"has a file in too many folders: {DEEP[:100]}…",
    ),
    "a long part of a name": (
        packed(("file", "a" * 300, "")),
        f"has a file that cannot be written: {'a' * 300}: File name too long",
    ),
    "a zip file": (b"PK\x03\x04", "is no tar.gz archive: Not a gzipped file (b'PK')"),
    "nothing": (b"", "is no tar.gz archive: empty file"),
    "no tar": (gzip.compress(b"hello" * 300), "is no tar.gz archive: invalid header"),
    "half of it": (
        packed(FILE, size=9999)[:-30],
        "is no tar.gz archive: Compressed file ended before the end-of-stream marker was reached",
    ),
    "half a tar": (
        gzip.compress(gzip.decompress(packed(FILE, size=9999))[:2000]),
        "is no tar.gz archive: unexpected end of data",
    ),
}


def test_limits_themselves_are_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "MOST_MEMBERS", 2)
    deepest = "a/" * 99 + "x"
    found = unpacked(packed(FILE, ("file", deepest, "")), tmp_path)
    assert (found / deepest).is_file()


@pytest.mark.parametrize("what", REFUSED)
def test_unfit_archive_is_refused_for_a_reason(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "MOST_BYTES", 2**20)
    monkeypatch.setattr(artifact, "MOST_MEMBERS", 4)
    monkeypatch.setattr(artifact, "_MOST_HEADER", 2**17)
    archive, reason = REFUSED[what]
    with pytest.raises(Unfit) as refused:
        unpacked(archive, tmp_path)
    assert str(refused.value) == f"The artifact {reason.removeprefix('The artifact ')}"
    assert not (tmp_path / "b").exists()


def test_headers_that_tarfile_has_no_stack_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match=r"^The artifact is no tar\.gz archive: maximum recursion"):
        unpacked(headers_in_a_row(900), tmp_path)


def test_headers_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
        for number in range(200):
            member = tarfile.TarInfo(f"{number}")
            member.pax_headers = {"comment": "x" * 2**17}
            tar.addfile(member)
    tracemalloc.start()
    try:
        unpacked(file.getvalue(), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()


def test_checksum_counts(tmp_path: Path) -> None:
    archive = bytearray(packed(FILE))
    archive[-5] ^= 1
    with pytest.raises(Unfit, match=r"is no tar\.gz archive: CRC check failed"):
        unpacked(bytes(archive), tmp_path)


NAMES = st.sampled_from(
    ["a/b/c", *"abc/.", "a/b", "b/a", "./a", "a/", "..", "../a", "/a", "../out"]
)
MEMBERS = st.lists(st.tuples(st.sampled_from([*KINDS]), NAMES, NAMES), max_size=9)


def everything_stays_inside(archive: bytes) -> bool:
    """Unpack an archive, beside a file that nothing may change; return whether it was unpacked."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "out").write_text("as it was")
        try:
            found = unpacked(archive, place)
        except Unfit as error:
            assert str(error).startswith("The artifact ")
            return False
        finally:
            assert sorted(os.listdir(place)) == ["a", "a.tar.gz", "out"]
            assert (place / "out").read_text() == "as it was"
        for path in found.rglob("*"):
            real = path.resolve(strict=True)
            assert real == found or found in real.parents
            assert real.is_file() or real.is_dir()
            assert path.is_symlink() or not path.stat().st_mode & 0o7077 or path.is_dir()
        pack(found, place / "again.tar.gz")
        again = place / "again" / found.name  # a link may lead out of it, and in again by its name
        again.parent.mkdir()
        unpack(place / "again.tar.gz", again, "The artifact")
        assert tree(again) == tree(found)
        return True


def tree(folder: Path) -> dict[str, bytes | str | None]:
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@given(MEMBERS)
def test_no_member_gets_out(members: list[Member]) -> None:
    everything_stays_inside(packed(*members))


@given(
    MEMBERS.map(lambda members: gzip.decompress(packed(*members, comment="a"))),
    st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=12)), max_size=4),
)
def test_no_damage_gets_out_either(tar: bytes, damage: list[tuple[int, bytes]]) -> None:
    """Nor does any other exception: what is raised is always for a person."""
    changed = bytearray(tar)
    for where, what in damage:
        changed[where : where + len(what)] = what
    for start in range(0, len(changed) - 511, 512):  # headers that say that they are right
        block = changed[start : start + 512]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + sum(block[156:]) + 8 * 32
            changed[start + 148 : start + 156] = b"%06o\0 " % total
    everything_stays_inside(gzip.compress(bytes(changed), 1))


class S3:
    """A client that answers with this archive, or raises this error."""

    def __init__(self, answer: bytes | Exception, length: int | None = None) -> None:
        self.answer, self.length, self.asked = answer, length, ""

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        self.asked = f"{Bucket} {Key}"
        if isinstance(self.answer, Exception):
            raise self.answer
        return {
            "ContentLength": self.length or len(self.answer),
            "Body": io.BytesIO(self.answer),
        }


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("s3://bucket/key.tar.gz", "bucket key.tar.gz"),
        ("S3://bucket/some/folder/key", "bucket some/folder/key"),
        ("s3://bucket//two  spaces/%20+é?#\n", "bucket /two  spaces/%20+é?#\n"),
    ],
)
def test_artifact_is_fetched_from_its_bucket_and_key(path: str, asked: str, tmp_path: Path) -> None:
    s3 = S3(packed(FILE))
    fetch(s3, path, tmp_path / "artifact")
    assert s3.asked == asked
    assert os.listdir(tmp_path) == ["artifact"]
    assert os.listdir(tmp_path / "artifact") == ["main.tf"]


def refused(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "GetObject")


TOO_LARGE = S3(b"", 2**30 + 1)
HINT = (
    "The role has to allow s3:GetObject for it; Service Catalog tags what it keeps itself with "
    "servicecatalog:provisioning=true. Without s3:ListBucket, S3 says the same of a key that "
    "does not exist."
)


@pytest.mark.parametrize(
    ("s3", "kind", "reason"),
    [
        (
            S3(refused("AccessDenied", "Access Denied")),
            NotAllowed,
            f"could not be fetched with the launch role: AccessDenied: Access Denied. {HINT}",
        ),
        (
            S3(refused("NoSuchKey", "The specified key does not exist.")),
            Unfit,
            "could not be fetched with the launch role: NoSuchKey: "
            "The specified key does not exist.",
        ),
        (
            S3(EndpointConnectionError(endpoint_url="http://s3")),
            Unfit,
            "could not be fetched with the launch role: "
            'Could not connect to the endpoint URL: "http://s3"',
        ),
        (TOO_LARGE, Unfit, "is larger than 1,024 MiB."),
        (S3(packed()), Unfit, "has no Terraform configuration at its top."),
        (
            S3(packed(("file", "b/main.tf", ""), ("file", "a/in/x.tf.json", ""))),
            Unfit,
            "has no Terraform configuration at its top, but in ./a/in.",
        ),
        (
            S3(packed(("file", "._main.tf", ""), ("folder", "x.tf", ""), ("file", "a/b.tf", ""))),
            Unfit,
            "has no Terraform configuration at its top, but in ./a.",
        ),
    ],
)
def test_artifact_that_cannot_be_used(
    s3: S3, kind: type[Unfit], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(Unfit) as error:
        fetch(s3, "s3://b/k", tmp_path / "artifact")
    assert type(error.value) is kind
    assert str(error.value) == f"The artifact s3://b/k {reason}"


@pytest.mark.parametrize(
    "path", ["", "b/k", "s3://b", "s3://b/", "s3:///k", "https://b/k", "x s3://b/k"]
)
def test_path_that_is_none(path: str, tmp_path: Path) -> None:
    with pytest.raises(Unfit) as error:
        fetch(S3(b""), path, tmp_path / "artifact")
    assert str(error.value) == f"The path of the artifact is not s3://BUCKET/KEY: {path}"


def test_what_was_within_the_limits_is_unpacked_again_with_what_is_kept_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the product could be made, and never be ended."""
    monkeypatch.setattr(artifact, "MOST_MEMBERS", 2)
    monkeypatch.setattr(artifact, "MOST_BYTES", 10240)
    place = tmp_path / "product"
    place.mkdir()
    deepest = "a/" * 99 + "x"
    unpacked(packed(FILE, ("file", deepest, "")), place)
    (place / "parameters.json").write_text("[]")
    pack(place, tmp_path / "kept.tar.gz")
    unpack(tmp_path / "kept.tar.gz", tmp_path / "again", "It", is_own=True)
    assert tree(tmp_path / "again") == tree(place)


def test_pack_leaves_out_what_init_has_fetched(tmp_path: Path) -> None:
    for name in ("a/.terraform/b", "a/.terraform.lock.hcl", "a/c"):
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text(name)
    pack(tmp_path / "from", tmp_path / "a.tar.gz")
    unpack(tmp_path / "a.tar.gz", tmp_path / "to", "It")
    assert set(tree(tmp_path / "to")) == {"a", "a/.terraform.lock.hcl", "a/c"}
