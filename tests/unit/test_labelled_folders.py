"""Labelled images: folders and tables, matched to labels by name and never by position."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from zeroshot.errors import InputError, LabelError, UsageError
from zeroshot.evaluation import label_names, labelled_folders, labelled_tables
from zeroshot.prompts.labels import Label


def tree(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def test_folder(tmp_path: Path) -> None:
    """Subfolders are labels in natural order, underscores spaces; images below them are theirs, however deep."""
    root = tree(
        tmp_path, "class_10/1.jpg", "class_9/b/2.jpg", "class_9/1.jpg", "stray.jpg", "@eaDir/x/t.jpg", ".git/a.jpg"
    )
    found = labelled_folders.load_folder(root)
    assert found.keys == ("class_9", "class_10")
    assert found.labels.names == ("class 9", "class 10")
    assert [str(Path(path).relative_to(tmp_path)) for path in found.paths] == [
        "class_9/1.jpg",
        "class_9/b/2.jpg",
        "class_10/1.jpg",
    ]
    assert found.targets.tolist() == [0, 0, 1]
    assert found.notes == (f"1 image in {root} itself, in no label's folder: {root}/stray.jpg",)


def test_folder_with_names(tmp_path: Path) -> None:
    """Names are matched by folder: one that is absent shifts no other, and is named; order is the names'."""
    root = tree(tmp_path, "n3/a.jpg", "n1/b.jpg")
    names = {"n1": Label("cat"), "n2": Label("dog"), "n3": Label("fox", ("vixen",))}
    found = labelled_folders.load_folder(root, names)
    assert found.labels.labels == (Label("cat"), Label("fox", ("vixen",)))
    assert found.targets.tolist() == [0, 1]
    assert "n2" in found.notes[0]
    kept = labelled_folders.load_folder(root, names, all_labels=True)
    assert kept.labels.names == ("cat", "dog", "fox")
    assert kept.targets.tolist() == [0, 2]
    with pytest.raises(LabelError, match="no name for 1 folder: n3"):
        labelled_folders.load_folder(root, {"n1": Label("cat")})


def test_folder_notes(tmp_path: Path) -> None:
    """Folders without images and labels with the same words are pointed out."""
    root = tree(tmp_path, "ice_cream/a.jpg", "ice cream/b.jpg", "empty/notes.txt")
    notes = labelled_folders.load_folder(root).notes
    assert "no images in 1 folder, left out (--all-labels keeps them as labels): empty" in notes
    assert any("ice cream" in note and "cannot tell apart" in note for note in notes)
    assert labelled_folders.load_folder(root).labels.names == ("ice cream", "ice cream")
    assert labelled_folders.load_folder(root, all_labels=True).labels.names == ("empty", "ice cream", "ice cream")


def test_folder_refused(tmp_path: Path) -> None:
    """A folder that is absent, has no subfolders, no images, or a subfolder without words says so."""
    with pytest.raises(InputError, match="No such file"):
        labelled_folders.load_folder(str(tmp_path / "gone"))
    with pytest.raises(InputError, match="no subfolders"):
        labelled_folders.load_folder(tree(tmp_path, "a.jpg"))
    with pytest.raises(InputError, match="no images in the subfolders"):
        labelled_folders.load_folder(tree(tmp_path, "cat/a.txt"))
    with pytest.raises(LabelError, match="'__' gives an empty label"):
        labelled_folders.load_folder(tree(tmp_path, "cat/a.jpg", "__/b.jpg"))


def test_names_that_are_no_labels(tmp_path: Path) -> None:
    """A folder's name in another encoding or with a control character is named as what it is."""
    root = tree(tmp_path, "cat/a.jpg", os.fsdecode(b"b\xfd") + "/b.jpg")
    with pytest.raises(LabelError, match=r"is not UTF-8") as raised:
        labelled_folders.load_folder(root)
    assert "rename it" in str(raised.value.hint)
    with pytest.raises(LabelError, match=r"the label .* holds the control character U\+001B") as raised:
        labelled_folders.load_folder(tree(tmp_path / "more", "a\x1b[1m/a.jpg"))
    assert raised.value.hint == "rename the folder or the table's label"


def test_links_beside_the_subfolders(tmp_path: Path) -> None:
    """A link to a folder is a label; one that leads nowhere or to itself is no obstacle."""
    root = tree(tmp_path / "root", "cat/a.jpg")
    tree(tmp_path / "elsewhere", "b.jpg")
    (tmp_path / "root" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "self").symlink_to("self")
    (tmp_path / "root" / "dangling").symlink_to("nowhere")
    found = labelled_folders.load_folder(root)
    assert found.keys == ("cat", "dog")
    assert f"2 links in {root} to nothing: dangling, self" in found.notes


def test_table_with_an_open_quote(tmp_path: Path) -> None:
    """The line where a quote is opened is named, not the last one."""
    table = tmp_path / "t.csv"
    table.write_text('path,label\na.jpg,cat\n"b.jpg,dog\nc.jpg,cat\n')
    with pytest.raises(InputError, match=r"line 3: .*a quote that is not closed"):
        labelled_tables.load_targets(str(table))


def test_table_with_names(tmp_path: Path) -> None:
    """Names that label no image are left out, or kept with all_labels, and named either way."""
    table = tmp_path / "t.csv"
    table.write_text("path,label\na.jpg,n1\nb.jpg,n3\n")
    names = {name: Label(word) for name, word in (("n1", "cat"), ("n2", "dog"), ("n3", "fox"))}
    for load in (labelled_tables.load_targets, labelled_tables.load_several_targets):
        few, whole = load(str(table), names), load(str(table), names, all_labels=True)
        assert (few.labels.names, whole.labels.names) == (("cat", "fox"), ("cat", "fox", "dog"))
        assert any("no image for 1 name, left out" in note and "n2" in note for note in few.notes)
        assert any("kept as labels without images" in note for note in whole.notes)


def test_targets(tmp_path: Path) -> None:
    """A table's columns stand in any order; relative paths are beside the table; quotes hold commas and newlines."""
    table = tmp_path / "t.csv"
    table.write_text(
        '\ufeffsplit,Label, path\nval,b_2,x.jpg\n\nval,a,/abs/y.jpg\r\nval,b_2,"odd,\n\u2028z.jpg"\n', "utf-8"
    )
    found = labelled_tables.load_targets(str(table))
    assert found.paths == (str(tmp_path / "x.jpg"), "/abs/y.jpg", str(tmp_path / "odd,\n\u2028z.jpg"))
    assert found.labels.names == ("a", "b 2")
    assert found.keys == ("a", "b_2")
    assert found.targets.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no columns path and label"),
        ("a,b\n", "no columns path and label"),
        ("path,label\n", "lists no images"),
        ("path,label\nx.jpg,cat\ny.jpg\n", "line 3: no path or no label"),
        ("path,label\n,cat\n", "line 2: no path or no label"),
        ("path,label\nx.jpg,hot dog, mustard\n", "line 2: 3 fields, where the first line names 2"),
        ("path,label,label\nx.jpg,cat,dog\n", "names two columns label"),
        ("path,label\nx.jpg, \n", "line 2: no path or no label"),
        (f'path,label\n"{"x" * 200_000}",cat\n', "line 2: field larger"),
        ("path,label\nx.jpg,cat\n./x.jpg,dog\n", "line 3: ./x.jpg is 'dog' here and 'cat' before"),
        ("filename,class\nx.jpg,cat\n", "but 'filename', 'class'"),
        ('{"path": "x.jpg", "label": "cat"}\n', "is JSON, not a table"),
        ("p\0a\0t\0h\0,\0l\0", "is UTF-16"),
    ],
)
def test_targets_refused(tmp_path: Path, text: str, what: str) -> None:
    """Each mistake in a table is one line with its line's number."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        labelled_tables.load_targets(str(tmp_path / "t.csv"))
    assert what in caught.value.message


@pytest.mark.parametrize("mark", [";", "\t"])
def test_targets_of_a_spreadsheet(tmp_path: Path, mark: str) -> None:
    """Semicolons and tabs separate columns too; blank lines and blanks around a path are nothing."""
    table = tmp_path / "t.csv"
    table.write_text(f"label{mark}path\ncat{mark}x.jpg \n \ncat,dog{mark}y.jpg\n")
    found = labelled_tables.load_targets(str(table))
    assert found.paths == (str(tmp_path / "x.jpg"), str(tmp_path / "y.jpg"))
    assert found.keys == ("cat", "cat,dog")


def test_an_image_named_again_counts_once(tmp_path: Path) -> None:
    """Two lines of one image would narrow the interval; it is said."""
    (tmp_path / "t.csv").write_text("path,label\nx.jpg,cat\n./x.jpg,cat\ny.jpg,dog\n")
    found = labelled_tables.load_targets(str(tmp_path / "t.csv"))
    assert found.targets.tolist() == [0, 1]
    assert found.notes == (f"1 image named more than once, counted once: {tmp_path / 'x.jpg'}",)


def test_folders_with_the_same_words_are_one_label(tmp_path: Path) -> None:
    """A file that gives several folders one name unites them; ImageNet's two missiles stay two classes."""
    root = tree(tmp_path / "root", "car/1.jpg", "dog/1.jpg", "ship/1.jpg", "ship/2.jpg")
    (tmp_path / "names.yaml").write_text("car: vehicle\ndog: animal\nship: Vehicle\n")
    found = labelled_folders.load_folder(root, label_names.load_label_names(str(tmp_path / "names.yaml")))
    assert (found.labels.names, found.keys) == (("vehicle", "animal"), ("car + ship", "dog"))
    assert [Path(path).parent.name for path in found.paths] == ["car", "ship", "ship", "dog"]
    assert found.targets.tolist() == [0, 0, 0, 1]
    assert found.notes == ("several of them have the same words and count as one label: vehicle (car + ship)",)
    (tmp_path / "t.csv").write_text("path,label\nx.jpg,ship\ny.jpg,car\n")
    named = labelled_tables.load_targets(
        str(tmp_path / "t.csv"), label_names.load_label_names(str(tmp_path / "names.yaml"))
    )
    assert (named.keys, named.targets.tolist()) == (("car + ship",), [0, 0])
    imagenet = label_names.load_label_names("imagenet")
    names = [label.name for label in imagenet.values()]
    alike = [synset for synset, label in imagenet.items() if names.count(label.name) > 1]
    two = labelled_folders.load_folder(tree(tmp_path / "in", *(f"{synset}/1.jpg" for synset in alike)), imagenet)
    assert 0 < len(set(two.labels.names)) < len(two.keys) == len(alike)


def test_a_link_to_another_label_adds_nothing(tmp_path: Path) -> None:
    """Below a folder, links that lead to the whole or to another label's folder are not followed."""
    root = tree(tmp_path / "root", "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "root" / "cat" / "all").symlink_to("..")
    (tmp_path / "root" / "cat" / "friends").symlink_to("../dog")
    tree(tmp_path / "beside", "private.jpg")
    (tmp_path / "root" / "dog" / "up").symlink_to(tmp_path)  # what holds the folder holds other things too
    assert [str(Path(path).relative_to(root)) for path in labelled_folders.load_folder(root).paths] == [
        "cat/1.jpg",
        "dog/1.jpg",
    ]


def test_a_linked_image_counts_once_where_it_is(tmp_path: Path) -> None:
    """A link to a file, or a label's folder that is a link, gives no image a second label; which they are is said."""
    root = tree(tmp_path / "root", "cat/1.jpg", "dog/1.jpg", "dog/2.jpg")
    (tmp_path / "root" / "cat" / "x.jpg").symlink_to("../dog/1.jpg")
    (tmp_path / "root" / "cat" / "again.jpg").symlink_to("1.jpg")
    (tmp_path / "root" / "albums").symlink_to("dog")
    found = labelled_folders.load_folder(root)
    assert found.keys == ("cat", "dog")  # what is only links is no label that competes
    assert [str(Path(path).relative_to(root)) for path in found.paths] == ["cat/1.jpg", "dog/1.jpg", "dog/2.jpg"]
    assert any(note.startswith("4 links to images that count once: ") for note in found.notes)
    links = {"cat/x.jpg", "cat/again.jpg", "albums/1.jpg", "albums/2.jpg"}
    assert {str(Path(path).relative_to(root)) for path in found.links} == links
    assert labelled_folders.match_labels(found, found.labels, "the same").links == found.links
    (tmp_path / "root" / "all").symlink_to(".")
    (tmp_path / "elsewhere").symlink_to("root")
    for name in ("root", "elsewhere"):  # the folder itself may be a link
        assert len(labelled_folders.load_folder(str(tmp_path / name)).paths) == 3
    os.link(tmp_path / "root" / "dog" / "1.jpg", tmp_path / "root" / "cat" / "hard.jpg")
    hard = labelled_folders.load_folder(root)
    assert len(hard.paths) == 4  # two names of equal right
    assert "1 image the same file as another by a hard link, and counted all the same" in hard.notes
    (tmp_path / "t.csv").write_text("path,label\nroot/dog/1.jpg,dog\nroot/cat/x.jpg,cat\n")
    with pytest.raises(InputError, match="'cat' here and 'dog' before"):
        labelled_tables.load_targets(str(tmp_path / "t.csv"))


def test_targets_with_names(tmp_path: Path) -> None:
    """A table's labels can be keys of names; an unknown one is named."""
    (tmp_path / "t.csv").write_text("path,label\nx.jpg,n1\n")
    assert labelled_tables.load_targets(str(tmp_path / "t.csv"), {"n1": Label("cat")}).labels.names == ("cat",)
    with pytest.raises(LabelError, match="no name for 1 label: n1"):
        labelled_tables.load_targets(str(tmp_path / "t.csv"), {"n2": Label("cat")})


@pytest.mark.parametrize(
    ("line", "key", "name"),
    [
        ("n01440764 tench, Tinca tinca", "n01440764", "tench, Tinca tinca"),
        ("n01484850\tgreat white shark", "n01484850", "great white shark"),
        ("n01484850,great white shark", "n01484850", "great white shark"),
        ("my folder\tsome, words", "my folder", "some, words"),
        ("a, b", "a", "b"),
    ],
)
def test_label_name_lines(tmp_path: Path, line: str, key: str, name: str) -> None:
    """A tab separates a folder from its words; without one, the earlier of comma and space does."""
    (tmp_path / "n.txt").write_text(f"# names\n\n{line}\n")
    assert label_names.load_label_names(str(tmp_path / "n.txt")) == {key: Label(name)}


def test_label_names(tmp_path: Path, open_clip: ModuleType) -> None:
    """YAML and JSON map folders to a name or to a name with aliases; ``imagenet`` is open_clip's list by synset."""
    for name in ("n.yaml", "n.json"):
        (tmp_path / name).write_text('{"n1": "cat", "n2": ["dog", "hound"]}')
        assert label_names.load_label_names(str(tmp_path / name)) == {
            "n1": Label("cat"),
            "n2": Label("dog", ("hound",)),
        }
    found = label_names.load_label_names("imagenet")
    assert tuple(label.name for label in found.values()) == tuple(open_clip.IMAGENET_CLASSNAMES)


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("n.txt", "n1\n", "line 1: no name after 'n1'"),
        ("n.txt", "n1 cat\nn1 dog\n", "line 2: 'n1' is given twice"),
        ("n.yaml", "- cat\n", "expected a mapping"),
        ("n.yaml", "n1: []\n", "n1: expected a name"),
        ("n.yaml", "n1: {a: b}\n", "n1: expected a name"),
        ("n.yaml", "n1: ['']\n", "n1: expected a name"),
        ("n.json", '{"n1": "a", "n1": "b"}', "'n1' is given twice"),
    ],
)
def test_label_names_refused(tmp_path: Path, name: str, text: str, what: str) -> None:
    """Each mistake in a file of names is one line that says where."""
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError) as caught:
        label_names.load_label_names(str(tmp_path / name))
    assert what in caught.value.message


def test_a_table_given_as_a_folder_names_the_option(tmp_path: Path) -> None:
    """A file is no folder of labels: what takes it is named."""
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(InputError) as refused:
        labelled_folders.load_folder(str(tmp_path / "labels.csv"))
    assert "--targets" in str(refused.value.hint)


@pytest.mark.parametrize("address", ["https://h.example/x.jpg?token=topsecret", " https://u:topsecret@h.example/x.jpg"])
def test_an_address_with_a_secret_in_a_table_is_refused(address: str, tmp_path: Path) -> None:
    """As among the inputs of any command, before it stands in a message."""
    table = tmp_path / "table.csv"
    table.write_text(f"path,label\n{address},cat\n")
    for load in (labelled_tables.load_targets, labelled_tables.load_several_targets):
        with pytest.raises(UsageError) as caught:
            load(str(table))
        assert "topsecret" not in caught.value.message + caught.value.hint


def test_table_that_begins_with_its_separator(tmp_path: Path) -> None:
    """Excel's line ``sep=;`` is no header; lines are numbered with it."""
    tree(tmp_path, "a.png")
    table = tmp_path / "t.csv"
    for mark, end in ((";", "\r\n"), (",", "\n"), ("|", "\n"), ("\t", "\n")):
        table.write_bytes(end.join((f"sep={mark}", f"path{mark}label", f"a.png{mark}red", "")).encode())
        assert labelled_tables.load_targets(str(table)).keys == ("red",)
    table.write_text("sep=;\npath;label\na.png;\n")
    with pytest.raises(InputError, match="line 3: no path or no label"):
        labelled_tables.load_targets(str(table))


def test_table_labels_that_need_an_option(tmp_path: Path) -> None:
    """Spellings that differ in case name --label-names, a semicolon in a label --multi-label."""
    tree(tmp_path, "a.png", "b.png")
    table = tmp_path / "t.csv"
    table.write_text("path,label\na.png,ROSE\nb.png,rose\n")
    (note,) = labelled_tables.load_targets(str(table)).notes
    assert "'ROSE' and 'rose'" in note
    assert "--label-names" in note
    table.write_text("path,label\na.png,daisy;flower\nb.png,rose\n")
    (note,) = labelled_tables.load_targets(str(table)).notes
    assert note == "labels with a semicolon: daisy;flower; --multi-label reads them as several labels per image"


@pytest.mark.skipif(os.sep == "\\", reason="a backslash separates folders there anyway")
def test_table_of_paths_with_backslashes(tmp_path: Path) -> None:
    """A path of Windows is read with slashes where only that file exists; a name with a backslash stays what it is."""
    tree(tmp_path, "cat/1.png", "cat/2.png", "dog\\1.png")
    table = tmp_path / "t.csv"
    table.write_text("path,label\ncat\\1.png,cat\ncat/2.png,cat\ndog\\1.png,dog\ncat\\absent.png,cat\n")
    for load in (labelled_tables.load_targets, labelled_tables.load_several_targets):
        found = load(str(table))
        names = [str(Path(path).relative_to(tmp_path)) for path in found.paths]
        assert names == ["cat/1.png", "cat/2.png", "dog\\1.png", "cat\\absent.png"]
        assert "1 path with backslashes, which no file has, read with slashes: cat\\1.png" in found.notes
