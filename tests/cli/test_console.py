"""What people see: the bar steps aside for results, and streams that are closed or full are no traceback."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from support import ROOT
from support.fakes import FakeEncoder
from zeroshot.cli import export_after_run, main, model_options
from zeroshot.cli.main import app
from zeroshot.engines import choose
from zeroshot.enums import Engine, Precision
from zeroshot.errors import ModelError
from zeroshot.models.checkpoint import Source

EXAMPLE = ROOT / "examples" / "cat.jpg"
CLASSIFY = ["--labels", "cat,bee", "--model", "tiny"]


def shell(redirect: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program from a shell, which can close streams."""
    command = shlex.join([sys.executable, "-m", "zeroshot", *arguments])
    return subprocess.run(["/bin/sh", "-c", f"{command} {redirect}"], cwd=cwd, capture_output=True, text=True)


@pytest.mark.skipif(os.name == "nt", reason="streams are closed by a shell")
def test_closed_streams_are_empty_or_take_everything(tmp_path: Path) -> None:
    """A closed stdin lists no paths; a closed stdout or stderr loses what it would have shown, and nothing else."""
    nothing = shell("<&-", "classify", "-", *CLASSIFY, cwd=tmp_path)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "there are no images, so there are no records" in nothing.stderr
    unseen = shell(">&-", "classify", str(EXAMPLE), *CLASSIFY, "--output", "found.jsonl", cwd=tmp_path)
    assert (unseen.returncode, unseen.stderr) == (0, "")
    assert (tmp_path / "found.jsonl").read_text().count("\n") == 1
    quiet = shell("2>&-", "classify", str(EXAMPLE), "missing.jpg", *CLASSIFY, cwd=tmp_path)
    assert quiet.returncode == 3
    assert quiet.stdout.count("\n") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_one_line_and_a_hint(tmp_path: Path) -> None:
    """Every command says that stdout cannot be written, and exits 1."""
    for arguments in (["models", "list"], ["prompts", "list"], ["cache", "info"], ["--version"], ["sort", "--help"]):
        full = shell("> /dev/full", *arguments, cwd=tmp_path)
        assert full.returncode == 1
        assert full.stderr.splitlines() == [
            "zeroshot: error: cannot write stdout: No space left on device",
            "  try: free some space",
        ]


def test_each_command_that_the_help_lists_is_there() -> None:
    """A command is imported when it is typed; none is listed in vain, and a slip of the keys gets the nearest."""
    runner = CliRunner()
    listed = runner.invoke(app, ["--help"]).stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    names = [line.split()[0] for line in listed.splitlines()]
    assert names == list(main._COMMANDS)
    for name in names:
        shown = runner.invoke(app, [name, "--help"])
        assert (shown.exit_code, shown.stdout.splitlines()[0].split()[2]) == (0, name)
    wrong = runner.invoke(app, ["modles", "list"])
    assert (wrong.exit_code, "Did you mean 'models'?" in wrong.stderr) == (2, True)


def test_helps_name_values_and_exit_codes_in_full() -> None:
    """Numbers have names that say something, and where 130 is listed, 143 is."""
    for name in ("classify", "eval", "search", "sort", "calibrate", "features", "prompts tune", "cache prune"):
        shown = CliRunner().invoke(app, [*name.split(), "--help"]).stdout
        assert CliRunner().invoke(app, [*name.split(), "-h"]).stdout == shown
        assert "range>" not in shown, name
        assert ("130" in shown) == ("143" in shown) == (name in ("classify", "eval", "sort")), name


def test_a_user_who_waits_for_pytorch_is_told_what_spares_it(
    fake_model, images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, behind the results, where the model has no export and nobody asked for this engine."""
    images("a.png", "red")
    run = ["classify", str(tmp_path / "a.png"), "--labels", "red,blue", "--model", "ViT-B-32", "--pretrained", "openai"]
    told = "`zeroshot models pull ViT-B-32 --pretrained openai`"
    assert told not in CliRunner().invoke(app, run).stderr
    monkeypatch.setattr(export_after_run, "sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True)))
    shown = CliRunner().invoke(app, run).output
    assert 0 < shown.index("a.png") < shown.index(told)
    assert re.search(r"importing PyTorch and loading fake took \d+\.\d s of this run", shown)
    assert told not in CliRunner().invoke(app, [*run, "--quiet"]).stderr
    assert told not in CliRunner().invoke(app, [*run, "--engine", "torch"]).stderr
    fake_model.encoder = FakeEncoder(engine=Engine.ONNX)
    assert told not in CliRunner().invoke(app, run).stderr


def test_a_slow_run_on_a_cpu_names_the_quicker_precision(
    fake_model, images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, behind the results, where nobody has chosen a precision or tried that one."""
    images("a.png", "red")
    run = ["classify", str(tmp_path / "a.png"), "--labels", "red,blue", "--model", "ViT-B-32", "--pretrained", "openai"]
    told = "`zeroshot eval DIR --precision fp32 --precision int8`"
    fake_model.encoder = FakeEncoder(engine=Engine.ONNX)
    terminal = SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True))
    lacking = [True]
    monkeypatch.setattr(choose, "lacks_int8", lambda source: lacking[0] and source.arguments.endswith("openai"))
    monkeypatch.setattr(export_after_run, "sys", terminal)
    monkeypatch.setattr(model_options, "sys", terminal)
    assert told not in CliRunner().invoke(app, run).stderr
    monkeypatch.setattr(export_after_run, "_SLOW", -1.0)
    shown = CliRunner().invoke(app, run).output
    assert 0 < shown.index("a.png") < shown.index("--precision int8 is about twice as fast") < shown.index(told)
    assert told not in CliRunner().invoke(app, [*run, "--precision", "fp32"]).stderr
    lacking[0] = False
    assert told not in CliRunner().invoke(app, run).stderr


@pytest.mark.parametrize("environment", [{}, {"ZEROSHOT_EXPORT": "1"}])
def test_an_export_that_was_asked_for_is_made_behind_the_results(
    environment: dict[str, str], fake_model, images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an option or the environment, which an option overrides; one that fails does not fail the run."""
    images("a.png", "red")
    records = tmp_path / "records.jsonl"
    seen: list[tuple[str, bool]] = []

    def export(source: Source, encoder: object) -> Path | None:
        seen.append((source.arguments, records.read_text().count("\n") == 1 and encoder is fake_model.encoder))
        raise ModelError("the graphs differ", "use --engine torch")

    monkeypatch.setattr(choose, "export_loaded", export)
    run = ["classify", str(tmp_path / "a.png"), "--labels", "red,blue", "--model", "ViT-B-32", "--pretrained", "openai"]
    run += ["--output", str(records)]
    asked = CliRunner().invoke(app, run + ([] if environment else ["--export"]), env=environment)
    assert (asked.exit_code, seen) == (0, [("ViT-B-32 --pretrained openai", True)])
    assert asked.stderr == "zeroshot: warning: fake was not exported: the graphs differ (use --engine torch)\n"
    assert CliRunner().invoke(app, [*run, "--no-export"], env=environment).exit_code == 0
    assert CliRunner().invoke(app, [*run, "--only", "pink"], env=environment).exit_code == 2
    half = FakeEncoder()
    half._spec = replace(half.spec, precision=Precision.BF16)
    fake_model.encoder = half
    assert "--export stores float32, and this run has --precision bf16" in (
        CliRunner().invoke(app, [*run, "--export"]).stderr
    )
    fake_model.encoder = FakeEncoder(engine=Engine.ONNX)
    assert CliRunner().invoke(app, [*run, "--export"]).stderr == ""
    assert len(seen) == 1


def test_undo_of_a_folder_without_a_journal_says_so(tmp_path: Path) -> None:
    """It is a usage error that names what to give."""
    bare = CliRunner().invoke(app, ["undo", str(tmp_path)])
    assert (bare.exit_code, bare.stderr.splitlines()[0]) == (
        2,
        f"zeroshot: error: {tmp_path} is a folder without a journal",
    )


def test_short_lines_in_lists_of_commands_are_whole() -> None:
    """No line about a command ends in dots where a terminal has 80 columns."""
    for name in ("prompts", "models", "cache"):
        assert "..." not in CliRunner().invoke(app, [name, "--help"]).stdout.partition("Commands:")[2], name


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plain"], 0, "plain: 1 template: no problems found"),
        (["plain", "--labels", "cat,dog", "--model", "tiny"], 0, "plain: 1 template, and the labels with this model: "),
        (["plain", "--labels", ""], 2, "no labels"),
        (["plain", "--labels", "a", "--labels-file", "b"], 2, "both --labels and --labels-file"),
    ],
)
def test_checking_a_set_says_what_was_checked(arguments: list[str], code: int, said: str) -> None:
    """The labels take part where they were given, and are refused as everywhere."""
    result = CliRunner().invoke(app, ["prompts", "check", *arguments])
    assert result.exit_code == code
    assert said in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["classify", "DIR", "--labels", "red,blue", "--output"],
        ["classify", "DIR", "--labels", "red,blue", "--report"],
        ["eval", "DIR", "--output"],
        ["eval", "DIR", "--report"],
        ["calibrate", "DIR", "--output"],
        ["prompts", "tune", "DIR", "--output"],
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    words: list[str], fake_model, images, tmp_path: Path
) -> None:
    """Not after an hour of it: the model is not even loaded."""
    for name in ("red", "blue"):
        images(f"val/{name}/1.png", name)
    ending = ".html" if words[-1] == "--report" else ".yaml" if "tune" in words else ".json"
    target = tmp_path / "missing" / f"out{ending}"
    words = [str(tmp_path / "val") if word == "DIR" else word for word in words]
    refused = CliRunner().invoke(app, [*words, str(target)])
    assert (refused.exit_code, f"cannot write {target}" in refused.stderr, fake_model.calls) == (1, True, [])


@pytest.mark.parametrize(
    ("option", "value"),
    [("--batch-size", "0"), ("--workers", "many"), ("--threshold", "nan"), ("--format", "xml"), ("--max-pixels", "-1")],
)
def test_a_value_that_cannot_be_is_named(option: str, value: str) -> None:
    """The line about an option says which value was given, once, as well as what it should have been."""
    refused = CliRunner().invoke(app, ["classify", "x", option, value])
    assert refused.exit_code == 2
    last = refused.stderr.splitlines()[-1]
    assert option in last
    assert last.count(f"'{value}'") == 1
    assert "Value error" not in last
    assert "'-5'" in CliRunner().invoke(app, ["cache", "prune", "--days", "-5"]).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "closed"),
        ("classify", "open", *CLASSIFY, "--output", "closed/x.jsonl"),
        ("classify", "open", *CLASSIFY, "--prompts", "closed/x.yaml"),
    ],
)
def test_what_may_not_be_looked_at_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that another user closed is named, whatever was looked for in it."""
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    stat = os.stat

    def refuse(path: os.PathLike[str], *more: object, **named: object) -> os.stat_result:
        if "closed/" in os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return stat(path, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "Traceback" in result.stderr) == (1, False)
    assert "closed/" in result.stderr and "try: " in result.stderr
