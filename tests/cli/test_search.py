"""`zeroshot search` and `features` as they are typed, with a model of colours."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.commands import run
from support.fakes import FakeEncoder, FakeModel
from zeroshot.system.user_folders import cache_folder


def test_search_lists_the_nearest_first_in_every_format(folder: Path) -> None:
    """The same hits stand in jsonl, JSON with query and model, CSV, TSV and the table."""
    hits = [json.loads(line) for line in run("search", folder, "red", "--top", 2).stdout.splitlines()]
    names = [str(folder / name) for name in ("2.png", "10.png")]
    assert [hit["path"] for hit in hits] == names
    assert hits[0] == {"path": names[0], "similarity": 1.0}
    document = json.loads(run("search", folder, "red", "--top", 2, "--format", "json").stdout)
    assert (document["format"], document["version"], document["hits"]) == ("zeroshot-search", 1, hits)
    assert (document["query"], document["searched"]) == ({"text": "red", "like": []}, 3)
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        text = run("search", folder, "red", "--top", 2, "--format", form).stdout
        assert [row["path"] for row in csv.DictReader(io.StringIO(text), delimiter=delimiter)] == names
    table = run("search", folder, "red", "--top", 2, "--format", "table").stdout.splitlines()
    assert [line.split()[-1] for line in table] == names


def test_search_by_image(folder: Path) -> None:
    """With --like every argument is a place to look in; --like is repeatable and finds its own image first."""
    hits = run("search", folder, "--like", folder / "1.png", "--top", 1)
    assert hits.exit_code == 0
    assert json.loads(hits.stdout)["path"] == str(folder / "1.png")
    listed = run("search", "--like", folder / "1.png", "--files-from", "-", stdin=str(folder / "2.png").encode())
    assert json.loads(listed.stdout)["path"] == str(folder / "2.png")
    refused = run("search", "--like", folder / "1.png")
    assert refused.exit_code == 2
    assert "no images" in refused.stderr


def test_what_search_prints_can_be_its_example(folder: Path, tmp_path: Path) -> None:
    """A member of an archive is taken by --like under the name that search gave it."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "1.png", "1.png")
    name = json.loads(run("search", tmp_path / "all.zip", "red").stdout)["path"]
    found = run("search", folder, "--like", name, "--top", 1)
    assert (found.exit_code, json.loads(found.stdout)["path"]) == (0, str(folder / "1.png"))


def test_no_hit_is_said(folder: Path) -> None:
    """An empty answer names the bar that nothing reached."""
    nothing = run("search", folder, "--like", folder / "1.png", "--text", "red", "--min-score", 1)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "none of 3 images reaches --min-score 1" in nothing.stderr


def test_search_names_what_it_could_not_read(folder: Path) -> None:
    """A damaged image is one line on stderr and exit code 3; the hits are complete."""
    (folder / "3.png").touch()
    result = run("search", folder, "red")
    assert result.exit_code == 3
    assert len(result.stdout.splitlines()) == 3
    assert "3.png: the file is empty" in result.stderr
    assert "1 of 4 inputs could not be read" in result.stderr


def test_a_forgotten_text_is_said(folder: Path) -> None:
    """No text, a blank one, and stdin's sign in its place are usage errors with the command to type."""
    for arguments, message in (
        ([], "no images to search, and no text"),
        ([folder], "no text to search for after "),
        (["red"], "no images to search for 'red'"),
        ([folder, ""], "the text to search for is empty"),
        ([folder, " \t\u3000"], "the text to search for is empty"),
        ([folder, "-"], "`-` stands for paths on stdin"),
    ):
        result = run("search", *arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr
        assert "  try: " in result.stderr


def test_a_text_may_be_the_name_of_a_file(
    fake_model: FakeModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last argument is the text even where a folder has that name, which is said in one line on stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "red").mkdir()
    (tmp_path / "list").write_text(f"{folder / '2.png'}\n")
    plain = run("search", "all", "blue")
    assert (plain.exit_code, plain.stderr) == (0, "")
    for places in (["all"], ["--files-from", "list"]):
        result = run("search", *places, "red", "--top", 1)
        assert result.exit_code == 0
        assert Path(json.loads(result.stdout)["path"]).name == "2.png"
        assert result.stderr.count("\n") == 1
        assert "'red' is taken as the text" in result.stderr
        assert fake_model.encoder.texts[-1] == "red"


def test_search_reads_its_text_as_classify_reads_labels(fake_model: FakeModel, folder: Path) -> None:
    """What is truncated or holds underscores is warned of, control tokens and bytes that are no text are refused."""
    fake_model.encoder = FakeEncoder(context_length=5)
    warned = run("search", folder, "a very_long red sentence indeed")
    labelled = run("classify", folder, "--labels", "a very_long red sentence indeed,b", "--template", "{}")
    assert (warned.exit_code, len(warned.stdout.splitlines())) == (0, 3)
    assert len(warned.stderr.splitlines()) == 2
    assert warned.stderr == labelled.stderr
    for text, message in (("red <Start_Of_Text>", "'<start_of_text>'"), ("red\udcff", "not UTF-8")):
        refused = run("search", folder, text)
        assert (refused.exit_code, refused.stdout) == (1, ""), text
        assert message in refused.stderr


def test_an_empty_list_is_said(folder: Path, tmp_path: Path) -> None:
    """A list that names no path is no error, as for classify, and not passed over in silence either."""
    for command in (["search", "-", "red"], ["features", "-", "--output", tmp_path / "f.npz"]):
        done = run(*command, stdin=b"")
        assert (done.exit_code, done.stdout) == (0, "")
        assert "there are no images" in done.stderr


def test_features_are_written_in_input_order(folder: Path, tmp_path: Path) -> None:
    """The file holds a unit row for each image that could be read, and the failures in its manifest."""
    (folder / "3.png").touch()
    target = tmp_path / "features.npz"
    result = run("features", folder, "--output", target)
    assert (result.exit_code, result.stdout) == (3, "")
    with np.load(target, allow_pickle=False) as read:
        assert [Path(path).name for path in read["paths"].tolist()] == ["1.png", "2.png", "10.png"]
        assert np.linalg.norm(read["features"], axis=1) == pytest.approx([1, 1, 1])
        assert json.loads(str(read["manifest"]))["failures"][0]["path"] == str(folder / "3.png")


def test_features_read_a_list_and_refuse_an_unknown_ending(fake_model: FakeModel, folder: Path, tmp_path: Path) -> None:
    """Paths come from stdin, NUL-separated; a file name without a known ending is refused before a model is loaded."""
    names = [str(folder / "2.png"), str(folder / "1.png")]
    target = tmp_path / "features.npz"
    assert run("features", "-", "--from0", "-o", target, stdin="\0".join(names).encode()).exit_code == 0
    with np.load(target) as read:
        assert read["paths"].tolist() == names
    fake_model.calls.clear()
    refused = run("features", folder, "--output", tmp_path / "features.txt")
    assert refused.exit_code == 2
    assert "'.txt'" in refused.stderr
    assert fake_model.calls == []


@pytest.mark.parametrize("command", ["search", "features"])
def test_a_file_that_cannot_be_written_is_refused_at_once(
    command: str, fake_model: FakeModel, folder: Path, tmp_path: Path
) -> None:
    """A folder that is missing, or stands in the place of the file, is named before a model is loaded."""
    ending = ".csv" if command == "search" else ".npz"
    (tmp_path / f"taken{ending}").mkdir()
    for name, message in ((f"nowhere/x{ending}", "No such file or directory"), (f"taken{ending}", "is a folder")):
        refused = run(command, folder, *["red"] * (command == "search"), "--output", tmp_path / name)
        assert (refused.exit_code, refused.stdout, fake_model.calls) == (1, "", [])
        assert message in refused.stderr
        assert "  try: " in refused.stderr


def test_other_labels_cost_no_second_look(fake_model: FakeModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run with other labels neither decodes nor encodes; --no-cache does both, with the same answers."""
    run("classify", folder, "--labels", "red,blue")
    fake_model.encoder.batches.clear()
    with monkeypatch.context() as patched:
        patched.setattr("zeroshot.features.pipeline.decode", lambda *_: pytest.fail("decoded"))
        kept = run("classify", folder, "--labels", "green,magenta,blue")
    assert (kept.exit_code, fake_model.encoder.batches) == (0, [])
    anew = run("classify", folder, "--labels", "green,magenta,blue", "--no-cache")
    assert anew.stdout == kept.stdout
    assert sum(fake_model.encoder.batches) == 3


@pytest.mark.parametrize(("default", "limit"), [(192, 191), (191, 192)])
def test_a_limit_is_one_with_a_cache_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, default: int, limit: int
) -> None:
    """Whatever other runs have stored, --max-pixels refuses what it refuses without a cache, and so does the default.

    What either allows is kept.
    """
    for module in ("zeroshot.features.keys", "zeroshot.images.decode"):
        monkeypatch.setattr(f"{module}.DEFAULT_MAX_PIXELS", default)
    asked = ["classify", folder, "--labels", "red,blue"]  # images of 192 pixels
    commands = {default: asked, limit: [*asked, "--max-pixels", limit]}
    for most in (default, limit, default, limit):
        kept, anew = run(*commands[most]), run(*commands[most], "--no-cache")
        assert (kept.exit_code, kept.stdout) == (anew.exit_code, anew.stdout)
        assert kept.exit_code == (0 if most == 192 else 3)
    monkeypatch.setattr("zeroshot.features.pipeline.decode", lambda *_: pytest.fail("decoded"))
    assert run(*commands[192]).exit_code == 0


def test_a_file_changed_in_place_is_looked_at_again(folder: Path) -> None:
    """Same path, size and modification time do not hide a new content: the time of the change itself tells."""
    file = folder / "only.bmp"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(file)
    before = file.stat()
    assert json.loads(run("classify", file, "--labels", "red,blue").stdout)["label"] == "red"
    with file.open("r+b") as stream:
        Image.new("RGB", (8, 8), (0, 0, 255)).save(stream, "bmp")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert json.loads(run("classify", file, "--labels", "red,blue").stdout)["label"] == "blue"


def test_a_damaged_cache_is_one_warning(folder: Path) -> None:
    """The answers are the same, stderr says that the cache was made anew, and the next run is quiet."""
    whole = run("classify", folder, "--labels", "red,blue")
    stores = [path for path in cache_folder().rglob("*") if path.is_file()]
    assert stores
    for path in stores:
        path.write_bytes(b"no database at all" * 100)
    damaged = run("classify", folder, "--labels", "red,blue")
    assert (damaged.exit_code, damaged.stdout) == (0, whole.stdout)
    assert "the feature cache was damaged" in damaged.stderr
    assert "warning" not in run("classify", folder, "--labels", "red,blue").stderr


@pytest.mark.parametrize("command", [["search", "PATH", "red"], ["features", "PATH", "-o", "FEATURES"]])
def test_a_weights_file_may_be_given_its_preprocessing(
    command: list[str], fake_model: FakeModel, folder: Path, tmp_path: Path
) -> None:
    """The options that the error for a bare weights file asks for are there, as they are for classify."""
    places = {"PATH": folder, "FEATURES": tmp_path / "f.npz"}
    done = run(
        *(places.get(word, word) for word in command),
        "--preprocess",
        '{"mean": [0.5, 0.5, 0.5], "resize_mode": "squash"}',
    )
    assert done.exit_code == 0, done.output
    assert fake_model.calls[-1]["preprocessing"] == {"mean": [0.5, 0.5, 0.5], "resize_mode": "squash"}


def test_a_limit_on_what_is_opened_stands_beside_what_was_found(folder: Path, tmp_path: Path) -> None:
    """Drafts, EXIF and the limit change what is found and what is written; the documents say how it was."""
    opened = ["--draft", "--no-exif", "--max-pixels", 1000]
    found = json.loads(run("search", folder, "red", "--format", "json", *opened).stdout)
    assert found["options"] == {"exif": False, "draft": True, "max_pixels": 1000}
    assert run("features", folder, "-o", tmp_path / "f.npz", *opened).exit_code == 0
    with np.load(tmp_path / "f.npz") as written:
        assert json.loads(str(written["manifest"]))["options"] == found["options"]


def test_beside_a_image_there_is_no_text(folder: Path) -> None:
    """Who gives both reads why the text is no such file."""
    both = run("search", folder, "red", "--like", folder / "1.png")
    assert both.exit_code == 3
    assert "with --like, 'red' is taken as a path, not as a text" in both.stderr
    assert "is taken" not in run("search", folder, "--like", folder / "1.png").stderr
    assert "is taken" not in run("search", folder, "-", "--like", folder / "1.png", stdin=b"").stderr


def test_an_example_that_is_not_there_is_said_before_the_model_is_loaded(
    fake_model: FakeModel, folder: Path, tmp_path: Path
) -> None:
    """A folder is no example either."""
    for example, message in ((tmp_path / "none.png", "No such file or directory"), (folder, "Is a directory")):
        refused = run("search", folder, "--like", example)
        assert (refused.exit_code, fake_model.calls) == (1, [])
        assert f"cannot read {example}: {message}" in refused.stderr


def test_a_text_behind_two_dashes(folder: Path) -> None:
    """It may begin with a dash; an option there is none, and the command to type says so."""
    slipped = run("search", folder, "--", "- red + blue", "-k", "2")
    assert (slipped.exit_code, "what follows `--` is no option" in slipped.stderr) == (2, True)
    assert run("search", "-k", "2", folder, "--", "- red + blue").exit_code == 0
