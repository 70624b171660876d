"""Finding images: in natural order, streamed, surviving what file systems hold."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zeroshot.errors import InputError
from zeroshot.images import natural_order, path_lists, paths


def tree(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def below(root: Path, found: list[str]) -> list[str]:
    return [os.path.relpath(path, root) for path in found]


def test_natural_order() -> None:
    """Numbers count, case does not, and names that differ only in case still have an order."""
    names = ["10.jpg", "9.jpg", "b2", "B10", "b1", "a", "A", "01.jpg", "1.jpg", "x²", "2b1", "2a10", "2a9"]
    expected = ["01.jpg", "1.jpg", "2a9", "2a10", "2b1", "9.jpg", "10.jpg", "A", "a", "b1", "b2", "B10", "x²"]
    assert sorted(names, key=natural_order.natural_key) == expected


def test_natural_order_of_anything() -> None:
    """Empty names, endless digits and foreign digits compare without failing."""
    names = ["", "9" * 5000, "٣", "1", "½", "a" * 300, "1a", "a1", "\udcff"]
    assert len(sorted(names, key=natural_order.natural_key)) == len(names)


def test_folder_walk(tmp_path: Path) -> None:
    """A folder gives its own images first, then its subfolders', in natural order, by ending."""
    root = tree(tmp_path, "b/2.PNG", "b/10.png", "a/x.jpeg", "z.webp", "notes.txt", "a/deep/y.tif", "noending")
    assert below(tmp_path, list(paths.walk(root))) == ["z.webp", "a/x.jpeg", "a/deep/y.tif", "b/2.PNG", "b/10.png"]


def test_hidden_and_system_folders_are_skipped(tmp_path: Path) -> None:
    """Hidden entries and what NAS devices write beside images is not walked."""
    tree(tmp_path, ".hidden.jpg", ".git/a.jpg", "@eaDir/b.jpg", "c/@EADIR/d.jpg", "#recycle/e.jpg", "c/ok.jpg")
    tree(tmp_path, "__MACOSX/f.jpg", "._g.jpg")
    assert below(tmp_path, list(paths.walk(str(tmp_path)))) == ["c/ok.jpg"]


def test_hidden_input_is_walked(tmp_path: Path) -> None:
    """What is skipped inside a folder is walked where it is named itself."""
    tree(tmp_path, ".photos/a.jpg", "@eaDir/b.jpg")
    assert below(tmp_path, list(paths.find_images([str(tmp_path / ".photos"), str(tmp_path / "@eaDir")]))) == [
        ".photos/a.jpg",
        "@eaDir/b.jpg",
    ]


def test_spelling_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths come back as they were given: relative, with dots, in the order given, repeated if repeated."""
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    monkeypatch.chdir(tmp_path)
    assert list(paths.find_images(["./b", "a/../a/1.jpg", "a", "a/", "no such", "b/2.jpg"])) == [
        "./b/2.jpg",
        "a/../a/1.jpg",
        "a/1.jpg",
        "a/1.jpg",
        "no such",
        "b/2.jpg",
    ]


def test_named_file_of_any_ending(tmp_path: Path) -> None:
    """A file that is named itself is yielded whatever its ending."""
    tree(tmp_path, "photo.heic2")
    assert list(paths.find_images([str(tmp_path / "photo.heic2")])) == [str(tmp_path / "photo.heic2")]


def test_symlinks(tmp_path: Path) -> None:
    """Links to folders are followed, loops are not walked for ever, and dangling links become failed records."""
    tree(tmp_path, "real/a.jpg", "other/b.jpg")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "real" / "self").symlink_to(".")
    (tmp_path / "real" / "to").symlink_to(tmp_path / "other")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    found = below(tmp_path, list(paths.walk(str(tmp_path / "real"))))
    assert found[0] == "real/a.jpg"
    assert "real/to/b.jpg" in found
    assert len(found) < 10
    assert below(tmp_path, list(paths.walk(str(tmp_path))))[:2] == ["circle.jpg", "gone.jpg"]


def test_mutual_loops_stay_small(tmp_path: Path) -> None:
    """Many links to one another's folders do not multiply without end."""
    for name in "abcde":
        tree(tmp_path, f"{name}/1.jpg")
        (tmp_path / name / "back").symlink_to(tmp_path)
    assert len(list(paths.walk(str(tmp_path)))) <= 5 * 5


def test_deep_tree(tmp_path: Path) -> None:
    """A tree deeper than the interpreter's stack is walked to its end."""
    folders = [f"{tmp_path}{'/d' * level}" for level in range(1, sys.getrecursionlimit() + 200)]
    image = Path(folders[-1], "x.jpg")
    try:
        for folder in folders:
            os.mkdir(folder)  # noqa: PTH102 - Path takes seconds for a thousand parts
        image.touch()
        assert list(paths.walk(str(tmp_path))) == [str(image)]
    finally:  # what clears temporary folders recurses, and would fail on these
        subprocess.run(["rm", "-rf", folders[0]], check=True)


def test_unlistable_folder_is_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be listed is yielded in its place; its neighbours are not lost."""
    tree(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    real = os.scandir

    def refuse(folder: str) -> object:
        if folder.endswith("b"):
            raise PermissionError
        return real(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert below(tmp_path, list(paths.walk(str(tmp_path)))) == ["a/1.jpg", "b", "c/3.jpg"]


def test_streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first image comes before a second folder is listed."""
    root = tree(tmp_path, "1.jpg", "2.jpg", "a/3.jpg", "b/4.jpg")
    listed: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or real(folder))
    found = paths.find_images([root])
    assert Path(next(found)).name == "1.jpg"
    assert len(listed) == 1
    assert len(list(found)) == 3
    assert len(listed) == 3


class Trickle(io.RawIOBase):
    """A pipe that gives one chunk a read, and fails when it is read on after that."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    def read(self, size: int = -1) -> bytes:
        return self.chunks.pop(0)


def test_list_of_lines() -> None:
    """LF and CRLF end lines; empty lines are skipped; the last line needs no end; spaces belong to names."""
    listing = io.BytesIO(b"a.jpg\r\n\n b .jpg\n\r\nc\rd.jpg\nlast.jpg")
    assert list(path_lists.read_list(listing)) == ["a.jpg", " b .jpg", "c\rd.jpg", "last.jpg"]


def test_list_of_nul() -> None:
    """Between NULs everything is a name: newlines, carriage returns at its end, bytes that are not UTF-8."""
    assert list(path_lists.read_list(io.BytesIO(b"\xef\xbb\xbfa.jpg\nb.jpg"))) == [
        "a.jpg",
        "b.jpg",
    ]  # of a Windows editor
    names = list(path_lists.read_list(io.BytesIO(b"a\nb.jpg\0c\r\0\xff\xfe.jpg\0\0"), nul=True))
    assert names == ["a\nb.jpg", "c\r", "\udcff\udcfe.jpg"]
    assert os.fsencode(names[2]) == b"\xff\xfe.jpg"


def test_nul_list_read_as_lines() -> None:
    """A NUL-separated list without --from0 is an error that names the option, not one path of a thousand names."""
    with pytest.raises(InputError, match="NUL") as caught:
        list(path_lists.read_list(io.BytesIO(b"a.jpg\0b.jpg\0")))
    assert "--from0" in caught.value.hint
    with pytest.raises(InputError, match="lines, and no NUL") as caught:
        list(path_lists.read_list(io.BytesIO(b"a.jpg\nb.jpg\n"), nul=True))
    assert caught.value.hint == "leave out --from0"


def test_list_streams() -> None:
    """A path is given out as soon as its line has ended, before more is read, even in the middle of a character."""
    found = path_lists.read_list(Trickle(b"one.jpg\ntw", b"o-\xc3", b"\xa4.jpg\n"))  # type: ignore[arg-type]
    assert next(found) == "one.jpg"
    assert next(found) == "two-ä.jpg"
    with pytest.raises(IndexError):
        next(found)


def test_open_list(tmp_path: Path) -> None:
    """A list that is a folder or does not exist is an error that says so."""
    for path, word in ((tmp_path, "folder"), (tmp_path / "gone", "No such file"), (Path("a\0b"), "null")):
        with pytest.raises(InputError, match=word):
            path_lists.open_list(str(path))


def test_check_inputs(tmp_path: Path) -> None:
    """Inputs of which none can give an image are an error; otherwise empty folders are named and missing ones kept."""
    tree(tmp_path, "full/a.jpg", "texts/a.txt")
    full, texts, gone = (str(tmp_path / name) for name in ("full", "texts", "gone"))
    assert paths.check_inputs([]) == []
    assert paths.check_inputs([full, gone]) == []
    assert paths.check_inputs([full, texts]) == [f"no images in {texts}"]
    for bad in ([gone], [texts], [texts, gone], [gone, "a\0b"]):
        with pytest.raises(InputError) as caught:
            paths.check_inputs(bad)
        assert bad[-1] in caught.value.message or bad[0] in caught.value.message
