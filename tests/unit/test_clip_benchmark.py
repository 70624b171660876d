"""Data sets in CLIP_benchmark's layout: their own names and templates, the protocol's numbers, damage named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support.fakes import COLOURS
from zeroshot.cli.main import app
from zeroshot.errors import InputError, PromptError, ZeroshotError
from zeroshot.evaluation.clip_benchmark import is_webdataset, open_webdataset

NAMES = ["red", "green", "blue", "yellow", "cyan", "magenta"]
TEMPLATES = ["a photo of a {c}.", "{c}, seen from close by"]
runner = CliRunner()


def image(colour: tuple[int, int, int], size: tuple[int, int] = (24, 16), seed: int | None = None) -> bytes:
    image = Image.new("RGB", size, colour)
    if seed is not None:
        noise = np.random.default_rng(seed).integers(0, 255, size=(*size[::-1], 3), dtype=np.uint8)
        image = Image.blend(image, Image.fromarray(noise), 0.6)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two shards with thirty noisy images of six colours; the last three are in the wrong class."""
    root = tmp_path / "colours"
    root.mkdir()
    (root / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    (root / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES) + "\n")
    members = []
    for index in range(30):
        colour = COLOURS[NAMES[(index + (index > 26)) % 6]]
        members.append((f"s{index:07d}.png", image(colour, seed=index)))
        members.append((f"s{index:07d}.cls", str(index % 6).encode()))
    write_shard(root / "test" / "0.tar", members[:40])
    write_shard(root / "test" / "1.tar", members[40:])
    (root / "test" / "nshards.txt").write_text("2\n")
    return root


def test_reads_names_templates_and_images(data: Path) -> None:
    """Labels are the lines' numbers, templates are the data set's own, and images keep their names in the shards."""
    assert is_webdataset(str(data))
    with open_webdataset(str(data)) as opened:
        assert opened.dataset.labels.names == tuple(NAMES)
        assert opened.dataset.targets.tolist() == [index % 6 for index in range(30)]
        assert opened.templates.templates == tuple(TEMPLATES)
        files = opened.dataset.paths
        assert all(Path(path).is_file() for path in files)
        assert opened.shown[files[0]] == f"{data}/test/0.tar/s0000000.png"
        assert opened.shown[files[29]] == f"{data}/test/1.tar/s0000029.png"
    assert not any(Path(path).exists() for path in files)


def test_evaluates_with_its_own_templates(fake_model, data: Path) -> None:
    """`eval` finds the layout, uses its templates, reports the shards' names, and leaves EXIF alone."""
    result = runner.invoke(app, ["eval", str(data)])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["metrics"]["top1"]["value"] == 0.9
    assert document["manifest"]["prompts"]["templates"] == TEMPLATES
    assert document["manifest"]["options"]["exif"] is False
    assert document["predictions"][0]["path"] == f"{data}/test/0.tar/s0000000.png"
    other = json.loads(runner.invoke(app, ["eval", str(data), "--prompts", "photo"]).stdout)
    assert other["manifest"]["prompts"]["name"] == "photo"


def test_report_shows_images(fake_model, data: Path, tmp_path: Path) -> None:
    """The report has the thumbnails of images that lie in shards."""
    page = tmp_path / "report.html"
    assert runner.invoke(app, ["eval", str(data), "--report", str(page)]).exit_code == 0
    assert page.read_text().count("data:image/webp;base64,") >= 30
    assert "no image" not in page.read_text()


@pytest.mark.parametrize("names", [["../../evil.png", "../../evil.cls"], ["/tmp/evil.png", "/tmp/evil.cls"]])
def test_names_decide_no_place(data: Path, tmp_path: Path, names: list[str]) -> None:
    """A name that points out of the folder is only a name."""
    write_shard(data / "test" / "1.tar", [(names[0], image((1, 2, 3))), (names[1], b"0")])
    with open_webdataset(str(data)) as opened:
        folder = Path(opened.dataset.paths[0]).parent
        assert {Path(path).parent for path in opened.dataset.paths} == {folder}
    assert not list(tmp_path.parent.glob("evil*"))


def damage_label(root: Path) -> None:
    write_shard(root / "test" / "1.tar", [("a.png", b"x"), ("a.cls", b"99")])


def damage_number(root: Path) -> None:
    write_shard(root / "test" / "1.tar", [("a.png", b"x"), ("a.cls", b"[1, 2]")])


def damage_pair(root: Path) -> None:
    write_shard(root / "test" / "1.tar", [("a.png", b"x")])


def damage_shard(root: Path) -> None:
    (root / "test" / "1.tar").write_bytes((root / "test" / "1.tar").read_bytes()[:1300])


def damage_count(root: Path) -> None:
    (root / "test" / "nshards.txt").write_text("3")


def damage_number_of_shards(root: Path) -> None:
    (root / "test" / "nshards.txt").write_text("two")


def damage_template(root: Path) -> None:
    (root / "zeroshot_classification_templates.txt").write_text("a photo.\n")


def damage_nothing_there(root: Path) -> None:
    for index in (0, 1):
        write_shard(root / "test" / f"{index}.tar", [("readme.txt", b"x")])


@pytest.mark.parametrize(
    "damage, error, message",
    [
        (damage_label, InputError, r"a\.png has label 99, but classnames\.txt has 6 names"),
        (damage_number, InputError, r"a\.cls holds no label's number"),
        (damage_pair, InputError, r"a\.png has no label"),
        (damage_shard, InputError, r"1\.tar cannot be read"),
        (damage_count, InputError, r"1 of 3 shards are missing: .*2\.tar"),
        (damage_number_of_shards, InputError, r"'two' is not a number"),
        (damage_template, PromptError, r"'a photo\.' has no placeholder"),
        (damage_nothing_there, InputError, "no labelled images"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damage_is_named(data: Path, damage, error: type[ZeroshotError], message: str) -> None:
    """What is missing or damaged is said in one line, and nothing stays behind."""
    damage(data)
    with pytest.raises(error, match=message), open_webdataset(str(data)):
        pass


def test_other_split(data: Path) -> None:
    """A split that is not there is answered with those that are."""
    with pytest.raises(InputError, match="no shards in") as caught, open_webdataset(str(data), "train"):
        pass
    assert caught.value.hint == "--split test"


def test_names_are_its_own(fake_model, data: Path) -> None:
    """--label-names makes no sense for a data set that brings its names."""
    result = runner.invoke(app, ["eval", str(data), "--label-names", "imagenet"])
    assert result.exit_code == 2
    assert "brings its own names" in result.stderr


def test_gives_the_protocols_numbers(open_clip: ModuleType, save_model_folder, data: Path, tmp_path: Path) -> None:
    """Top-1, top-5 and mean recall are those of the protocol, computed here with torch and open_clip as it has them."""
    import torch
    from sklearn.metrics import balanced_accuracy_score

    model_cfg = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    }
    preprocess_cfg = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
    folder = save_model_folder(tmp_path / "model", model_cfg, preprocess_cfg)
    result = runner.invoke(app, ["eval", str(data), "--model", str(folder), "--engine", "torch"])
    assert result.exit_code == 0, result.stderr
    ours = json.loads(result.stdout)["metrics"]

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    images, targets = [], []
    for shard in ("0.tar", "1.tar"):
        with tarfile.open(data / "test" / shard) as archive:
            for member in archive:
                content = archive.extractfile(member).read()
                if member.name.endswith(".cls"):
                    targets.append(int(content))
                else:
                    images.append(transform(Image.open(io.BytesIO(content)).convert("RGB")))
    with torch.no_grad():
        rows = []
        for name in NAMES:
            texts = model.encode_text(tokenizer([template.format(c=name) for template in TEMPLATES]))
            mean = torch.nn.functional.normalize(texts, dim=-1).mean(dim=0)
            rows.append(mean / mean.norm())
        features = torch.nn.functional.normalize(model.encode_image(torch.stack(images)), dim=-1)
        logits = 100.0 * features @ torch.stack(rows).T
    truth = torch.tensor(targets)
    best = logits.topk(5, dim=1).indices
    assert ours["top1"]["value"] == pytest.approx(float((best[:, 0] == truth).float().mean()), abs=1e-6)
    assert ours["top5"]["value"] == pytest.approx(float((best == truth[:, None]).any(dim=1).float().mean()), abs=1e-6)
    assert ours["mean_recall"]["value"] == pytest.approx(balanced_accuracy_score(targets, best[:, 0]), abs=1e-9)
