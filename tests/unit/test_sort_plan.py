"""Plans and names: which image goes where, under names that every file system takes."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeroshot.enums import Placement
from zeroshot.results import Failure, Prediction, Ranked, Record
from zeroshot.sort.names import (
    MAX_LABEL_BYTES,
    MAX_NAME_BYTES,
    REVIEW,
    fold,
    folder_names,
    numbered_file,
    safe_folder_name,
)
from zeroshot.sort.plan import Stay, Step, make_plan, same_content, select_inputs

settings.register_profile("calm", deadline=None, derandomize=True)
settings.load_profile("calm")

RESERVED = ["con", "PRN", "aux", "Nul", "COM1", "lpt9", "CON.txt", "nul.tar.gz", "com¹"]


def prediction(path: Path | str, label: str | None) -> Prediction:
    return Prediction(str(path), label, 0.9, (Ranked("cat", 0.9, 0.3, 3.0),))


def write(path: Path, content: bytes = b"image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def plan(records: list[Record], into: Path, placement: Placement = Placement.MOVE) -> list[Step | Stay]:
    return list(make_plan(records, into, folder_names(["cat", "dog"]), placement))


def targets(items: list[Step | Stay], into: Path) -> list[str | None]:
    return [str(item.target.relative_to(into)) if isinstance(item, Step) else None for item in items]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cat", "cat"),
        ("Bonaire, Saint Eustatius and Saba", "Bonaire, Saint Eustatius and Saba"),
        ("../../etc/passwd", "etc-passwd"),
        ("a/b\\c:d", "a-b-c-d"),
        ("..", "unnamed"),
        (".hidden", "hidden"),
        ("trailing. . ", "trailing"),
        ("-rf", "rf"),
        ("~root", "root"),
        ("con", "con_"),
        ("NUL.txt", "NUL_.txt"),
        ("new\nline\x1b[31m", "new line-[31m"),
        ("a\u202egpj.exe", "a-gpj.exe"),
        ("\udcff", "unnamed"),
        ("cafe\u0301", "caf\u00e9"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_labels_become_safe_folder_names(label: str, name: str) -> None:
    """Separators, control characters, reserved names and dots at the ends are made harmless, the rest stays."""
    assert safe_folder_name(label) == name


def test_a_label_that_is_a_folders_name_has_that_folder() -> None:
    """Whatever comes first: ``dog.`` would be called ``dog`` too, and is numbered."""
    assert folder_names(["dog.", "Dog", "dog", "dog."]) == {"dog.": "dog (3)", "Dog": "Dog", "dog": "dog (2)"}
    assert folder_names(["dog.", "dog"]) == {"dog.": "dog (2)", "dog": "dog"}


@given(st.text())
def test_any_text_is_safe_as_a_folder_name(label: str) -> None:
    """Whatever the label: one visible path component, in bounds, that no system reserves, and stable when repeated."""
    name = safe_folder_name(label)
    assert name
    assert len(name.encode()) <= MAX_LABEL_BYTES + 1  # an underscore may follow a reserved name
    assert not set(name) & set('/\\:*?"<>|\0')
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert all(unicodedata.category(c) not in ("Cc", "Cs") for c in name)
    assert name.split(".")[0].rstrip().casefold() not in [word.split(".")[0].casefold() for word in RESERVED]
    assert safe_folder_name(name) == name


@pytest.mark.parametrize("label", RESERVED)
def test_reserved_names_are_changed(label: str) -> None:
    """Windows' device names, whatever their case and ending, are no folder names."""
    assert safe_folder_name(label).casefold() != label.casefold()


@given(st.lists(st.text(alphabet="aAbB/\\. _-é\u0301ßS\0", max_size=6), max_size=12))
def test_no_two_labels_share_a_folder(labels: list[str]) -> None:
    """Different labels get folders that differ even where case does not count, and none gets the review folder."""
    names = folder_names([*labels, "_review", "_REVIEW"])
    folded = [fold(name) for name in names.values()]
    assert len(set(folded)) == len(names)
    assert fold(REVIEW) not in folded


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=300))
@example("a." + "b" * 253)
@example("." * 255)
def test_numbered_names_stay_in_bounds(name: str) -> None:
    """Numbers keep the ending of a name and never grow it past what file systems take."""
    names = list(islice(numbered_file(name), 1, 12))
    assert len(set(names)) == 11
    assert all(len(os.fsencode(numbered)) <= MAX_NAME_BYTES for numbered in names)
    if len(os.fsencode(Path(name).suffix)) <= 200:
        assert all(Path(numbered).suffix == Path(name).suffix for numbered in names if Path(name).suffix)


def test_a_plan_gives_each_image_a_place(tmp_path: Path) -> None:
    """Labels decide the folder, no label means _review, and an image that cannot be read stays."""
    into = tmp_path / "into"
    records: list[Record] = [
        prediction(write(tmp_path / "1.jpg", b"1"), "cat"),
        prediction(write(tmp_path / "2.jpg", b"2"), None),
        Failure(str(tmp_path / "3.jpg"), "damaged"),
    ]
    items = plan(records, into)
    assert targets(items, into) == ["cat/1.jpg", "_review/2.jpg", None]
    assert isinstance(items[2], Stay)
    assert items[2].failed
    assert "damaged" in items[2].reason
    assert not into.exists()


def test_a_name_that_is_taken_gets_a_number_or_is_skipped(tmp_path: Path) -> None:
    """Same name: other content gets a number, same content stays; planned names count like existing ones."""
    into = tmp_path / "into"
    write(into / "cat/1.jpg", b"there")
    names = {"a/1.jpg": b"new", "b/1.jpg": b"there", "c/1.jpg": b"new", "d/1.jpg": b"newer", "e/1.JPG": b"case"}
    items = plan([prediction(write(tmp_path / name, content), "cat") for name, content in names.items()], into)
    assert targets(items, into) == ["cat/1 (2).jpg", None, None, "cat/1 (3).jpg", "cat/1 (4).JPG"]
    assert [item.failed for item in items if isinstance(item, Stay)] == [False, False]


def test_names_that_differ_in_case_do_not_meet(tmp_path: Path) -> None:
    """A sorted folder can be carried to a system where case does not count without losing an image."""
    into = tmp_path / "into"
    records: list[Record] = [
        prediction(write(tmp_path / name, name.encode()), "cat") for name in ("a/IMG.jpg", "b/img.JPG", "c/Img.jpg")
    ]
    found = [target for target in targets(plan(records, into), into) if target]
    assert len({fold(target) for target in found}) == 3


def test_the_same_file_named_twice_is_taken_once(tmp_path: Path) -> None:
    """An image reached by two ways, be it through a linked folder, is one step."""
    write(tmp_path / "src/1.jpg")
    (tmp_path / "alias").symlink_to(tmp_path / "src")
    paths = [tmp_path / "src/1.jpg", tmp_path / "src/../src/1.jpg", tmp_path / "alias/1.jpg"]
    items = plan([prediction(path, "cat") for path in paths], tmp_path / "into")
    assert [isinstance(item, Step) for item in items] == [True, False, False]


def test_symbolic_links_are_not_moved(tmp_path: Path) -> None:
    """Moving a link could break it, so it stays; linking and copying take what it points to, under its own name."""
    real = write(tmp_path / "real.jpg")
    (tmp_path / "link.jpg").symlink_to("real.jpg")
    (item,) = plan([prediction(tmp_path / "link.jpg", "cat")], tmp_path / "into")
    assert isinstance(item, Stay)
    (item,) = plan([prediction(tmp_path / "link.jpg", "cat")], tmp_path / "into", Placement.COPY)
    assert isinstance(item, Step)
    assert (item.source, item.target.name) == (real, "link.jpg")


def test_what_a_link_leads_out_to_is_not_moved(tmp_path: Path) -> None:
    """A folder that is sorted with --move loses nothing that lies elsewhere; a linked folder inside it is inside."""
    src = tmp_path / "src"
    write(src / "deep/1.jpg")
    write(tmp_path / "elsewhere/2.jpg")
    (src / "in").symlink_to(src / "deep")
    (src / "out").symlink_to(tmp_path / "elsewhere")
    paths = [str(src / "in/1.jpg"), str(src / "out/2.jpg"), str(tmp_path / "elsewhere/2.jpg")]
    outside: set[str] = set()
    pairs = [(paths[0], str(src)), (paths[1], str(src)), (paths[2], paths[2])]
    assert list(select_inputs(pairs, tmp_path / "into", ["cat"], outside)) == paths
    assert outside == {paths[1]}
    for placement, moved in ((Placement.MOVE, [True, False, True]), (Placement.COPY, [True, True, False])):
        records = [prediction(Path(path), "cat") for path in paths]
        items = list(make_plan(records, tmp_path / "into", {"cat": "cat"}, placement, outside))
        assert [isinstance(item, Step) for item in items] == moved


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_vanished_or_is_no_file_stays(tmp_path: Path) -> None:
    """An image that went away after it was read, and a loop of links, are named and end nothing."""
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    records: list[Record] = [prediction(tmp_path / name, "cat") for name in ("gone.jpg", "loop.jpg", "pipe.jpg")]
    assert all(isinstance(item, Stay) and item.failed for item in plan(records, tmp_path / "into", Placement.COPY))


def test_content_is_compared_to_the_last_byte(tmp_path: Path) -> None:
    """Equal size is not equal content; the same file by two names is; what is no file is not."""
    big = bytes(3_000_000)
    one, other = write(tmp_path / "1", big + b"a"), write(tmp_path / "2", big + b"b")
    assert not same_content(one, other)
    assert same_content(one, write(tmp_path / "3", big + b"a"))
    os.link(one, tmp_path / "4")
    assert same_content(one, tmp_path / "4")
    assert not same_content(one, tmp_path)
    assert not same_content(one, tmp_path / "none")


def test_a_folder_inside_its_source_is_not_sorted_again(tmp_path: Path) -> None:
    """Below an input that holds the target, the target is left out; where both are one, only this run's folders are."""
    src = tmp_path / "src"
    found = [str(src / name) for name in ("1.jpg", "new/2.jpg", "cat/3.jpg", "CAT/4.jpg", "_review/5.jpg")]
    pairs = [(path, str(src)) for path in found]
    assert list(select_inputs(pairs, src, ["cat"])) == found[:2]
    left: Counter[str] = Counter()
    assert list(select_inputs(pairs, src, ["cat"], left=left)) == found[:2]
    assert left == {str(src / "cat"): 1, str(src / "CAT"): 1, str(src / "_review"): 1}
    assert list(select_inputs(pairs, src / "cat", ["cat"])) == [*found[:2], *found[3:]]
    assert list(select_inputs(pairs, tmp_path / "other", ["cat"])) == found
    # Named itself, a folder of results is sorted as asked.
    assert list(select_inputs([(found[2], str(src / "cat"))], src, ["cat"])) == [found[2]]


@pytest.mark.parametrize("link", ["cover.jpg", "zoo.jpg"])
@pytest.mark.parametrize("placement", [Placement.LINK, Placement.COPY])
def test_a_link_to_what_is_placed_already_is_no_further_image(tmp_path: Path, link: str, placement: Placement) -> None:
    """The same sort again places nothing, whether the link stands before its image or behind it."""
    image = write(tmp_path / "src" / "image.jpg")
    (tmp_path / "src" / link).symlink_to(image)
    records = [prediction(path, "cat") for path in sorted((tmp_path / "src").iterdir())]

    def sort() -> list[Step | Stay]:
        return list(make_plan(records, tmp_path / "out", folder_names(["cat"]), placement))

    (step,) = (item for item in sort() if isinstance(item, Step))
    write(step.target)
    assert [item.repeats for item in sort() if isinstance(item, Stay)] == [False, True]


def test_a_repeated_input_says_which_one_takes_its_place(tmp_path: Path) -> None:
    """Of two images of the same name and content in two folders the second stays, and names the first."""
    first, second = write(tmp_path / "a" / "x.jpg"), write(tmp_path / "b" / "x.jpg")
    step, stay = plan([prediction(path, "cat") for path in (first, second)], tmp_path / "out")
    assert isinstance(step, Step)
    assert stay == Stay(str(second), f"{first}, of the same name and content, goes there", failed=False, repeats=True)
    write(tmp_path / "out" / "cat" / "x.jpg")
    assert not any(
        item.repeats for item in plan([prediction(second, "cat")], tmp_path / "out") if isinstance(item, Stay)
    )
