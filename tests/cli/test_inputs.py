"""What is typed by mistake is named, and what stdin holds is read for what it is."""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.commands import run
from support.fakes import FakeEncoder, FakeModel
from unit.test_archives import make_tar, make_zip, png
from zeroshot.cli import classify as classify_command
from zeroshot.cli import console, input_options
from zeroshot.cli.console import Bar
from zeroshot.cli.input_options import InputOptions
from zeroshot.errors import OutputError
from zeroshot.images import paths
from zeroshot.system import accelerators


def test_labels_add_up(folder: Path) -> None:
    """The second `--labels` does not replace the first."""
    line = run("classify", folder / "1.png", "--labels", r"red,blue\, dark", "--labels", "blue").stdout
    assert {entry["label"] for entry in json.loads(line)["top"]} == {"red", "blue, dark", "blue"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--labels", "FILE.txt"], "--labels-file"),
        (["--labels", "imagenet"], "--labels-file imagenet"),
        (["--labels-file", "FILE.csv"], "is a table"),
    ],
)
def test_a_list_of_labels_in_the_wrong_option_is_named(
    folder: Path, fake_model: FakeModel, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """A file or `imagenet` is no label, and a table no list; nothing is loaded."""
    for name in ("FILE.txt", "FILE.csv"):
        (tmp_path / name).write_text("red\nblue\n")
    given = [str(tmp_path / word) if word.startswith("FILE") else word for word in arguments]
    refused = run("classify", folder, *given)
    assert (refused.exit_code, fake_model.calls, said in refused.stderr) == (2, [], True)


def test_a_text_without_quotes_is_named(folder: Path, fake_model: FakeModel) -> None:
    """`search DIR a red car` would search for `car`; the command with quotes is given."""
    refused = run("search", folder, "a", "red", "car")
    assert (refused.exit_code, fake_model.calls) == (2, [])
    assert f"zeroshot search {folder} 'a red car'" in refused.stderr
    given = run("search", folder, "red", "car", "--top", 3, "--min-score", 0.1, "--output", "x.csv", "--no-cache")
    options = "--top 3 --min-score 0.1 --output x.csv --no-cache"
    assert f"zeroshot search {options} {folder} 'red car'" in given.stderr
    swapped = run("search", "a red car", folder)
    assert (swapped.exit_code, fake_model.calls) == (2, [])
    assert f"zeroshot search {folder} 'a red car'" in swapped.stderr
    assert run("search", folder, "red").exit_code == 0
    assert run("search", folder, folder / "missing.png", "red").exit_code == 3


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_an_image_on_stdin_is_classified(folder: Path, tmp_path: Path, form: str) -> None:
    """As `-`; commands that want paths there say so."""
    from PIL import Image

    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "x", form)
    data = (tmp_path / "x").read_bytes()
    found = run("classify", "-", "--labels", "red,blue", stdin=data)
    assert found.exit_code == 0, found.stderr
    assert {key: json.loads(found.stdout)[key] for key in ("path", "label")} == {"path": "-", "label": "red"}
    run("classify", "-", "--labels", "red,blue", "--report", tmp_path / "page.html", stdin=data)
    page = (tmp_path / "page.html").read_text()
    assert ("zeroshot-" in page.split("Settings")[0].split("<body")[1], "data:image" in page) == (False, True)
    refused = run("search", "-", "red", stdin=data)
    assert (refused.exit_code, "stdin holds an image, not a list of paths" in refused.stderr) == (1, True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the copy goes as the program ends")
def test_a_kill_leaves_no_copy_of_an_image_on_stdin(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy has no name of its own while images are encoded, so that nothing can leave it behind."""
    seen: list[list[str]] = []
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(FakeEncoder, "encode_images", _watched(FakeEncoder.encode_images, place, seen))
    found = run("classify", "-", "--labels", "red,blue", stdin=(folder / "1.png").read_bytes())
    assert (found.exit_code, json.loads(found.stdout)["path"], seen) == (0, "-", [[]])
    isolated = run("classify", "-", "--labels", "red,blue", "--isolate", stdin=(folder / "2.png").read_bytes())
    assert (isolated.exit_code, json.loads(isolated.stdout)["status"]) == (0, "ok")


def _watched(encode: Callable[..., Any], place: Path, seen: list[list[str]]) -> Callable[..., Any]:
    """Wrap a method so that it notes what lies in a folder."""

    def watched(*arguments: Any) -> Any:
        seen.append([entry.name for entry in place.iterdir()])
        return encode(*arguments)

    return watched


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_archive_on_stdin_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    """It is no list of paths whose NUL characters `--from0` would help with."""
    (tmp_path / "b.txt").write_text("b")
    if name == "a.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(tmp_path / "b.txt", "b.txt")
    else:
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as tar:
            tar.add(tmp_path / "b.txt", "b.txt")
    refused = run("classify", "-", "--labels", "red,blue", stdin=(tmp_path / name).read_bytes())
    assert (refused.exit_code, "stdin holds an archive" in refused.stderr) == (1, True)


@pytest.mark.parametrize("option", ["-k", "--top", "--top-k"])
def test_top_has_the_same_names_everywhere(folder: Path, option: str) -> None:
    """What `search` takes, `classify` takes too."""
    found = run("classify", folder, "--labels", "red,blue", option, "1")
    assert (found.exit_code, len(json.loads(found.stdout.splitlines()[0])["top"])) == (0, 1)
    found = run("search", folder, "red", option, "1")
    assert (found.exit_code, len(found.stdout.splitlines())) == (0, 1)


def test_a_list_on_stdin_is_still_a_list(folder: Path) -> None:
    """Also one whose first path begins like an image's name, or that is NUL-separated."""
    listed = run("classify", "-", "--labels", "red,blue", stdin=b"BM.png\n" + bytes(folder / "2.png") + b"\n")
    assert [json.loads(line)["path"] for line in listed.stdout.splitlines()] == ["BM.png", str(folder / "2.png")]
    listed = run("classify", "-", "--from0", "--labels", "red,blue", stdin=bytes(folder / "2.png") + b"\0")
    assert len(listed.stdout.splitlines()) == 1
    mistaken = run("classify", "-", "--labels", "red,blue", stdin=bytes(folder / "2.png") + b"\0")
    assert "--from0" in mistaken.stderr


def test_a_link_in_a_list_adds_no_image_twice(folder: Path) -> None:
    """`find` lists a link to a folder around it as an entry of its own: what it leads to was read already."""
    (folder / "loop").symlink_to(folder)
    entries = [folder, *sorted(folder.iterdir())]
    result = run("classify", "-", "--labels", "red,blue", stdin="\n".join(map(str, entries)).encode())
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3)
    alone = run("classify", "-", "--labels", "red,blue", stdin=str(folder / "loop").encode())
    assert len(alone.stdout.splitlines()) == 3


def test_what_a_list_names_itself_is_not_passed_over(folder: Path) -> None:
    """`find` lists a folder and also a file in it without an image's ending, which is read for being named."""
    (folder / "1.png").rename(folder / "noname")
    for entries, passed_over in (([folder], True), ([folder, *sorted(folder.iterdir())], False)):
        result = run("classify", "-", "--labels", "red,blue", stdin="\n".join(map(str, entries)).encode())
        assert (len(result.stdout.splitlines()), "passed over" in result.stderr) == (3 - passed_over, passed_over)


def test_a_pdf_on_stdin_is_named(folder: Path) -> None:
    """A document is no list of paths."""
    refused = run("classify", "-", "--labels", "red,blue", stdin=b"%PDF-1.4\n%%EOF\n")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "stdin holds a PDF" in refused.stderr


def test_marks_of_a_list_in_labels_are_said(folder: Path, tmp_path: Path) -> None:
    """`- cat` in a text file is read as it is written, which is hardly meant."""
    (tmp_path / "labels.txt").write_text("- red\n- blue\n")
    for given in (
        ["--labels-file", tmp_path / "labels.txt"],
        ["--labels", "[red,blue]"],
        ["--labels", "1. red,2. blue"],
    ):
        result = run("classify", folder / "1.png", *given)
        assert "marks of a list, brackets and quotes are read as part of a label" in result.stderr, given
    assert run("classify", folder / "1.png", "--labels", "men's blue,3d red,x-ray").stderr == ""


def test_a_folder_without_images_in_a_list_is_named(folder: Path, tmp_path: Path) -> None:
    """One warning names the first of them."""
    for name in ("e1", "e2"):
        (tmp_path / name).mkdir()
    (tmp_path / "list").write_text(f"{tmp_path / 'e1'}\n{folder}\n{tmp_path / 'e2'}\n")
    result = run("classify", "--files-from", tmp_path / "list", "--labels", "red,blue")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3)
    assert f"warning: no images in {tmp_path / 'e1'}, {tmp_path / 'e2'}" in result.stderr


def test_a_device_that_is_not_there_is_refused_without_torch(
    folder: Path, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the model is loaded."""
    monkeypatch.setattr(accelerators, "_torch_built_for", lambda: "")
    refused = run("classify", folder, "--labels", "red,blue", "--device", "cuda")
    assert (refused.exit_code, fake_model.calls) == (2, [])
    assert "--device cuda: the PyTorch that is installed is built without CUDA" in refused.stderr


def test_a_version_has_a_short_option() -> None:
    """As most programs have it."""
    assert run("-V").stdout == run("--version").stdout
    assert run("-V").stdout.startswith("zeroshot ")


def test_a_run_ends_with_a_summary_on_a_terminal(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts by label, unknown, failed, seconds, where the file is; nowhere else, and not with --quiet."""
    (folder / "3.png").write_text("no image")
    output = tmp_path / "out.jsonl"
    command = ["classify", folder, "--labels", "red,blue,green", "--output", output]
    assert " images in " not in run(*command).stderr
    stderr = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(classify_command, "sys", SimpleNamespace(stderr=stderr, stdout=sys.stdout))
    summary = next(line for line in run(*command).stderr.splitlines() if " images in " in line)
    assert summary.startswith("zeroshot: 4 images in ")
    assert "1 failed" in summary
    assert summary.endswith(f"in {output}")
    count = "zeroshot: 1 of 4 inputs could not be read; each has a record with its reason\n"
    assert run(*command, "--quiet").stderr == count
    assert run("classify", "missing.png", folder, "--labels", "red,blue", "-q").exit_code == 3
    console.note("this is said again")


def test_a_terminal_is_spared_what_file_names_hold(
    images: Callable[..., Path], fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CSV, TSV and paths escape control characters there, and only there."""
    path = images("a\x1b[31m.png", "red")
    for form in (["--format", "csv"], ["--format", "tsv"], ["--paths"]):
        command = ["classify", path, "--labels", "red,blue", *form]
        assert "\x1b" in run(*command).stdout
        with monkeypatch.context() as patched:
            patched.setattr(classify_command.RecordOptions, "to_terminal", True)
            shown = run(*command).stdout
            assert "\x1b" not in shown
            assert "a\\x1b[31m.png" in shown


def test_eval_says_the_mapping_in_one_line(images: Callable[..., Path], fake_model: FakeModel, tmp_path: Path) -> None:
    """However many labels there are."""
    for number in range(12):
        images(f"val/label{number}/1.png", "red")
    told = run("eval", tmp_path / "val").stderr.splitlines()
    assert told[0].startswith("12 labels, 12 images")
    assert told[1].count("(1)") == 8
    assert told[1].endswith("and 4 more")


def test_the_doctor_names_the_hub_folder_that_the_loader_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever variable decides it: huggingface_hub's own answer is taken."""
    from huggingface_hub import constants

    from zeroshot.engines import installation_checks

    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/somewhere/else/hub")
    monkeypatch.setattr(installation_checks, "_PACKAGES", ())
    checks = installation_checks.examine()
    assert next(check for check in checks if check.name == "model cache").detail == "/somewhere/else/hub"


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Bar:
    """A bar as where stderr is a terminal."""
    monkeypatch.setattr(input_options, "sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True)))
    return Bar("images")


def test_the_bar_learns_the_number_from_the_one_listing(
    on_a_terminal: Bar, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders are listed once: for the images, and for how many there are."""
    listed: list[list[str]] = []
    search = paths.find_images
    monkeypatch.setattr(paths, "find_images", lambda given, **how: (listed.append(given), search(given, **how))[1])
    expected: list[int] = []
    monkeypatch.setattr(on_a_terminal, "expect", expected.append)
    inputs = InputOptions([str(folder)])
    found = list(inputs.find(bar=on_a_terminal))
    assert found == list(inputs.find()) and len(found) > 2
    assert expected == [len(found)] and listed == [[str(folder)]] * 2  # the second is that of the comparison


def test_an_error_of_the_listing_comes_in_its_place(on_a_terminal: Bar, folder: Path, tmp_path: Path) -> None:
    """What a list of paths names wrongly ends the run after the images before it, also where it is listed ahead."""
    image, output = folder / "1.png", tmp_path / "out.jsonl"
    output.touch()
    (tmp_path / "list").write_text(f"{image}\n{output}\n")
    found = InputOptions(files_from=str(tmp_path / "list")).find({"--output": output}, bar=on_a_terminal)
    assert next(found) == str(image)
    with pytest.raises(OutputError, match="--output"):
        next(found)


def test_a_stream_is_not_read_ahead(on_a_terminal: Bar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that somebody still writes are read as they are used."""
    monkeypatch.setattr(input_options, "_list_ahead", lambda *_: pytest.fail("it was read ahead"))
    InputOptions(["-"]).find(bar=on_a_terminal)
    InputOptions(["s3://bucket/images/"]).find(bar=on_a_terminal)


def test_archives_without_images_are_named(fake_model: FakeModel, tmp_path: Path) -> None:
    """As empty folders are: alone they end a command before a model is loaded, beside images they are a warning."""
    make_tar(tmp_path / "txt.tar", [("a.txt", b"x")])
    make_zip(tmp_path / "empty.zip", [])
    (tmp_path / "zeros.tar").write_bytes(bytes(10240))
    (tmp_path / "1.png").write_bytes(png("red"))
    archives = [tmp_path / name for name in ("txt.tar", "empty.zip", "zeros.tar")]
    labels = ("--labels", "red,blue", "--model", "tiny")
    commands: list[tuple[tuple[object, ...], tuple[object, ...]]] = [
        (("classify",), (*labels, "--no-cache")),
        (("search",), ("red", "--model", "tiny", "--no-cache")),
        (("features",), ("--model", "tiny", "--no-cache", "-o", tmp_path / "f.npz")),
        (("run", "plan"), (*labels, "--into", tmp_path / "run")),
    ]
    for words, options in commands:
        for archive in archives:
            refused = run(*words, archive, *options)
            assert refused.exit_code == 1 and f"no images in {archive}" in refused.stderr, words
    assert not fake_model.calls and not (tmp_path / "run").exists()
    for words, options in commands:
        beside = run(*words, archives[0], tmp_path / "1.png", *archives[1:], *options)
        assert beside.exit_code == 0, beside.output
        for archive in archives:
            assert beside.stderr.count(f"warning: no images in {archive}\n") == 1, words
    assert "run has 1 shard, 1 image" in beside.stderr


def test_a_parquet_file_without_rows_is_named(fake_model: FakeModel, tmp_path: Path) -> None:
    """It is an archive without images."""
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"image": pyarrow.array([], type=pyarrow.binary())})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "none.parquet")
    refused = run("classify", tmp_path / "none.parquet", "--labels", "a,b", "--model", "tiny")
    assert refused.exit_code == 1 and f"no images in {tmp_path / 'none.parquet'}" in refused.stderr
