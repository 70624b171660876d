"""Hostile input: whatever files, names, labels and settings hold, a run ends as it should and nothing else happens."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import socket
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from support.corpus import open_all
from support.fakes import FakeEncoder, FakeModel
from support.fault_runs import Tally
from zeroshot.cli.main import app
from zeroshot.encoder import Pixels
from zeroshot.enums import Format
from zeroshot.errors import LabelError, ModelError, PromptError
from zeroshot.images.path_lists import read_list
from zeroshot.models.checkpoint_files import CONFIG_NAME
from zeroshot.models.configuration import read_config
from zeroshot.output.render.choose_writer import make_writer
from zeroshot.output.render.records import Layout
from zeroshot.prompts.labels import LabelSet, normalise, parse_label_yaml, parse_labels
from zeroshot.prompts.template_sets import fill, parse_template_yaml
from zeroshot.results import Failure, Manifest, Prediction, Ranked

# No deadline, since machines are busy; the same examples each time, since a test should not change by itself.
settings.register_profile("calm", deadline=None, derandomize=True)
settings.load_profile("calm")

NASTY = [
    "<img src=x onerror=alert(1)>",
    "[bold red]markup[/]",
    "=cmd|' /C calc'!A0",
    "{0.__class__.__init__.__globals__}",
    "%s%n%x",
    "$(touch /tmp/x)`id`",
    "a\u202egpj.exe",
    "null",
    "../../../etc/passwd",
]
ANY_PATH = st.binary(min_size=1, max_size=40).map(os.fsdecode)


def test_damaged_images_of_every_format(tmp_path: Path) -> None:
    """Cut, flipped, lying and extreme files give an image or one line; nothing else is raised, nothing crashes."""
    tally = Tally()
    open_all(tmp_path, random.Random(6), tally, flips=2, modes=("RGB", "P"))
    assert tally.problems == []
    assert tally.counts["formats and modes"] > 20
    assert tally.counts["opened"] > 20


def test_files_that_are_no_files(fake_model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIFOs, sockets, devices, folders and loops called x.jpg, long and undecodable names: a record each, in order."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8), "red").save("good.png")
    os.mkfifo("fifo.jpg")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.jpg")
    Path("folder.jpg").mkdir()
    Path("loop.jpg").symlink_to("loop.jpg")
    Path("dangling.jpg").symlink_to("nowhere.jpg")
    Path("device.jpg").symlink_to("/dev/zero")
    undecodable = os.fsdecode(b"\xff\xfe\n.png")
    Image.new("RGB", (8, 8), "blue").save(Path(undecodable), "PNG")
    longest = "x" * 251 + ".png"
    Image.new("RGB", (8, 8), "blue").save(longest)
    files = [
        "fifo.jpg",
        "socket.jpg",
        "loop.jpg",
        "dangling.jpg",
        "device.jpg",
        "x" * 300 + ".jpg",
        "a/" * 3000 + "b.jpg",
    ]
    given_paths = [*files, "good.png", undecodable, longest]
    result = CliRunner().invoke(
        app,
        ["classify", "-", "--from0", "--labels", "red,blue"],
        input=b"\0".join(os.fsencode(path) for path in [*given_paths, "folder.jpg"]),
    )
    assert result.exit_code == 3, result.output
    records = [json.loads(line) for line in result.stdout_bytes.splitlines()]
    assert [record["path"] for record in records] == given_paths  # a folder gives its images, of which there are none
    assert ["error" in record for record in records] == [True] * len(files) + [False] * 3
    assert all("\n" not in record["error"] for record in records if "error" in record)


class _Meddler(FakeEncoder):
    """Removes, changes and replaces files while the first batch is encoded."""

    folder = Path()

    def encode_images(self, pixels: Pixels) -> object:  # type: ignore[override]
        if not self.batches:
            for path in sorted(self.folder.iterdir())[60:]:
                number = int(path.stem)
                if number % 3 == 0:
                    path.unlink()
                elif number % 3 == 1:
                    path.write_bytes(path.read_bytes()[:20])
                else:
                    path.unlink()
                    path.mkdir()
        return super().encode_images(pixels)


def test_files_that_change_during_the_run(fake_model: FakeModel, tmp_path: Path) -> None:
    """Images that vanish, shrink or become folders while a run goes on are failures in their places."""
    for number in range(100):
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{number:03}.png")
    meddler = _Meddler()
    meddler.folder = tmp_path
    fake_model.encoder = meddler
    arguments = ["classify", str(tmp_path), "--labels", "red,blue", "--batch-size", "4", "--workers", "1", "--no-cache"]
    result = CliRunner().invoke(app, arguments)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(record["path"]).stem for record in records] == [f"{number:03}" for number in range(100)]
    assert all(record.get("label") == "red" for record in records[:60])
    assert all("error" in record for record in records[90:])


@pytest.mark.parametrize("label", NASTY)
@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "table"])
def test_nasty_labels_are_only_words(fake_model: FakeModel, tmp_path: Path, label: str, form: str) -> None:
    """Markup, escapes, formulas, format strings and paths as labels change nothing but the label that is written."""
    image = tmp_path / "1.png"
    Image.new("RGB", (8, 8), "red").save(image)
    labels = tmp_path / "labels.txt"
    labels.write_text(f"{label}\nother", encoding="utf-8", newline="\n")
    result = CliRunner().invoke(
        app, ["classify", str(image), "--labels-file", str(labels), "--format", form, "--no-cache"]
    )
    assert result.exit_code == 0, result.output
    assert form in ("csv", "tsv") or "\x1b" not in result.output
    assert "\x1b" not in result.stderr
    if form == "jsonl":
        assert {entry["label"] for entry in json.loads(result.stdout)["top"]} == {" ".join(label.split()), "other"}
    if form == "csv":
        assert not any(
            cell.startswith(("=", "+", "@")) for row in csv.reader(io.StringIO(result.stdout)) for cell in row
        )


@pytest.mark.parametrize("label", NASTY)
def test_nasty_labels_sort_into_folders(fake_model: FakeModel, tmp_path: Path, label: str) -> None:
    """Whatever a label is, its images land one folder deep in the folder that was asked for, and come back."""
    image = tmp_path / "src" / "1.png"
    image.parent.mkdir()
    Image.new("RGB", (8, 8), "red").save(image)
    (tmp_path / "labels.txt").write_text(f"{label} red\nblue", encoding="utf-8", newline="\n")
    into = tmp_path / "into"
    arguments = ["--labels-file", str(tmp_path / "labels.txt"), "--into", str(into), "--move", "--no-cache"]
    result = CliRunner().invoke(app, ["sort", str(image.parent), *arguments])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output + result.stderr
    (found,) = into.glob("*/*.png")
    assert found.resolve().parent.parent == into.resolve()
    assert CliRunner().invoke(app, ["undo", result.stdout.strip()]).exit_code == 0
    assert image.exists()


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_labels_survive_their_own_syntax(labels: list[str]) -> None:
    """Escaped commas and backslashes read back as the labels they were, or are refused by name."""
    text = ",".join(label.replace("\\", "\\\\").replace(",", "\\,") for label in labels)
    try:
        found = parse_labels(text).names
    except LabelError as error:
        folded = [normalise(label) for label in labels]
        assert error.message
        assert (
            len(set(folded)) < len(folded)
            or not all(folded)
            or not text.strip()
            or any(character in label for label in labels for character in map(chr, (*range(32), *range(127, 160))))
            or any(not label.isprintable() for label in labels)
        )
    else:
        assert found == tuple(" ".join(label.split()) for label in labels)


@given(st.text(max_size=30), st.text(max_size=30))
def test_templates_are_filled_by_replacement_only(before: str, label: str) -> None:
    """No brace, attribute or format code in a label or template means anything but itself."""
    before = before.replace("{", "(").replace("}", ")")
    after = "{0.__class__} %s {label!r} ${x}"
    assert fill(before + "{}" + after, label) == before + label + after


@settings(max_examples=120)
@given(
    st.one_of(
        st.text(max_size=80),
        st.text(alphabet="ab:-[]{},&*!|>'\"#\n \t%@?", max_size=60),
        st.sampled_from(["!!python/object/apply:os.system [id]", "a: !!python/name:os.system", "&a [*a]", "- " * 5000]),
    )
)
def test_any_yaml_is_read_or_refused(text: str) -> None:
    """YAML of any shape gives labels and templates of plain strings, or one error; it never does anything else."""
    for parse, error in ((parse_label_yaml, LabelError), (lambda t, n: parse_template_yaml(t, n, "x"), PromptError)):
        try:
            found = parse(text, "file.yaml")
        except error as refused:
            assert refused.message
            assert "\n" not in refused.message
        else:
            texts = found.names if isinstance(found, LabelSet) else found.templates
            assert all(type(entry) is str for entry in texts)


@given(st.lists(ANY_PATH.filter(lambda path: "\0" not in path), max_size=12), st.integers(1, 7))
def test_lists_of_paths_keep_every_byte(paths: list[str], chunk: int) -> None:
    """A NUL-separated list gives back each path, whatever bytes it holds and however it is cut on its way."""

    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(chunk)

        read1 = read  # type: ignore[assignment]

    assert list(read_list(Dribble(b"\0".join(map(os.fsencode, paths))), nul=True)) == paths


@given(ANY_PATH, st.text(min_size=1, max_size=20), st.sampled_from([Format.JSONL, Format.CSV, Format.TSV]))
def test_a_record_is_one_record(path: str, text: str, form: Format) -> None:
    """Whatever a path and a label hold, a line is a line, and reads back as what it was."""
    stream = io.BytesIO()
    writer = make_writer(form, stream, Layout(top_k=1))
    writer.begin(Manifest({}, {}, {}, {}))
    label = "".join(character for character in text if not "\ud800" <= character <= "\udfff") or "x"
    writer.write(Prediction(path, label, 0.5, (Ranked(label, 0.5, 0.1, 1.0),)))
    writer.write(Failure(path, label))
    content = stream.getvalue()
    if form is Format.JSONL:
        first, second = map(json.loads, content.splitlines())
        assert (first["path"], first["label"], second["path"], second["error"]) == (path, label, path, label)
    elif form is Format.TSV:
        assert len(content.splitlines()) >= 3
        assert content.count(b"\n") == 3
        assert {line.count(b"\t") for line in content.removesuffix(b"\n").split(b"\n")} == {6}
    else:
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
        assert [len(row) for row in rows] == [7, 7, 7]
        assert not any(
            cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows[1:] for cell in row if not _number(cell)
        )


def _number(cell: str) -> bool:
    return bool(cell) and set(cell) <= set(string.digits + ".e-")


def config(vision: str, preprocess: str) -> bytes:
    model = f'{{"embed_dim": 8, "vision_cfg": {vision}, "text_cfg": {{}}}}'
    return f'{{"model_cfg": {model}, "preprocess_cfg": {preprocess}}}'.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"model_cfg": null}',
        b'{"model_cfg": []}',
        b'{"model_cfg": "x"}',
        b"[" * 100_000,
        config("null", '{"mean": 0, "std": 1}'),
        config("{}", "[1]"),
        config('{"image_size": "x"}', '{"mean": 0, "std": 1}'),
        config("{}", '{"mean": [1], "std": {}}'),
        b"\xff\xfe\x00",
    ],
    ids=range(12),
)
def test_configurations_of_any_shape_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """A model's folder whose configuration has another shape is one error that names the file or the value."""
    (tmp_path / CONFIG_NAME).write_bytes(content)
    with pytest.raises(ModelError) as refused:
        read_config(tmp_path)
    assert refused.value.message
