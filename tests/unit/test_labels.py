"""Labels: what people write, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from zeroshot.errors import LabelError
from zeroshot.evaluation import label_names, labelled_folders
from zeroshot.prompts import labels
from zeroshot.prompts.labels import Label, LabelSet


def names(text: str) -> list[str]:
    return list(labels.parse_labels(text).names)


def yaml(text: str) -> LabelSet:
    return labels.check_labels(labels.parse_label_yaml(text, "f.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat,dog", ["cat", "dog"]),
        (" cat , a  dog ", ["cat", "a dog"]),
        (r"Bonaire\, Saba,x", ["Bonaire, Saba", "x"]),
        (r"a\\,b", ["a\\", "b"]),
        (r"a\\\,b", ["a\\,b"]),
        (r"C:\dir,b", [r"C:\dir", "b"]),
        ("a\\", ["a\\"]),
        ("{},{c},%s", ["{}", "{c}", "%s"]),
        ("猫,кот,🐈", ["猫", "кот", "🐈"]),
    ],
)
def test_comma_separated(text: str, expected: list[str]) -> None:
    r"""Commas separate, ``\,`` is a comma, ``\\`` a backslash, any other backslash itself; spaces are folded."""
    assert names(text) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no labels"),
        ("  ", "no labels"),
        ("cat,,dog", "label 2 is empty"),
        (",", "no labels"),
        ("cat,dog,", "label 3 is empty"),
        ("cat,_,dog", "label 2 is empty"),
        ("cat,dog,cat", "'cat' = 'cat'"),
        ("ice cream,Ice_Cream", "'ice cream' = 'Ice_Cream'"),
        ("ﬁsh,fish", "'ﬁsh' = 'fish'"),
        ("STRASSE,straße", "'STRASSE' = 'straße'"),
        ("cat,ca\u200bt", r"'cat' = 'ca\u200bt'"),
        ("cat,ca\u200dt", r"'cat' = 'ca\u200dt'"),
        ("caf\u00e9,cafe\u0301", r"'caf\xe9' = 'cafe\u0301'"),
        ("\u200b,dog", "label 1 is empty"),
        ("c\0a\0t\0,dog", "control character U+0000"),
        ("\x1b[31mcat,dog", "control character U+001B"),
    ],
)
def test_refused(text: str, what: str) -> None:
    """Empty labels are named by number, labels that are one after normalising by their spellings."""
    with pytest.raises(LabelError) as caught:
        labels.parse_labels(text)
    assert what in caught.value.message
    assert caught.value.hint


def test_text_file(tmp_path: Path) -> None:
    """One label a line, commas included; empty lines and comments are skipped, a byte order mark and CRLF too."""
    path = tmp_path / "l.txt"
    path.write_bytes("\ufeffcat\r\n\r\n# a comment\r\n  Bonaire, Saba \r\ndog # not a comment".encode())
    assert labels.load_labels(str(path)).names == ("cat", "Bonaire, Saba", "dog # not a comment")
    path.write_text("\\#1 fan\ncat\n\\## x\n")
    assert labels.load_labels(str(path)).names == ("#1 fan", "cat", "## x")
    path.write_text("# nothing\n")
    with pytest.raises(LabelError, match="no labels"):
        labels.load_labels(str(path))
    with pytest.raises(LabelError, match="cannot read"):
        labels.load_labels(str(tmp_path / "gone.txt"))


@pytest.mark.parametrize("name", ["l.yaml", "l.YML", "l.json"])
def test_file_endings(tmp_path: Path, name: str) -> None:
    """YAML is told by its ending, in any case; JSON is YAML."""
    (tmp_path / name).write_text('{"labels": ["cat", "dog"]}')
    assert labels.load_labels(str(tmp_path / name)).names == ("cat", "dog")


def test_yaml_forms() -> None:
    """A list, a mapping to aliases, a mapping to details, and items that mix them."""
    cat, dog = Label("cat"), Label("dog", ("hound", "puppy"))
    assert yaml("[cat, dog]").names == ("cat", "dog")
    assert yaml("labels: cat").labels == (cat,)
    assert yaml("labels: {cat: , dog: [hound, puppy]}").labels == (cat, dog)
    assert yaml("labels:\n- cat\n- dog: {aliases: [hound, puppy]}").labels == (cat, dog)
    assert yaml("labels: {dog: hound}").labels == (Label("dog", ("hound",)),)
    assert yaml("labels: {dog: {prompts: a good dog}}").labels == (Label("dog", prompts=("a good dog",)),)
    assert yaml("[no, 1e3, on]").names == ("no", "1e3", "on")


def test_background_and_groups() -> None:
    """Background labels come last and are no answers; a group stands where its first member stood."""
    found = yaml("labels: [cat, rose, dog, tulip]\nbackground: [wall]\ngroups: {flower: [Tulip, rose], pet: [dog]}")
    assert found.names == ("cat", "rose", "dog", "tulip", "wall")
    assert found.labels[4].background
    assert found.answers == (("cat", (0,)), ("flower", (1, 3)), ("pet", (2,)))
    assert found.manifest()["groups"] == {"flower": ["rose", "tulip"], "pet": ["dog"]}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("cat", "expected a list"),
        ("", "expected a list"),
        ("{}", "no labels"),
        ("labels: []", "no labels"),
        ("label: [cat]", "unknown key 'label'; did you mean 'labels'?"),
        ("labels: [[cat]]", "expected a word or phrase, found list"),
        ("labels: [{cat: , dog: }]", "expected a word or phrase, found dict"),
        ("labels: [cat, '']", "label 2 is empty"),
        ("labels: {cat: {alias: x}}", "cat: unknown key 'alias'; did you mean 'aliases'?"),
        ("labels: {cat: [x, '']}", "cat: an entry is empty"),
        ("labels: {cat: [x, {y: z}]}", "cat: expected a word or phrase, found dict"),
        ("labels: {cat: [dog], dog: }", "'dog' = 'dog'"),
        ("labels: {cat: [pet], dog: [Pet]}", "'pet' = 'Pet'"),
        ("labels: [cat]\nbackground: [cat]", "'cat' = 'cat'"),
        ("background: [wall]", "every label is a background label"),
        ("labels: [cat]\ngroups: [cat]", "groups: expected a mapping"),
        ("labels: [cat]\ngroups: {pet: [cot]}", "no label 'cot'; did you mean 'cat'?"),
        ("labels: [cat]\ngroups: {pet: }", "pet"),
        ("labels: [cat]\ngroups: {pet: []}", "pet has no labels"),
        ("labels: [cat]\nbackground: [wall]\ngroups: {pet: [wall]}", "'wall' is a background label"),
        ("labels: [cat]\ngroups: {a: [cat], b: [cat]}", "'cat' stands in both 'a' and 'b'"),
        ("labels: [cat]\ngroups: {a: [cat, cat]}", "'cat' stands"),
        ("labels: [cat, dog]\ngroups: {dog: [cat]}", "'dog' is a label of its own too"),
        ("labels: [cat, dog]\ngroups: {pet: [cat], Pet: [dog]}", "two groups are called 'pet' and 'Pet'"),
        ("labels: [cat, dog]\ngroups: {'': [cat]}", "has no name"),
    ],
)
def test_yaml_refused(text: str, what: str) -> None:
    """Each mistake in a label file is one line that names the key and what stands there."""
    with pytest.raises(LabelError) as caught:
        yaml(text)
    assert what in caught.value.message


def test_group_named_like_its_member() -> None:
    """A group may bear the name of a label that it holds."""
    assert yaml("labels: [dog, wolf]\ngroups: {dog: [dog, wolf]}").answers == (("dog", (0, 1)),)


def test_alias_equal_to_its_own_name() -> None:
    """Words repeated within one label are no clash with another."""
    assert yaml("labels: {cat: [Cat, kitty]}").labels[0].words == ("cat", "Cat", "kitty")


def test_imagenet(open_clip: ModuleType) -> None:
    """``imagenet`` is open_clip's list, its two repeated names included."""
    found = labels.load_labels("imagenet")
    assert found.names == tuple(open_clip.IMAGENET_CLASSNAMES)
    assert len(set(found.names)) == 998


def test_a_file_named_imagenet_is_not_taken_for_the_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word means the same in every folder; the file has a path."""
    (tmp_path / "imagenet").write_text("cat\ndog\n")
    monkeypatch.chdir(tmp_path)
    assert len(labels.load_labels("imagenet").names) == 1000
    assert labels.load_labels("./imagenet").names == ("cat", "dog")
    assert len(label_names.load_label_names("imagenet")) == 1000


def test_one_spelling(tmp_path: Path) -> None:
    """What is reported and encoded is composed and holds nothing invisible; joiners that make an emoji stay."""
    typed = "cafe\u0301,d\u00ado\u200bg,\ufeffca\u200dt,\U0001f468\u200d\U0001f469"
    expected = ["caf\u00e9", "dog", "cat", "\U0001f468\u200d\U0001f469"]
    assert names(typed) == expected
    found = yaml("labels: {x: {aliases: [cafe\u0301], prompts: ['a ca\u200bt']}}\ngroups: {g\u200bg: [x]}")
    assert (found.labels[0].aliases, found.labels[0].prompts) == (("caf\u00e9",), ("a cat",))
    assert found.groups[0][0] == "gg"
    for name in ("cafe\u0301", "do\u200bg"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").touch()
    assert labelled_folders.load_folder(str(tmp_path / "set")).labels.names == ("caf\u00e9", "dog")


def test_utf16_without_a_mark(tmp_path: Path) -> None:
    """A file in UTF-16 that does not say so is refused with what it has to be, not read as letters between NULs."""
    (tmp_path / "labels.txt").write_bytes("cat\ndog\n".encode("utf-16-le"))
    with pytest.raises(LabelError, match="U\\+0000") as caught:
        labels.load_labels(str(tmp_path / "labels.txt"))
    assert "UTF-8" in caught.value.hint
