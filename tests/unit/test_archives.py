"""Images inside archives: named, listed, read, and each that cannot be read is one failure."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from support.fakes import COLOURS, FakeEncoder
from zeroshot.errors import ImageError, UsageError
from zeroshot.features.cache import FeatureCache
from zeroshot.features.keys import FileState
from zeroshot.features.pipeline import Pipeline, encode_batches
from zeroshot.images.isolate import Isolation
from zeroshot.images.paths import check_inputs, find_entries, find_images
from zeroshot.images.sources import archives, image_names
from zeroshot.images.sources.address_secrets import check_address
from zeroshot.images.sources.byte_ranges import Stamp
from zeroshot.images.sources.image_names import container, scheme_of, split_member
from zeroshot.images.sources.open_image import open_file


def png(colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), COLOURS[colour]).save(stream, "PNG")
    return stream.getvalue()


def make_tar(path: Path, members: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, content in members:
            archive.writestr(name, content)
    return path


def read(name: str) -> bytes:
    with open_file(name) as file:
        return file.read()


def problem(name: str) -> str:
    with pytest.raises(ImageError) as caught, open_file(name) as file:
        file.read()
    return caught.value.message


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_members_are_listed_in_order_and_read(make: object, tmp_path: Path) -> None:
    """An archive gives its images in its own order; what is hidden or no image is left out, and counted where known."""
    members = [("b/2.png", png("red")), ("a/10.png", png("blue")), ("a.txt", b"x"), (".hidden/1.png", png())]
    members += [("__MACOSX/1.png", b"x"), ("clip.mov", b"x"), ("é/ü.PNG", png("green"))]
    archive = make(tmp_path / ("x.tar" if make is make_tar else "x.zip"), members)  # type: ignore[operator]
    skipped: Counter[str] = Counter()
    found = list(find_images([str(archive)], skipped))
    assert found == [f"{archive}::{name}" for name in ("b/2.png", "a/10.png", "é/ü.PNG")]
    assert [read(name) for name in found] == [png("red"), png("blue"), png("green")]
    assert skipped == {".mov": 1}
    assert problem(f"{archive}::nope.png") == "the archive has no such member"


def test_archives_in_folders_are_opened_when_that_is_asked_for(tmp_path: Path) -> None:
    """A folder's archives are left alone without --archives, and stand at their place in the order with it."""
    (tmp_path / "a.png").write_bytes(png())
    make_tar(tmp_path / "b.tar", [("m.png", png())])
    (tmp_path / "c.png").write_bytes(png())
    assert list(find_images([str(tmp_path)])) == [f"{tmp_path}/{name}" for name in ("a.png", "c.png")]
    found = [f"{tmp_path}/{name}" for name in ("a.png", "b.tar::m.png", "c.png")]
    assert list(find_images([str(tmp_path)], archives=True)) == found
    assert list(find_entries([str(tmp_path)], archives=True))[1] == f"{tmp_path}/b.tar"
    assert check_inputs([str(tmp_path / "b.tar"), f"{tmp_path}/b.tar::m.png", "s3://bucket/key"]) == []


PART = "part-00000-0123456789abcdef.parquet"


def test_the_parts_of_a_run_among_its_inputs_are_no_images(tmp_path: Path) -> None:
    """Only where the plan lies beside them: files of another origin with such names are archives."""
    for folder in ("run", "data"):
        (tmp_path / folder / "parts").mkdir(parents=True)
        (tmp_path / folder / "parts" / PART).write_bytes(b"x")
        (tmp_path / folder / "parts" / "part-00000.parquet").write_bytes(b"x")
        (tmp_path / folder / "parts" / "other.parquet").write_bytes(b"x")
    (tmp_path / "run" / "plan.json").write_text("{}")
    found = [name.removeprefix(f"{tmp_path}/") for name in find_entries([str(tmp_path)], archives=True)]
    others = ["other.parquet", "part-00000.parquet"]
    assert found == [f"data/parts/{name}" for name in (others[0], PART, others[1])] + [
        f"run/parts/{name}" for name in others
    ]


def test_a_name_that_stands_twice_is_no_image(tmp_path: Path) -> None:
    """Which of two members of one name is meant cannot be told: each is a failure, neither is taken for the other."""
    two = [("m.png", png("red")), ("m.png", png("blue")), ("n.png", png())]
    for archive in (make_tar(tmp_path / "x.tar", two), make_zip(tmp_path / "x.zip", two)):
        found = list(find_images([str(archive)]))
        assert found == [f"{archive}::m.png"] * 2 + [f"{archive}::n.png"]
        assert problem(found[0]).startswith("2 members of the archive have this name")
        assert read(found[2]) == png()


def test_links_lead_nowhere_but_to_a_member(tmp_path: Path) -> None:
    """A hard link is the member that it names; a symbolic one, or one that leads out, is a failure."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png("black"))
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = len(png())
        archive.addfile(info, io.BytesIO(png()))
        for name, kind, target in (
            ("hard.png", tarfile.LNKTYPE, "a.png"),
            ("lost.png", tarfile.LNKTYPE, str(secret)),
            ("soft.png", tarfile.SYMTYPE, str(secret)),
            ("self.png", tarfile.LNKTYPE, "self.png"),
            ("device.png", tarfile.CHRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    found = list(find_images([str(path)]))
    assert [name.rpartition("::")[2] for name in found] == [
        *("a.png", "hard.png", "lost.png", "soft.png", "self.png", "device.png")
    ]
    assert read(found[1]) == png()
    assert "not there" in problem(found[2]) and "not there" in problem(found[4])
    assert "symbolic link" in problem(found[3]) and "is a device" in problem(found[5])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("soft.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, str(secret))
    assert "symbolic link" in problem(f"{tmp_path}/x.zip::soft.png")


def test_names_that_lead_out_of_an_archive_are_names(tmp_path: Path) -> None:
    """Nothing is unpacked: ``../`` and ``/`` in a member's name touch no file, and each is a key of its own."""
    (tmp_path / "y.png").write_bytes(png("black"))
    members = [("x/../y.png", png("red")), ("z/../y.png", png("blue")), ("/etc/y.png", png("green"))]
    archive = make_tar(tmp_path / "x.tar", members)
    found = list(find_images([str(archive)]))
    assert [read(name) for name in found] == [png("red"), png("blue"), png("green")]
    states = {FileState.of(name, Stamp(1, 2, 3, 4)).path for name in [*found, str(tmp_path / "y.png")]}
    assert len(states) == 4
    store = FeatureCache(tmp_path / "cache.sqlite")
    os.utime(archive, (1, 1))
    first = [item.features for batch in encode_batches(FakeEncoder(), found, Pipeline(cache=store)) for item in batch]
    again = [item.features for batch in encode_batches(FakeEncoder(), found, Pipeline(cache=store)) for item in batch]
    assert all((one == other).all() for one, other in zip(first, again, strict=True))  # type: ignore[union-attr]
    assert not (first[0] == first[1]).all()  # type: ignore[union-attr]


def test_two_colons_may_stand_in_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose own name has ``::`` is that file, unless the left side is an archive that is there."""
    monkeypatch.chdir(tmp_path)
    Path("a::b.png").write_bytes(png("red"))
    Path("no.tar::m.png").write_bytes(png("green"))
    Path("f.tar::d").mkdir()
    make_tar(Path("f.tar::d/x.tar"), [("m::n.png", png("blue")), ("y.tar::o.png", png("red"))])
    assert read("a::b.png") == png("red")
    assert read("no.tar::m.png") == png("green")
    assert read("f.tar::d/x.tar::m::n.png") == png("blue")
    assert list(find_images(["f.tar::d/x.tar"])) == ["f.tar::d/x.tar::m::n.png", "f.tar::d/x.tar::y.tar::o.png"]
    assert container("f.tar::d/x.tar::m::n.png") == "f.tar::d/x.tar"
    assert split_member("s3://b/x.tar::y.tar::m.png") == ("s3://b/x.tar", "y.tar::m.png")
    assert scheme_of("S3://b/k") == "s3" and not scheme_of("c://x") and not scheme_of("a/s3://b")


def test_an_archive_in_an_archive_stays_closed(tmp_path: Path) -> None:
    """Archives inside archives are not opened: no nesting can unpack without end."""
    inner = make_tar(tmp_path / "in.tar", [("m.png", png())])
    outer = make_tar(tmp_path / "out.tar", [("in.tar", inner.read_bytes()), ("a.png", png())])
    assert list(find_images([str(outer)])) == [f"{outer}::a.png"]
    assert problem(f"{outer}::in.tar::m.png") == "the archive has no such member"


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_tar_that_is_cut_short_says_so(cut: int, tmp_path: Path) -> None:
    """Wherever a tar is cut, each image that is whole is read, and the loss of others is at least one failure."""
    whole = make_tar(tmp_path / "w.tar", [(f"{index}.png", png()) for index in range(4)])
    content = whole.read_bytes()[: 4 * 1024]  # the members, without the end
    path = tmp_path / "x.tar"
    path.write_bytes(content[: len(content) * cut // 29])
    found = list(find_images([str(path)]))
    outcomes = []
    for name in found:
        try:
            assert read(name) == png()
            outcomes.append(True)
        except ImageError as error:
            outcomes.append(False)
            assert "cut short" in error.message or "no such" not in error.message
    assert outcomes.count(False) >= 1
    ends = [index * 1024 + 512 + len(png()) for index in range(4)]
    assert outcomes.count(True) == sum(1 for end in ends if len(content) * cut // 29 >= end)


def test_a_compressed_tar_is_called_so_whatever_its_name(tmp_path: Path) -> None:
    """It is not damaged, and what unpacks it is named."""
    content = make_tar(tmp_path / "x.tar", [("1.png", png())]).read_bytes()
    zstd = b"\x28\xb5\x2f\xfd" + bytes(60)  # none of Python 3.11's modules writes it
    for tool, packed in (
        ("gzip", gzip.compress(content)),
        ("bzip2", bz2.compress(content)),
        ("xz", lzma.compress(content)),
        ("zstd", zstd),
    ):
        path = tmp_path / f"{tool}.tar"
        path.write_bytes(packed)
        assert list(find_images([str(path)])) == [str(path)]
        expected = (
            f"compressed by {tool} in spite of its name, and cannot be read from the middle; `{tool} -dc` unpacks it"
        )
        assert problem(str(path)) == expected


def test_a_damaged_header_does_not_end_a_tar_in_silence(tmp_path: Path) -> None:
    """Python takes a header that is no header for the end of the archive; here the archive is a failure then."""
    path = make_tar(tmp_path / "x.tar", [(f"{index}.png", png()) for index in range(4)])
    content = bytearray(path.read_bytes())
    content[1024 : 1024 + 256] = b"\xff" * 256
    path.write_bytes(content)
    found = list(find_images([str(path)]))
    assert found == [f"{path}::0.png", str(path)]
    assert "damaged" in problem(str(path))


def test_a_header_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    """An extended header may claim any length; it is not read into memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate((1 << 33) + 2048)
    assert list(find_images([str(path)])) == [str(path)]
    assert "a header of the archive is too long" in problem(str(path))


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip's member, or a tar's, above the limit is one failure, whatever its header says of its size."""
    monkeypatch.setattr(archives, "MAX_IMAGE_BYTES", 100_000)
    monkeypatch.setattr(archives.check_size, "__defaults__", (100_000,))
    bomb = make_zip(tmp_path / "x.zip", [("a.png", b"\0" * 10_000_000), ("b.png", png())])
    assert "over the limit" in problem(f"{bomb}::a.png")
    content = bytearray(bomb.read_bytes())
    claimed = (10_000_000).to_bytes(4, "little")
    while (at := content.find(claimed)) >= 0:
        content[at : at + 4] = (50).to_bytes(4, "little")
    bomb.write_bytes(content)
    assert "damaged" in problem(f"{bomb}::a.png")
    assert read(f"{bomb}::b.png") == png()
    large = make_tar(tmp_path / "x.tar", [("a.png", b"\0" * 100_001)])
    assert "over the limit" in problem(f"{large}::a.png")


def test_what_is_no_archive_is_one_failure(tmp_path: Path) -> None:
    """A file of the ending and of another content, an empty one, a compressed one, one that is not there."""
    for name, content, reason in (
        ("a.tar", b"not a tar" * 100, "damaged"),
        ("b.zip", b"not a zip", "not a whole zip"),
        ("d.tar", b"", "empty (0 bytes)"),
        ("e.tar.gz", b"\x1f\x8b", "compressed tar"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert list(find_images([str(path)])) == [str(path)], name
        assert reason in problem(str(path)), name
    assert problem(str(tmp_path / "z.tar")) == "no such file"
    assert problem(f"{tmp_path}/z.tar::m.png") == "no such file"


def test_what_is_no_parquet_file_is_one_failure(tmp_path: Path) -> None:
    """A file that only ends so."""
    pytest.importorskip("pyarrow", reason="pyarrow comes with the parquet extra")
    path = tmp_path / "c.parquet"
    path.write_bytes(b"PAR1")
    assert list(find_images([str(path)])) == [str(path)]
    assert "not a Parquet file" in problem(str(path))


def test_bytes_in_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    """A member's name is what its bytes say, as undecodable as a file's may be."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        info = tarfile.TarInfo("\xff\xe9.png")
        info.size = len(png())
        archive.addfile(info, io.BytesIO(png()))
    (name,) = find_images([str(path)])
    assert name.endswith("::\udcff\udce9.png")
    assert read(name) == png()


def test_an_archive_that_changes_is_listed_anew(tmp_path: Path) -> None:
    """What was read of an archive is forgotten when the file is another."""
    path = make_tar(tmp_path / "x.tar", [("m.png", png("red"))])
    assert read(f"{path}::m.png") == png("red")
    make_tar(tmp_path / "y.tar", [("m.png", png("blue")), ("n.png", png())]).replace(path)
    assert read(f"{path}::m.png") == png("blue")


def test_members_are_decoded_in_processes_of_their_own_too(tmp_path: Path) -> None:
    """--isolate takes what has no file: it lies in one without a name while it is read."""
    path = make_tar(tmp_path / "x.tar", [("m.png", png("red")), ("n.png", b"broken")])
    (batch,) = encode_batches(FakeEncoder(), find_images([str(path)]), Pipeline(workers=1, isolation=Isolation()))
    assert batch[0].features is not None and batch[1].error == "not an image that Pillow can read"


def test_parquet_rows_are_images(tmp_path: Path) -> None:
    """Hugging Face's {bytes, path}, and plain bytes; a row without bytes is a failure, read in any order."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    colours = ["red", "green", "blue", "white"] * 40
    rows = [{"bytes": png(colour), "path": f"{index}.png"} for index, colour in enumerate(colours)]
    rows[3] = {"bytes": None, "path": "/etc/passwd"}
    rows[4] = {"bytes": png("cyan"), "path": None}
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"image": rows, "label": [0] * len(rows)}), path, row_group_size=50)
    found = list(find_images([str(path)]))
    assert found[:2] == [f"{path}::0/0.png", f"{path}::1/1.png"] and found[4] == f"{path}::4" and len(found) == 160
    for index in (159, 0, 70, 69, 4, 100, 2):
        assert read(found[index]) == (png("cyan") if index == 4 else png(colours[index]))
    assert "no image's bytes" in problem(found[3])
    assert "another path" in problem(f"{path}::1/2.png")
    assert "no such row" in problem(f"{path}::160")
    parquet.write_table(pyarrow.table({"id": [1, 2], "jpg": [png(), png("blue")]}), path)
    assert [read(name) for name in find_images([str(path)])] == [png(), png("blue")]
    parquet.write_table(pyarrow.table({"id": [1, 2]}), path)
    assert list(find_images([str(path)])) == [str(path)] and "no column" in problem(str(path))


SECRET_KEYS = (
    *("secret", "client_secret", "jwt", "auth", "hdnts", "hdnea", "authToken", "X-Amz-Credential", "AWSAccessKeyId"),
    *("subscription-key", "apiKey", "sas", "PHPSESSID", "pwd", "%74oken"),
)


def test_addresses_with_secrets_are_refused() -> None:
    """An address stands in every record: one with a password or a signature is refused, and not repeated."""
    for address in (
        "https://u:s3cr3t@host/a.jpg",
        "https://host/a.jpg?X-Amz-Signature=s3cr3t",
        "http://h/?token=s3cr3t",
        *(f"https://host/a.jpg?size=large&{key}=s3cr3t" for key in SECRET_KEYS),
        "https://host/a.jpg#access_token=s3cr3t",
        "https://u:s3cr3t@[broken/a.jpg",
    ):
        with pytest.raises(UsageError) as caught:
            check_address(address)
        assert "s3cr3t" not in caught.value.message + caught.value.hint
    for key in ("size", "author", "sort_key", "monkey", "compass", "design", "side"):
        check_address(f"https://host/a.jpg?{key}=large")
    assert image_names.is_archive("A.TAR") and not image_names.is_archive("a.tar.gz")
