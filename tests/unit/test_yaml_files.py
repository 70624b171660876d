"""Reading people's YAML: words stay words, nothing unfolds or runs, errors name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from zeroshot.errors import LabelError
from zeroshot.prompts import yaml_files


def parse(text: str) -> object:
    return yaml_files.parse_yaml(text, "file.yaml", LabelError)


@pytest.mark.parametrize(
    "word", ["no", "on", "1e3", "007", "2024-01-01", "1_000", "0x10", "null", "~", "=", "<<", ".nan"]
)
def test_words_stay_words(word: str) -> None:
    """What other readers take for booleans, numbers or dates is the word that was written."""
    assert parse(f"- {word}\n") == [word]
    assert parse(f"{word}: {word}\n") == {word: word}


def test_shapes() -> None:
    """Lists, mappings, quotes, blocks and JSON become lists, dicts and strings; nothing becomes an empty string."""
    assert parse("a: [b, 'c d', \"e\\tf\"]\ng:\n") == {"a": ["b", "c d", "e\tf"], "g": ""}
    assert parse('{"a": ["b", 1, true]}') == {"a": ["b", "1", "true"]}
    assert parse("- |\n  two\n  lines\n") == ["two\nlines\n"]
    assert parse("") is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: &x [b]\nc: *x\n", "line 2.*anchors"),
        ("a: &x {<<: *x}\n", "line 1.*anchors"),
        ("a: 1\nb: 2\n'a': 3\n", "line 3.*'a' is given twice"),
        ("a:\n  - {b: 1, b: 2}\n", "line 2.*'b' is given twice"),
        ("!!python/object/apply:os.system [id]\n", "line 1.*tag"),
        ("- !!int x\n", "line 1.*tag"),
        ("- !!timestamp x\n", "line 1.*tag"),
        ("- !!binary x\n", "line 1.*tag"),
        ("!mine a\n", "line 1.*tag"),
        ("? [a]\n: b\n", "line 1.*unhashable"),
        ("a: [b\n", "line 2"),
        ("a\n---\nb\n", "line 2.*single document|line 2.*document"),
        ("a:\n\t- b\n", "line 2"),
        ("a: \x00\n", "special characters"),
    ],
)
def test_refused(text: str, what: str) -> None:
    """What is malformed, tagged, aliased or repeated is one line with the file and where in it."""
    with pytest.raises(LabelError, match=f"file.yaml.*({what})") as caught:
        parse(text)
    assert "\n" not in caught.value.message


def test_billion_laughs() -> None:
    """Nested aliases, a few hundred bytes that unfold to gigabytes, are refused at the first one."""
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    with pytest.raises(LabelError, match="anchors"):
        parse("\n".join(lines))


def test_deep_nesting() -> None:
    """Brackets deeper than the interpreter's stack are an error like any other."""
    with pytest.raises(LabelError, match="nested too deeply"):
        parse("[" * 5000)


def test_read_text(tmp_path: Path) -> None:
    """A byte order mark is dropped; what is absent, a folder, too large or not UTF-8 says so."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\n")
    assert yaml_files.read_text(path, LabelError) == "cat\r\n"
    path.write_bytes("Köder".encode("latin-1"))
    with pytest.raises(LabelError, match="not UTF-8 text \\(byte 1\\)"):
        yaml_files.read_text(path, LabelError)
    with pytest.raises(LabelError, match="over"):
        yaml_files.read_text(path, LabelError, max_bytes=4)
    for bad, what in ((tmp_path, "directory"), (tmp_path / "gone", "No such file")):
        with pytest.raises(LabelError, match=what):
            yaml_files.read_text(bad, LabelError)
