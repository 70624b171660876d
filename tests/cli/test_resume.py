"""`classify --resume`: what is continued, what is refused, and that the bytes are those of one run."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from support.fakes import FakeEncoder, FakeModel
from zeroshot.cli.main import app
from zeroshot.enums import Format
from zeroshot.errors import InputError, OutputError, UsageError
from zeroshot.features.pipeline import Pipeline, encode_batches
from zeroshot.output.destination import open_output
from zeroshot.output.partial_records import Recipe
from zeroshot.output.render.choose_writer import make_writer
from zeroshot.output.render.records import Layout
from zeroshot.output.resume import open_resumable
from zeroshot.output.resume_manifest import first_difference, resume_manifest_path
from zeroshot.results import Failure, Manifest

PATHS = [
    "plain.jpg",
    'a"b,c.jpg',
    "line\nbreak.jpg",
    "tab\t.jpg",
    "\udcff\udc80.jpg",
    "back\\slash",
    "=1",
    "é😀",
    "\r",
    "z",
]


def recipe(form: Format = Format.JSONL, batch_size: int = 3, **options: object) -> Recipe:
    return Recipe(Manifest({"model": "x"}, {}, {}, dict(options)), form, Layout(top_k=1), batch_size)


def write(target: Path, made_by: Recipe, paths: list[str], stop_after: int | None = None) -> int:
    """Write a failure a path; stop as if interrupted after some. Returns how many records were there already."""
    with open_resumable(target, made_by) as begun:
        if begun.complete:
            return begun.done
        writer = make_writer(made_by.form, begun.stream, made_by.layout)
        if not begun.done:
            writer.begin(made_by.manifest)
        for number, path in enumerate(begun.skip(iter(paths))):
            if number == stop_after:
                raise KeyboardInterrupt
            writer.write(Failure(path, f"no {path}"))
    return begun.done


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV, Format.TSV])
def test_torn_anywhere_it_ends_the_same(form: Format, target: Path, tmp_path: Path) -> None:
    """Cut at every single byte, the file that a second run finishes is byte for byte that of one run."""
    write(tmp_path / "whole", recipe(form), PATHS)
    whole = (tmp_path / "whole").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write(target, recipe(form), PATHS, stop_after=9)
    partial = target.with_name("out.partial")
    content = partial.read_bytes()
    for cut in range(len(content) + 1):
        target.unlink(missing_ok=True)
        partial.write_bytes(content[:cut])
        assert write(target, recipe(form), PATHS) % 3 == 0
        assert target.read_bytes() == whole, cut
        assert not partial.exists()


def test_whole_batches_are_kept(target: Path) -> None:
    """Of eight records in batches of three, six are kept: a batch that was cut short is encoded again as a whole."""
    with pytest.raises(KeyboardInterrupt):
        write(target, recipe(), PATHS, stop_after=8)
    assert write(target, recipe(), PATHS) == 6


def test_a_finished_file_is_left_alone(target: Path) -> None:
    """Running the command once more finds the file complete and does not touch it."""
    write(target, recipe(), PATHS)
    before = target.read_bytes()
    assert write(target, recipe(), PATHS) == len(PATHS)
    assert target.read_bytes() == before
    assert not target.with_name("out.partial").exists()
    with pytest.raises(OutputError, match="was made with something else"):
        write(target, recipe(threshold=0.5), PATHS)
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (recipe(threshold=0.5), "manifest.options.threshold was null, is 0.5"),
        (recipe(Format.TSV), 'output.format was "jsonl", is "tsv"'),
        (recipe(batch_size=4), "output.batch_size was 3, is 4"),
    ],
)
def test_another_manifest_is_refused(target: Path, other: Recipe, difference: str) -> None:
    """A run with anything else that decides bytes names the first difference, and the records stay."""
    with pytest.raises(KeyboardInterrupt):
        write(target, recipe(), PATHS, stop_after=5)
    before = target.with_name("out.partial").read_bytes()
    with pytest.raises(OutputError) as refused:
        write(target, other, PATHS)
    assert difference in refused.value.message
    assert target.with_name("out.partial").read_bytes() == before


def test_a_table_with_other_columns_is_refused(target: Path) -> None:
    """A partial CSV of a version that wrote fewer columns is not continued, and stays as it is."""
    with pytest.raises(KeyboardInterrupt):
        write(target, recipe(Format.CSV), PATHS, stop_after=5)
    before = target.with_name("out.partial").read_bytes()
    document = json.loads(resume_manifest_path(target).read_text())
    del document["output"]["header"]
    resume_manifest_path(target).write_text(json.dumps(document))
    with pytest.raises(OutputError, match=r"output\.header was null"):
        write(target, recipe(Format.CSV), PATHS)
    assert target.with_name("out.partial").read_bytes() == before


@pytest.mark.parametrize("paths", [["other.jpg", *PATHS], PATHS[1:], PATHS[:4], ["plain.jpg2", *PATHS[1:]]])
def test_other_inputs_are_refused(target: Path, paths: list[str]) -> None:
    """Inputs that are not those of the records, in order, are refused, and the records stay."""
    with pytest.raises(KeyboardInterrupt):
        write(target, recipe(), PATHS, stop_after=7)
    with pytest.raises(InputError, match="is another than when this run began"):
        write(target, recipe(), paths)
    assert write(target, recipe(), PATHS) == 6


def test_records_of_unknown_making_are_refused(target: Path) -> None:
    """A partial or finished file without a manifest is neither continued nor overwritten."""
    partial = target.with_name("out.partial")
    partial.write_bytes(b'{"path": "x"}\n')
    with pytest.raises(OutputError, match=r"no out\.manifest\.json says how"):
        write(target, recipe(), PATHS)
    assert partial.read_bytes() == b'{"path": "x"}\n'
    partial.rename(target)
    with pytest.raises(OutputError, match=r"no out\.manifest\.json says how"):
        write(target, recipe(), PATHS)
    assert target.read_bytes() == b'{"path": "x"}\n'


@pytest.mark.parametrize("form", [Format.JSON, Format.TABLE])
def test_documents_cannot_be_continued(target: Path, form: Format) -> None:
    """JSON and tables are refused with the formats that can."""
    with pytest.raises(UsageError) as refused:
        write(target, recipe(form), PATHS)
    assert "jsonl" in refused.value.hint
    assert not list(target.parent.iterdir())


def test_a_plain_run_leaves_nothing_to_continue(target: Path) -> None:
    """What a plain run wrote before it was interrupted is not continued by the manifest of an earlier run."""
    write(target, recipe(), PATHS)
    target.unlink()
    with pytest.raises(KeyboardInterrupt), open_output(target) as stream:
        make_writer(Format.JSONL, stream, Layout()).write(Failure(PATHS[0], "of another making"))
        raise KeyboardInterrupt
    with pytest.raises(OutputError, match=r"no out\.manifest\.json says how it was made"):
        write(target, recipe(), PATHS)


@pytest.mark.parametrize("line", [b"5\n", b"[" * 100_000 + b"\n"])
def test_lines_that_are_no_records(target: Path, line: bytes) -> None:
    """Records end before a line that is none, be it JSON or not."""
    with pytest.raises(KeyboardInterrupt):
        write(target, recipe(), PATHS, stop_after=3)
    partial = target.with_name("out.partial")
    partial.write_bytes(partial.read_bytes() + line)
    assert write(target, recipe(), PATHS) == 3


def test_differences_are_named_where_they_are() -> None:
    """The first difference of two documents is named by its place, whatever it is."""
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) == ""
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == "a[1].b was 2, is 3"
    assert first_difference({"a": 1}, {"a": True}) == "a was 1, is true"
    assert first_difference({"a": [1]}, {"a": [1, 2]}) == "a was [1], is [1, 2]"
    many = [{"name": f"label {number}"} for number in range(9)]
    assert first_difference({"a": many[:8]}, {"a": many}) == "a had 8 entries, has 9"
    assert first_difference({"a": many[1:]}, {"a": many}) == 'a[0].name was "label 1", is "label 0"'


def test_fixed_batches_are_full_and_exact(tmp_path: Path) -> None:
    """Slow paths and failures do not change which images share a batch, and the encoder sees one shape only."""
    for number in range(7):
        Image.fromarray(np.full((8, 8, 3), number * 30, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"broken")

    def slowly() -> Iterator[str]:
        for path in sorted(tmp_path.glob("*.png")):
            time.sleep(0.03)  # longer than a batch that is not full would wait
            yield str(path)

    encoder = FakeEncoder()
    batches = list(encode_batches(encoder, slowly(), Pipeline(3, 1, fixed_batches=True)))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert encoder.batches == [3, 3, 3]
    assert [item.features is None for batch in batches for item in batch] == [number == 2 for number in range(7)]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["classify", *map(str, arguments), "--labels", "red,blue", "--no-cache"])


def test_the_command_continues(fake_model: FakeModel, tmp_path: Path) -> None:
    """From the command line: interrupted, continued, complete; a plain run does not overwrite what can be continued."""
    src = tmp_path / "src"
    src.mkdir()
    for number in range(10):
        Image.new("RGB", (8, 8), (number * 20, 0, 255 - number * 20)).save(src / f"{number}.png")
    (src / "3.png").write_bytes(b"broken")
    out = tmp_path / "out.jsonl"
    assert invoke(src, "-o", tmp_path / "whole", "--resume", "--batch-size", 2).exit_code == 3
    whole = (tmp_path / "whole").read_bytes()

    class Interrupted(FakeEncoder):
        def encode_images(self, pixels: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().encode_images(pixels)

    fake_model.encoder = Interrupted()
    result = invoke(src, "-o", out, "--resume", "--batch-size", 2)
    assert result.exit_code == 130
    assert "6 records so far; the same command continues" in result.stderr
    fake_model.encoder = FakeEncoder()
    plain = invoke(src, "-o", out)
    assert plain.exit_code == 1
    assert "add --resume" in plain.stderr
    other = invoke(src, "-o", out, "--resume", "--batch-size", 2, "--max-pixels", 50)
    assert (other.exit_code, "max_pixels was null, is 50" in other.stderr) == (1, True)
    result = invoke(src, "-o", out, "--resume", "--batch-size", 2)
    assert (result.exit_code, "continuing after 6 records" in result.stderr) == (3, True)
    assert out.read_bytes() == whole
    assert "complete already" in invoke(src, "-o", out, "--resume", "--batch-size", 2).stderr
    Image.new("RGB", (8, 8)).save(src / "new.png")
    more = invoke(src, "-o", out, "--resume", "--batch-size", 2)
    assert (more.exit_code, "new.png is not among their inputs" in more.stderr) == (1, True)
    assert out.read_bytes() == whole
    assert json.loads(resume_manifest_path(out).read_bytes())["manifest"]["model"]["model"] == "fake"
    assert invoke(src, "-o", out).exit_code == 3
    assert not resume_manifest_path(out).exists()  # it told how another file was made


def test_what_is_said_to_continue_continues(fake_model: FakeModel, tmp_path: Path) -> None:
    """Interrupted with --report, the command that is named is one that the program takes."""
    src = tmp_path / "src"
    src.mkdir()
    for number in range(6):
        Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(src / f"{number}.png")

    class Interrupted(FakeEncoder):
        def encode_images(self, pixels: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            if self.batches:
                raise KeyboardInterrupt
            return super().encode_images(pixels)

    fake_model.encoder = Interrupted()
    command = [src, "-o", tmp_path / "a.jsonl", "--batch-size", 2]
    stopped = invoke(*command, "--report", tmp_path / "a.html")
    assert "the same command with --resume and without --report continues" in stopped.stderr
    fake_model.encoder = FakeEncoder()
    assert "continuing after 2 records" in invoke(*command, "--resume").stderr


def test_a_full_disk_leaves_no_part_of_a_manifest(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun of it goes, and the way on is one that works with a page too."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zeroshot.output.resume_manifest.os.fsync", full)
    with pytest.raises(OutputError, match="No space left") as stopped, open_resumable(target, recipe(), anew=True):
        pass
    assert "with --resume, and without --report" in stopped.value.hint
    assert not list(target.parent.glob("*.part"))


def test_a_file_of_a_plain_run_names_the_way_to_append(fake_model: FakeModel, tmp_path: Path) -> None:
    """It was not begun to be continued; the message says how to begin one that is."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert invoke(tmp_path / "a.png", "-o", tmp_path / "a.jsonl").exit_code == 0
    refused = invoke(tmp_path / "a.png", "-o", tmp_path / "a.jsonl", "--append")
    assert (refused.exit_code, "begin with --resume" in refused.stderr) == (1, True)
    document = invoke(tmp_path / "a.png", "-o", tmp_path / "a.json", "--resume")
    assert (document.exit_code, "--append cannot continue" in document.stderr) == (2, True)


def test_the_resume_manifest_comes_first(target: Path) -> None:
    """Before the first record can be written, the manifest is whole already."""
    with open_resumable(target, recipe()) as begun:
        assert begun.done == 0
        assert json.loads(resume_manifest_path(target).read_bytes()) == recipe().document()


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_plain_run_that_was_cut_short_is_continued(
    fake_model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    """Interrupted or out of space, a run without --resume leaves what --resume continues, over an older file too."""
    for number in range(6):
        Image.new("RGB", (8, 8), (number * 20, 0, 255 - number * 20)).save(tmp_path / f"{number}.png")
    out, asked = tmp_path / "out.csv", [tmp_path, "--batch-size", 2]
    assert invoke(*asked, "-o", tmp_path / "whole.csv").exit_code == 0
    out.write_text("an older file")
    written = 0

    def write(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += 1
        if written > 5:  # a header and four records
            raise stop
        return real(descriptor, bytes(data).partition(b"\n")[0] + b"\n")  # a line a call: it may write less

    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        cut = invoke(*asked, "-o", out)
    assert cut.exit_code == (130 if isinstance(stop, KeyboardInterrupt) else 1)
    assert "the same command with --resume" in cut.stderr
    assert out.read_text() == "an older file"
    again = invoke(*asked, "-o", out)
    assert (again.exit_code, "add --resume to continue it" in again.stderr) == (1, True)
    continued = invoke(*asked, "-o", out, "--resume")
    assert (continued.exit_code, "continuing after 4 records" in continued.stderr) == (0, True)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("name", ["o.json", "o.JSONL", "o.csv", "o.tsv", "o.txt", "o"])
def test_the_ending_of_the_output_decides_the_format(fake_model: FakeModel, tmp_path: Path, name: str) -> None:
    """`-o x.csv` is a CSV, any other ending JSON lines, and --format wins."""
    image = tmp_path / "1.png"
    Image.new("RGB", (8, 8)).save(image)
    form = {"json": "json", "csv": "csv", "tsv": "tsv", "txt": "table"}.get(name.rpartition(".")[2], "jsonl")
    assert invoke(image, "-o", tmp_path / name).exit_code == 0
    assert invoke(image, "-o", tmp_path / "asked", "--format", form).exit_code == 0
    assert (tmp_path / name).read_bytes() == (tmp_path / "asked").read_bytes()
    assert invoke(image, "-o", tmp_path / name, "--format", "tsv").exit_code == 0
    assert (tmp_path / name).read_text().startswith("path\tlabel")
