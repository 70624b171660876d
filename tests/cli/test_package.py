"""The whole program as it is installed: real processes, the built-in checkpoint, the images in examples/."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import ROOT
from zeroshot import build_classifier, classify_paths, find_images, load_encoder, load_templates, parse_labels
from zeroshot.enums import Engine
from zeroshot.results import Prediction

EXAMPLES = ROOT / "examples"
SHOWN = {
    "bee": "bee",
    "bridge": "bridge",
    "cat": "cat",
    "citrus": "orange",
    "coffee": "coffee",
    "goldfish": "goldfish",
    "moose": "moose",
    "rocket": "rocket",
    "tulips": "tulip",
    "windmill": "windmill",
}
CLASSIFY = ["classify", str(EXAMPLES), "--labels", ",".join(SHOWN.values()), "--model", "tiny"]
FEW = ["bee", "cat", "goldfish", "orange"]


def start(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """Start the installed program in another folder than the checkout (-I: nothing of this process's paths)."""
    command = [sys.executable, "-I", "-m", "zeroshot", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


def run(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    process = start(*arguments, cwd=cwd, stdin=subprocess.DEVNULL)
    out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_the_readmes_images_are_recognised(tmp_path: Path) -> None:
    """The main job, offline: every image gets the label of what it shows."""
    code, out, err = run(*CLASSIFY, cwd=tmp_path)
    assert (code, err) == (0, "")
    found = {Path(record["path"]).stem: record["label"] for record in map(json.loads, out.splitlines())}
    assert found == SHOWN


def test_the_readmes_threshold_leaves_what_is_not_offered_unknown(tmp_path: Path) -> None:
    """The second command of the README: of ten images four show an offered label and get it, the others get none."""
    threshold = ["--labels", ",".join(FEW), "--threshold", "0.95", "--model", "tiny"]
    code, out, _ = run("classify", str(EXAMPLES), *threshold, cwd=tmp_path)
    assert code == 0
    found = {Path(record["path"]).stem: record["label"] for record in map(json.loads, out.splitlines())}
    assert {name: label for name, label in found.items() if label is not None} == {
        name: label for name, label in SHOWN.items() if label in FEW
    }


def test_the_narrower_label_gives_way_where_it_is_wrong(tmp_path: Path) -> None:
    """Among a kind, one of its breeds and another kind, a cat is a cat; the breed is no more likely than its kind."""
    labels = ["--labels", "dog,golden retriever,cat", "--top-k", "3", "--model", "tiny"]
    code, out, _ = run("classify", str(EXAMPLES / "cat.jpg"), *labels, cwd=tmp_path)
    assert code == 0
    ranked = [entry["label"] for entry in json.loads(out)["top"]]
    assert ranked == ["cat", "dog", "golden retriever"]


def imported(arguments: list[str], modules: set[str], cwd: Path) -> set[str]:
    """Return which of some modules a command has imported when it ends."""
    script = f"import sys; from zeroshot.__main__ import main; sys.argv[1:] = {arguments!r}\n"
    script += f"try: main()\nexcept SystemExit: pass\nprint(*{modules!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=cwd, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_nothing_quick_imports_torch(tmp_path: Path) -> None:
    """Neither help nor lists nor a run with the built-in checkpoint import torch, torchvision or open_clip."""
    heavy = {"torch", "torchvision", "open_clip", "transformers"}
    for arguments in (["--help"], ["classify", "--help"], ["prompts", "list"], ["models", "list", "--all"], CLASSIFY):
        assert imported(arguments, heavy, tmp_path) == set(), arguments


@pytest.mark.parametrize("arguments", [["--help"], ["prompts", "list"], ["models", "list"]])
def test_what_only_prints_imports_little_beyond_typer(tmp_path: Path, arguments: list[str]) -> None:
    """These take less than twice the time of `import typer`: nothing of other commands, nor what typer can spare."""
    heavy = {"numpy", "PIL", "onnxruntime", "tokenizers", "sqlite3", "asyncio", "hashlib", "pydantic", "rich"}
    assert imported(arguments, heavy | {"zeroshot.cli.classify", "zeroshot.sort.place_image"}, tmp_path) == set()


def test_a_run_imports_nothing_of_what_it_does_not_use(tmp_path: Path) -> None:
    """Images and labels need no evaluation, page, export, hub client, downloads or other processes."""
    spared = {"zeroshot.evaluation", "zeroshot.learn", "zeroshot.explore", "zeroshot.distribute", "zeroshot.search"}
    spared |= {"zeroshot.output.report", "zeroshot.engines.export", "zeroshot.engines.torch_engine", "zeroshot.sort"}
    spared |= {"zeroshot.images.fast_resize", "zeroshot.images.sources.web", "zeroshot.images.sources.stores"}
    spared |= {"statistics", "multiprocessing", "asyncio", "jinja2", "huggingface_hub", "http.client", "ssl", "ftfy"}
    spared |= {"regex", "pyarrow", "safetensors", "pillow_heif", "rawpy", "cykooz_resizer", "rich.progress"}
    spared |= {"pydantic", "importlib.metadata", "email", "html", "numpy.random"}
    spared |= {"tarfile", "zipfile", "zeroshot.images.sources.archives", "zeroshot.images.sources.parquet"}
    assert imported(CLASSIFY, spared, tmp_path) == set()
    spared = {"sqlite3", "zeroshot.features.cache", "PIL.TiffImagePlugin"}
    assert imported([*CLASSIFY, "--no-cache"], spared, tmp_path) == set()


def test_the_shipped_template_sets_are_found_outside_the_checkout(tmp_path: Path) -> None:
    """An installed package has its prompts with it, and open_clip's by reference."""
    code, out, _ = run("prompts", "list", cwd=tmp_path)
    assert code == 0
    assert {"general", "plain", "photo", "imagenet-80", "imagenet-7"} <= {line.split()[0] for line in out.splitlines()}
    assert len(run("prompts", "show", "imagenet-80", cwd=tmp_path)[1].splitlines()) > 80


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """A reader that has had enough, such as `head -1`, ends the run quietly."""
    listing = tmp_path / "list"
    listing.write_text(f"{EXAMPLES / 'bee.jpg'}\n" * 3000)
    process = start("classify", "--files-from", str(listing), "--labels", "coffee,bee", "--model", "tiny")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["path"]
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_page_that_is_not_written_is_told(tmp_path: Path) -> None:
    """A reader that has had enough ends the run before the last record: the page that was asked for is named."""
    listing = tmp_path / "list"
    listing.write_text(f"{EXAMPLES / 'bee.jpg'}\n" * 3000)
    page = tmp_path / "page.html"
    process = start(
        *("classify", "--files-from", str(listing), "--labels", "coffee,bee", "--model", "tiny", "--report", str(page))
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["path"]
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait() == 1
    assert f"{page} is not written: stdout was closed before the last record" in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == [listing]


@pytest.mark.parametrize("more", [[], ["--no-cache"]])
def test_nothing_but_features_is_stored(tmp_path: Path, more: list[str]) -> None:
    """No library of the engine leaves files of its own in the user's folders, such as a device ID."""
    home = {name: str(tmp_path / name) for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "ZEROSHOT_"))}
    process = start(*CLASSIFY, *more, env=kept | home, cwd=tmp_path)
    process.communicate()
    assert process.returncode == 0
    stored = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*") if path.is_file()}
    assert stored == (set() if more else {("XDG_CACHE_HOME", "zeroshot")})


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_has_said_what_it_knew(tmp_path: Path, number: int, code: int) -> None:
    """Records come out as paths come in; a signal then ends the run with its exit code and whole lines."""
    # A background job has these ignored, and its children inherit that; a handler of any kind is not inherited.
    before = signal.signal(number, signal.default_int_handler)
    process = start("classify", "-", "--labels", "coffee,bee", "--model", "tiny", stdin=subprocess.PIPE)
    signal.signal(number, before)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(os.fsencode(EXAMPLES / "bee.jpg") + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["label"] == "bee"  # while stdin is still open
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (code, b""), err
    assert b"Traceback" not in err


def test_the_engines_agree() -> None:
    """ONNX Runtime and PyTorch give the same first label and probabilities to 1e-3, on every image at hand."""
    photographs = ROOT.parent / "shared" / "photos"
    paths = list(find_images([str(folder) for folder in (EXAMPLES, photographs) if folder.is_dir()]))
    names = sorted(path.name for path in photographs.iterdir()) if photographs.is_dir() else []
    labels, templates = parse_labels(",".join(dict.fromkeys([*SHOWN.values(), *names]))), load_templates("general")
    answers = []
    for engine in (Engine.ONNX, Engine.TORCH):
        encoder = load_encoder("tiny", engine=engine)
        assert encoder.spec.engine is engine
        answers.append(list(classify_paths(encoder, build_classifier(encoder, labels, templates), paths)))
    for one, other in zip(*answers, strict=True):
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert one.label == other.label
        assert [r.probability for r in one.top] == pytest.approx([r.probability for r in other.top], abs=1e-3)


def test_the_doctor_finds_this_installation_sound(tmp_path: Path) -> None:
    """Every check passes, the reference features of the built-in checkpoint among them."""
    code, out, _ = run("doctor", cwd=tmp_path)
    assert code == 0, out
    assert "tiny reference features" in out
    assert "BAD" not in out


def test_the_checkpoint_is_small_and_whole() -> None:
    """All files of the built-in checkpoint are at most 20 MB, and its features are unit rows of numbers."""
    folder = ROOT / "zeroshot" / "models" / "checkpoints" / "tiny"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20_000_000
    rows = load_encoder("tiny").encode_texts(["cat", "", "a photo of a very small dog"])
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)
