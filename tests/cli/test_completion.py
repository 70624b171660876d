"""What a shell completes: driven as bash and zsh drive it, through the environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zeroshot.cli.main import app


def completed(*words: str) -> list[str]:
    """Return what bash is given for the last word."""
    environment = {
        "_ZEROSHOT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("zeroshot", *words)),
        "COMP_CWORD": str(len(words)),
    }
    return CliRunner().invoke(app, [], prog_name="zeroshot", env=environment).stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["classify", "--model", "ti"], ["tiny"]),
        (["classify", "--model", "sig"], ["siglip", "siglip2"]),
        (["eval", "-m", "base-"], ["base-16"]),
        (["models", "info", "ti"], ["tiny"]),
        (["classify", "--prompts", "imagenet-"], ["imagenet-7", "imagenet-80"]),
        (["prompts", "show", "pla"], ["plain"]),
        (["prompts", "tune", "--candidates", "sat"], ["satellite"]),
        (["classify", "--labels-file", "ima"], ["imagenet"]),
        (["classify", "--model", "ViT-B-32-256", "--pretrained", ""], ["datacomp_s34b_b86k"]),
        (["classify", "--format", "t"], ["table", "tsv"]),
        (["class"], ["classify"]),
        (["classify", "--label"], ["--labels", "--labels-file"]),
        (["classify", "--model", "./fol"], []),
    ],
)
def test_values_are_offered(words: list[str], expected: list[str]) -> None:
    """Models, weight tags, template sets, lists of labels; where nothing fits, the shell offers files."""
    assert sorted(completed(*words)) == sorted(expected)


def test_architectures_are_offered_too() -> None:
    """Whatever --model takes by name."""
    assert {"ViT-B-32", "ViT-B-16", "ViT-B-16-SigLIP"} <= set(completed("classify", "--model", "ViT-B"))


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which `zeroshot` is this program."""
    (tmp_path / "zeroshot").write_text(f"#!{sys.executable}\nfrom zeroshot.__main__ import main\n\nmain()\n")
    (tmp_path / "zeroshot").chmod(0o755)
    return os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }


def output_of(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_completes(installed: dict[str, str]) -> None:
    """The script that --show-completion prints, run by bash itself."""
    script = output_of(["zeroshot", "--show-completion", "bash"], installed)
    function = re.findall(r"(?m)^(\w+)\(\)", script)[0]
    words = "COMP_WORDS=(zeroshot classify --model tin); COMP_CWORD=3"
    done = output_of(
        ["bash", "--norc", "-c", f"{script}\n{words}; {function} zeroshot; echo ${{COMPREPLY[@]}}"], installed
    )
    assert done.split() == ["tiny"]


def test_zsh_is_told(installed: dict[str, str]) -> None:
    """What zsh evaluates offers the values, and files where nothing fits."""
    zsh = installed | {"_ZEROSHOT_COMPLETE": "complete_zsh"}
    assert '"tiny"' in output_of(["zeroshot"], zsh | {"_TYPER_COMPLETE_ARGS": "zeroshot classify --model ti"})
    files = output_of(["zeroshot"], zsh | {"_TYPER_COMPLETE_ARGS": "zeroshot classify --model ./x"})
    assert files.strip() == "_files"
