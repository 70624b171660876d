"""`zeroshot models` as it is typed, against a stand-in for the hub, in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support import ROOT
from support.fixtures import SaveModelFolder
from support.hub_server import serve
from support.models import CONFIG as SMALL
from support.models import PREPROCESS, flip_a_bit
from zeroshot.cli.main import app
from zeroshot.encoder import Preprocessing
from zeroshot.engines import choose
from zeroshot.enums import Interpolation, ResizeMode
from zeroshot.models import checkpoint, resolvers

REPO, WEIGHTS = "org/model", b"weights" * 1000
CONFIG = {
    "model_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": 32}, "text_cfg": {}},
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
}
FILES = {"open_clip_config.json": json.dumps(CONFIG).encode(), "open_clip_model.safetensors": WEIGHTS}


def zeroshot(url: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_CACHE": str(cache), "HF_HUB_ETAG_TIMEOUT": "1"}
    command = [sys.executable, "-m", "zeroshot", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_pulling_brings_a_model_once(tmp_path: Path) -> None:
    """The first pull names what it downloads and prints the hash; the second needs no body of the weights."""
    with serve({REPO: FILES}) as server:
        first = zeroshot(server.url, tmp_path, "models", "pull", f"hf-hub:{REPO}", "--no-export")
        assert first.returncode == 0, first.stderr
        assert f"downloading {REPO}/open_clip_model.safetensors" in first.stderr
        assert hashlib.sha256(WEIGHTS).hexdigest() in first.stdout
        again = zeroshot(server.url, tmp_path, "models", "pull", f"hf-hub:{REPO}", "--no-export")
        assert again.returncode == 0, again.stderr
        assert len(server.bodies("open_clip_model.safetensors")) == 1


def test_without_a_network_the_way_out_is_named(tmp_path: Path) -> None:
    """One line that says so, and a hint with the built-in model, pulling ahead, and bringing a folder; exit code 1."""
    closed = "http://127.0.0.1:9"  # discard: nothing listens there
    image = str(ROOT / "examples" / "bee.jpg")
    done = zeroshot(closed, tmp_path, "classify", image, "--labels", "a,b", "--model", "base")
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert "cannot be downloaded" in error
    assert all(words in hint for words in ("--model tiny", "zeroshot models pull", "open_clip_config.json"))


def test_the_built_in_model_needs_no_pulling(tmp_path: Path) -> None:
    """Pulling it says so and downloads nothing."""
    done = zeroshot("http://127.0.0.1:9", tmp_path, "models", "pull", "tiny")
    assert (done.returncode, done.stderr) == (0, "")
    assert "inside the package" in done.stdout


def test_a_damaged_export_is_said_on_stderr(save_model_folder: SaveModelFolder, tmp_path: Path) -> None:
    """Damaged weights end the run with the file and the command; a damaged graph is a line, and PyTorch answers."""
    folder = save_model_folder(tmp_path / "small", SMALL, PREPROCESS)
    export = choose.export_model(resolvers.resolve(str(folder)))
    image = str(ROOT / "examples" / "bee.jpg")
    run = ["classify", image, "--labels", "a,b", "--model", str(folder), "--device", "cpu", "--no-cache"]
    flip_a_bit(export / "image.onnx.data")
    done = zeroshot("http://127.0.0.1:9", tmp_path, *run)
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert error.endswith("image.onnx.data is missing or damaged")
    assert f"`zeroshot models pull {folder}` exports it again, or use --engine torch" in hint
    flip_a_bit(export / "image.onnx")
    done = zeroshot("http://127.0.0.1:9", tmp_path, *run)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    (warning,) = done.stderr.splitlines()
    assert "image.onnx is missing or damaged; going on with PyTorch" in warning


def test_pulling_takes_the_preprocessing_of_a_bare_weights_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose preprocessing open_clip does not know can be exported once it is named, as it can be used."""
    weights = tmp_path / "mine.pt"
    weights.write_bytes(b"weights")
    exported: list[checkpoint.Source] = []
    (tmp_path / "export").mkdir()
    monkeypatch.setattr(choose, "export_model", lambda source, **_: exported.append(source) or tmp_path / "export")
    monkeypatch.setattr(choose, "time_opening", lambda folder: 0.5)
    monkeypatch.setattr(choose, "find_export", lambda files: tmp_path / "export")
    pull = ["models", "pull", "ViT-S-32-alt", "--pretrained", str(weights)]
    done = CliRunner().invoke(app, pull)
    assert done.exit_code == 2
    assert "--preprocess" in done.stderr
    (tmp_path / "how.json").write_text(
        '{"preprocess_cfg": {"size": 96, "mode": "RGB", "mean": [0.5, 0.4, 0.3], "std": 0.2,'
        ' "interpolation": "bilinear", "resize_mode": "squash"}}'
    )
    done = CliRunner().invoke(app, [*pull, "--preprocess", str(tmp_path / "how.json")])
    assert done.exit_code == 0, done.stderr
    (source,) = exported
    assert source.preprocessing == Preprocessing(
        (224, 224), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), Interpolation.BILINEAR, ResizeMode.SQUASH
    )


def test_pulling_says_what_it_stores_and_gains(save_model_folder: SaveModelFolder, tmp_path: Path) -> None:
    """How much before it is written and after, where, in how many seconds, and those until a model is ready."""
    folder = save_model_folder(tmp_path / "small", SMALL, PREPROCESS)
    done = CliRunner().invoke(app, ["models", "pull", str(folder)])
    export = choose.find_export(resolvers.obtain(resolvers.resolve(str(folder))))
    assert export is not None
    size = sum(path.stat().st_size for path in export.iterdir())
    announced = re.search(rf"will store ([\d.]+) MB in {re.escape(str(export.parent))} \.\.\.", done.stderr)
    assert announced and 0.8 * size < 1e6 * float(announced[1]) < size, done.stderr
    _, made, gained = done.stdout.splitlines()
    assert re.fullmatch(rf"exported in \d+ s to {re.escape(str(export))}, [\d.]+ MB; CPU runs will use it", made)
    assert re.fullmatch(r"ready to encode in \d+\.\d s, instead of \d+\.\d s with PyTorch", gained)


def test_an_export_after_a_run_is_the_next_runs_engine(save_model_folder: SaveModelFolder, tmp_path: Path) -> None:
    """The same answers, from graphs; what was exported once is left alone."""
    folder = save_model_folder(tmp_path / "small", SMALL, PREPROCESS)
    records = [tmp_path / "first.json", tmp_path / "second.json"]
    run = ["classify", str(ROOT / "examples" / "bee.jpg"), "--labels", "a,b", "--model", str(folder), "--no-cache"]
    run += ["--device", "cpu", "--export", "--output"]
    first, second = (CliRunner().invoke(app, [*run, str(path)]) for path in records)
    assert f"exported {folder} in" in first.stderr
    assert (first.exit_code, second.exit_code, second.stderr) == (0, 0, "")
    documents = [json.loads(path.read_text()) for path in records]
    assert [document["manifest"]["model"]["engine"] for document in documents] == ["torch", "onnx"]
    found = [document["records"][0]["top"][0] for document in documents]
    assert found[0]["label"] == found[1]["label"]
    assert found[0]["probability"] == pytest.approx(found[1]["probability"], abs=1e-4)
    assert "exported" not in CliRunner().invoke(app, [*run[:-1], "--engine", "torch"]).stderr


def test_who_reads_the_results_does_not_wait_for_the_export(save_model_folder: SaveModelFolder, tmp_path: Path) -> None:
    """Stdout ends before the export begins, which here waits for its reader's word."""
    folder = save_model_folder(tmp_path / "small", SMALL, PREPROCESS)
    run = ["classify", str(ROOT / "examples" / "bee.jpg"), "--labels", "a,b", "--model", str(folder), "--no-cache"]
    script = "import sys; from zeroshot.engines import choose; from zeroshot.__main__ import main\n"
    script += "choose.export_loaded = lambda *_: print('told', sys.stdin.readline().strip(), file=sys.stderr)\n"
    script += f"sys.argv[1:] = {[*run, '--device', 'cpu', '--export']!r}; main()"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", script], text=True, **pipes) as process:
        assert process.stdin and process.stdout and process.stderr
        assert process.stdout.read().count("\n") == 1  # to its end
        process.stdin.write("go\n")
        process.stdin.close()
        assert process.stderr.read() == "told go\n"
    assert process.returncode == 0


def test_pulling_says_when_another_export_is_preferred(save_model_folder: SaveModelFolder, tmp_path: Path) -> None:
    """A folder that holds graphs of its own is used before the cache's; the way to use this one is named."""
    folder = save_model_folder(tmp_path / "small", SMALL, PREPROCESS)
    shutil.copytree(choose.export_model(resolvers.resolve(str(folder))), folder, dirs_exist_ok=True)
    done = CliRunner().invoke(app, ["models", "pull", str(folder)])
    assert done.exit_code == 0, done.stderr
    assert f"{folder} holds an export of its own" in done.stderr
    (folder / "zeroshot.json").unlink()
    assert "of its own" not in CliRunner().invoke(app, ["models", "pull", str(folder)]).stderr


def test_the_list_is_a_versioned_document_too() -> None:
    """`models list --format json` has a key for each column, numbers as numbers, and null for what there is none of."""
    done = CliRunner().invoke(app, ["models", "list", "--format", "json"])
    document = json.loads(done.stdout)
    assert list(document) == ["format", "version", "models"]
    assert (document["format"], document["version"]) == ("zeroshot-models", 1)
    rows = {row["name"]: row for row in document["models"]}
    assert list(rows) == [alias.name for alias in resolvers.ALIASES]
    assert rows["base"] == {
        "name": "base",
        "architecture": "ViT-B-32-256",
        "pretrained": "datacomp_s34b_b86k",
        "megabytes": 605,
        "imagenet_top1": 72.81,
        "licence": "MIT",
        "source": "DataComp, laion",
        "note": "the default: accurate for its size",
    }
    assert (rows["tiny"]["architecture"], rows["tiny"]["imagenet_top1"]) == (None, None)
    every = json.loads(CliRunner().invoke(app, ["models", "list", "--all", "--format", "json"]).stdout)
    assert {"architecture": "ViT-B-32", "pretrained": "openai"} in every["pretrained"]


def test_listing_imports_nothing_heavy() -> None:
    """In neither form does the list import what would make it slow; test_package knows more of the first."""
    code = (
        "import sys; from zeroshot.__main__ import main; sys.argv[1:] = ['models', 'list', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'open_clip', 'onnxruntime', 'rich', 'PIL', 'yaml', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    for options in ([], ["--format", "json"]):
        done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]"
        assert "ViT-B-32-256" in done.stdout


def test_pulling_notices_damage_to_what_was_downloaded(tmp_path: Path) -> None:
    """A cached file whose bits turned is named with what to do, and doing it brings the file again."""
    with serve({REPO: FILES}) as server:
        pull = ["models", "pull", f"hf-hub:{REPO}", "--no-export"]
        assert zeroshot(server.url, tmp_path, *pull).returncode == 0
        (weights,) = tmp_path.rglob("open_clip_model.safetensors")
        flip_a_bit(weights.resolve())
        damaged = zeroshot(server.url, tmp_path, *pull)
        assert damaged.returncode == 1
        assert f"remove {weights.resolve()}, then" in damaged.stderr
        weights.resolve().unlink()
        assert zeroshot(server.url, tmp_path, *pull).returncode == 0
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_card_in_another_encoding_is_shown(save_model_folder: SaveModelFolder, tmp_path: Path) -> None:
    """What is not UTF-8 in a model's card is marked, and no reason to stop."""
    folder = save_model_folder(tmp_path / "small", SMALL, PREPROCESS)
    (folder / "README.md").write_bytes(b"a caf\xe9 for images")
    shown = CliRunner().invoke(app, ["models", "info", str(folder)], catch_exceptions=False)
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "a caf\ufffd for images")
