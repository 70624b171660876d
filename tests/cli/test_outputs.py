"""No output replaces what a command reads, whichever command and option it is."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.commands import every_command, run
from support.fakes import FakeModel
from zeroshot.cli.option_groups import find_use
from zeroshot.cli.options import Use


def uses(command: Any) -> dict[str, Use | None]:
    """Return what a command does with the file of each of its parameters."""
    return {name: find_use(parameter) for name, parameter in inspect.signature(command.callback).parameters.items()}


def cases() -> Iterator[Any]:
    for words, command in every_command():
        marked = uses(command)
        for written in command.params:
            for read in command.params:
                if marked.get(written.name) is Use.WRITTEN and marked.get(read.name) in (Use.READ, Use.READ_FOLDER):
                    identity = f"{'-'.join(words)}:{read.name}:{written.name}"
                    yield pytest.param(words, command, read, written, id=identity)


@pytest.mark.parametrize(("words", "command", "read", "written"), list(cases()))
def test_an_output_is_never_a_file_that_the_command_reads(
    fake_model: FakeModel, tmp_path: Path, words: tuple[str, ...], command: Any, read: Any, written: Any
) -> None:
    """Each option that writes is refused the file of each option or argument that reads, before the model is loaded."""
    file = tmp_path / "file.npz"
    file.write_text("as it was")
    arguments = [file if read.param_type_name == "argument" else f"{read.opts[0]}={file}"]
    arguments += ["other" for parameter in command.params if parameter.required and parameter not in (read, written)]
    refused = run(*words, *arguments, f"{written.opts[0]}={file}")
    assert (refused.exit_code, fake_model.calls) == (1, [])
    assert f"--{written.name} {file} is a file that this run reads" in refused.stderr
    assert file.read_text() == "as it was"


def test_every_option_that_names_a_file_is_known_to_the_check() -> None:
    """A new option of a command with an output cannot be forgotten."""
    names_file, seen = "FILE|DIR|PATH|IMAGE|MODEL|json", 0
    for words, command in every_command():
        marked = uses(command)
        for parameter in command.params:
            if parameter.name in ("output", "report"):
                assert marked[parameter.name] is Use.WRITTEN, (words, parameter.name)
            elif Use.WRITTEN in marked.values() and re.search(names_file, parameter.metavar or ""):
                assert marked[parameter.name], (words, parameter.name)
                seen += 1
    assert seen > 30


def test_an_output_is_no_file_of_a_list_or_of_a_model_folder(folder: Path, tmp_path: Path) -> None:
    """Also what is found only while the list is read, and what lies in the folder that --model names."""
    image = tmp_path / "image"  # without an ending that tells what it is
    image.write_bytes((folder / "1.png").read_bytes())
    (tmp_path / "list").write_text(f"{folder}\n{image}\n")
    for words in (["classify", "--labels", "a,b"], ["search", "red"]):
        refused = run(*words, "--files-from", tmp_path / "list", "--output", image)
        assert (refused.exit_code, f"{image} is a file that this run reads" in refused.stderr) == (1, True)
        assert image.read_bytes() == (folder / "1.png").read_bytes()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("")
    words = ["classify", folder, "--labels", "a,b", "--model", tmp_path / "model"]
    assert run(*words, "--output", tmp_path / "model" / "weights").exit_code == 1
    assert run(*words, "--output", tmp_path / "model" / "new").exit_code == 0


@pytest.mark.parametrize("name", ["a.html", "a.jsonl.gz", "a.PARQUET", "a.yaml"])
def test_an_ending_that_promises_another_format_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """JSON lines are not written under another format's ending, unless they are asked for; an unknown one is free."""
    classify = ["classify", folder, "--labels", "red,blue", "-o"]
    refused = run(*classify, tmp_path / name)
    assert (refused.exit_code, list(tmp_path.glob("a.*"))) == (2, [])
    assert f"{Path(name).suffix.lower()} is none of the formats" in refused.stderr
    for command in ("eval", "calibrate", "learn"):
        refused = run(command, folder, "-o", tmp_path / name)
        assert (refused.exit_code, list(tmp_path.glob("a.*"))) == (2, [])
        assert "is none of the formats" in refused.stderr
    assert run(*classify, tmp_path / name, "--format", "jsonl").exit_code == 0
    assert run(*classify, tmp_path / "a.2026").exit_code == 0


@pytest.mark.parametrize("command", ["calibrate", "learn"])
def test_a_file_for_other_commands_is_no_table(folder: Path, tmp_path: Path, command: str) -> None:
    """What `--calibration` and `--learned` read is JSON whatever --format prints, so no ending offers a table."""
    for name in ("a.csv", "a.txt", "a.jsonl"):
        refused = run(command, folder, "--format", "table", "-o", tmp_path / name)
        assert (refused.exit_code, list(tmp_path.glob("a.*"))) == (2, [])
        assert "it is a JSON document: end it in .json" in refused.stderr
        assert "--format" not in refused.stderr


@pytest.mark.parametrize("name", ["a.jpg", "a.txt", "a.json"])
def test_a_template_set_is_yaml(folder: Path, tmp_path: Path, name: str) -> None:
    """`prompts tune` writes no YAML under another format's ending."""
    refused = run("prompts", "tune", folder, "-o", tmp_path / name)
    assert (refused.exit_code, list(tmp_path.glob("a.*"))) == (2, [])
    assert "it is a YAML set: end it in .yaml" in refused.stderr


def test_a_list_with_folders_and_their_files_names_each_once(folder: Path) -> None:
    """`find DIR` prints the folder before what is in it: each image gets one record, and a note says so."""
    listed = [folder, *sorted(folder.iterdir())]
    result = run("classify", "-", "--labels", "red,blue", stdin="\n".join(map(str, listed)).encode())
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3)
    assert result.stderr.count("each is read once") == 1
    (folder / "sub").mkdir()
    for number in range(3):
        (folder / "sub" / f"{number}.MOV").touch()
    inner, film = folder / "sub", folder / "sub" / "0.MOV"
    for names, passed in (
        ([folder, inner], 3),
        ([inner, folder], 3),
        ([folder, folder], 3),
        ([f"{folder}/", f"{inner}/"], 3),
        ([folder, film], 2),
        ([film, folder], 2),
    ):
        counted = run("classify", "-", "--labels", "red,blue", stdin="\n".join(map(str, names)).encode())
        assert f"{passed} files were passed over: {passed} .mov" in counted.stderr, names
    inside_first = run("classify", "-", "--labels", "red,blue", stdin="\n".join(map(str, reversed(listed))).encode())
    assert (len(inside_first.stdout.splitlines()), inside_first.stderr.count("each is read once")) == (3, 1)
    repeated = run("classify", "-", "--labels", "red,blue", stdin=f"{listed[1]}\n{listed[1]}\n".encode())
    assert len(repeated.stdout.splitlines()) == 2


def test_the_file_behind_stdin_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    """A shell that reads a list from a file names it to nobody: it is told by what it is."""
    listed = tmp_path / "list.csv"
    listed.write_text("".join(f"{path}\n" for path in folder.iterdir()))
    before = listed.read_bytes()
    command = [sys.executable, "-m", "zeroshot", "classify", "-", "--labels", "red,blue", "--model", "tiny", "-o"]
    with listed.open("rb") as stdin:
        result = subprocess.run([*command, str(listed)], stdin=stdin, capture_output=True, text=True)
    assert (result.returncode, "is a file that this run reads" in result.stderr) == (1, True)
    assert listed.read_bytes() == before
