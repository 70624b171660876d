"""The documents name only options that exist, and their command lines are accepted by the program's own parser."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from support import ROOT
from zeroshot.cli.main import app

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.sh"))]
OTHERS = {"--strict", "--check", "--every-moment", "--photos", "--data", "--photographs", "--out"}
OTHERS |= {"--array", "--gres", "--requeue", "--generate", "--head", "--address", "--runs", "--no-encoder"}
OTHERS |= {"--only-named", "--store", "--ray", "--ray-store"}
"""Options of other programs and of tools/."""


def context_of(command: Any) -> Any:
    return command.make_context("zeroshot", [], resilient_parsing=True)


def leaves(command: Any, name: str = "") -> Iterator[Any]:
    """Yield every command that takes no further command."""
    if not hasattr(command, "list_commands"):
        yield command
        return
    context = context_of(command)
    for below in command.list_commands(context):
        yield from leaves(command.resolve_command(context, [below])[1], below)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield each command line of this program in a document's console block or a script, and its arguments."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [text] if page.suffix == ".sh" else re.findall(r"(?ms)^```(?:console|sh)\n(.*?)^```$", text)
        for line in "".join(blocks).replace("\\\n", " ").splitlines():
            tokens = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;()<>")
            tokens.whitespace_split = True
            words = list(tokens)
            for place, word in enumerate(words):
                if word == "zeroshot" and (place == 0 or words[place - 1] in {"|", "&&", "(", "||", "$(", "$"}):
                    end = next((i for i in range(place, len(words)) if set(words[i]) <= set("|&;()<>")), len(words))
                    yield f"{page.name}: {line}", words[place + 1 : end]


def test_every_option_in_the_documents_exists() -> None:
    """What the documents call an option is one, of some command."""
    commands = [get_command(app), *leaves(get_command(app))]
    known = {option for command in commands for p in command.params for option in [*p.opts, *p.secondary_opts]}
    known |= OTHERS | {"--help"}
    for page in PAGES:
        lines = [line for line in page.read_text(encoding="utf-8").splitlines() if "-->" not in line]  # not the drawing
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*\b", "\n".join(lines)))
        assert named <= known, f"{page.name} names {sorted(named - known)}"


def test_the_documents_have_command_lines() -> None:
    """The pattern that finds command lines still finds them, in more than one document."""
    assert len({shown.partition(":")[0] for shown, _ in command_lines()}) >= 3


@pytest.mark.parametrize(("shown", "arguments"), [pytest.param(*line, id=line[0]) for line in command_lines()])
def test_every_command_line_in_the_documents_is_accepted(shown: str, arguments: list[str]) -> None:
    """Typer parses it: the command, its options and the types of their values."""
    command, rest = get_command(app), arguments
    while hasattr(command, "list_commands"):
        assert rest, shown
        _, command, rest = command.resolve_command(context_of(command), rest)
    command.make_context(shown, list(rest))


def test_the_notebook_gives_the_output_that_it_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells run in order, and print what stands below them."""
    monkeypatch.chdir(ROOT / "docs")
    names: dict[str, Any] = {}
    cells = json.loads((ROOT / "docs/library.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 3
    for cell in code:
        exec("".join(cell["source"]), names)
        shown = "".join("".join(output["text"]) for output in cell["outputs"])
        assert capsys.readouterr().out == shown


def test_the_library_examples_in_the_usage_page_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Python blocks of the page run one after the other, in a folder with the examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / "docs/usage.md").read_text(encoding="utf-8"))
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert {outcome.reason for outcome in names["done"].outcomes} == {""}
    assert len(names["found"].hits) == 3


def test_what_contributing_names_is_there() -> None:
    """Each file and folder that it sends a contributor to, and each test in the file it is said to be in."""
    text = (ROOT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:zeroshot|tests|docs|prompts|tools|engines)/[\w./]*)`", text))
    assert len(named) > 12
    for name in sorted(named):
        assert (ROOT / name).exists() or (ROOT / "zeroshot" / name).exists(), name
    tests = re.findall(r"`(test_\w+)` in `([\w./]+)`", text)
    assert tests and all(f"def {test}(" in (ROOT / file).read_text(encoding="utf-8") for test, file in tests)


@pytest.mark.parametrize("page", ["README.md", "docs/design.md"])
def test_the_drawing_of_the_layout_is_the_layout(page: str) -> None:
    """Each folder and file of the package stands in the drawing, nothing else, and imports run down it."""
    drawn = re.findall(r"^([a-z_]+(?:/|\.py)) {2,}", (ROOT / page).read_text(), re.MULTILINE)
    there = {
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in (ROOT / "zeroshot").iterdir()
        if entry.suffix in ("", ".py") and not entry.name.startswith("__")
    }
    assert sorted(drawn) == sorted(there)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["zeroshot"])
    places = {name: place for place, layer in enumerate(layers) for name in layer.split(" | ")}
    assert drawn == sorted(drawn, key=lambda name: places[name.removesuffix("/").removesuffix(".py")])


@pytest.fixture
def scale_files(tmp_path: Path) -> tuple[str, dict[str, Any], dict[str, str]]:
    """The files to copy in docs/scale.md, and the environment of a shell whose ``zeroshot`` says how it was called."""
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    slurm = re.search(r"(?ms)^```sh\n(#!.*?)^```$", page)
    kubernetes = re.search(r"(?ms)^```yaml\n(.*?)^```$", page)
    assert slurm and kubernetes
    stand_in = tmp_path / "zeroshot"
    stand_in.write_text('#!/bin/sh\necho "$@"\nexit "$CODE"\n')
    stand_in.chmod(0o755)
    return slurm[1], yaml.safe_load(kubernetes[1]), os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_the_kubernetes_file_has_the_form_of_a_job(scale_files: tuple[str, dict[str, Any], dict[str, str]]) -> None:
    """Kubernetes' own schema knows every key of it."""
    validate = pytest.importorskip("kubernetes_validate", reason="pip install '.[scale-test]'").validate
    validate(scale_files[1], "1.30", strict=True)


@pytest.mark.skipif(os.name == "nt", reason="they are for sh")
@pytest.mark.parametrize(("code", "ends"), [(0, 0), (3, 0), (1, 1), (137, 1)])
def test_files_for_array_jobs_name_each_share(
    code: int, ends: int, scale_files: tuple[str, dict[str, Any], dict[str, str]]
) -> None:
    """The I-th task takes the I-th share, counted from 1; 3 counts as done, other codes do not."""
    slurm, job, environment = scale_files
    environment |= {"RUN": "s3://bucket/run", "CODE": str(code)}
    ours = {"SLURM_ARRAY_TASK_ID": "64", "SLURM_ARRAY_TASK_COUNT": "64"}
    assert not subprocess.run(["bash", "-n"], input=slurm, text=True).returncode
    ended = subprocess.run(["sh", "-c", slurm], env=environment | ours, capture_output=True, text=True)
    assert (ended.stdout, bool(ended.returncode)) == ("run work s3://bucket/run --shard 64/64\n", bool(ends))
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"], spec["completionMode"]) == ("batch/v1", "Job", "Indexed")
    container = spec["template"]["spec"]["containers"][0]
    command = [*container["command"], *container["args"]]
    for index in (0, spec["completions"] - 1):
        ended = subprocess.run(
            command, env=environment | {"JOB_COMPLETION_INDEX": str(index)}, capture_output=True, text=True
        )
        share = f"{index + 1}/{spec['completions']}"
        assert (ended.stdout, bool(ended.returncode)) == (f"run work s3://bucket/run --shard {share}\n", bool(ends))
