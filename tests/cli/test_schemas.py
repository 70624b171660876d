"""The published JSON Schemas describe what the commands print: every document and line, with no key left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from support import ROOT
from support.commands import run
from support.fakes import FakeModel
from support.fixtures import SaveImage

SCHEMAS = {path.name: json.loads(path.read_text("utf-8")) for path in (ROOT / "docs/schemas").glob("*.json")}


def closed(schema: Any) -> Any:
    """Return a schema that also refuses unknown keys, so that a key that is not described is noticed."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        inner.setdefault("unevaluatedProperties", False)
    return inner


REGISTRY: Registry[Any] = Registry().with_resources(
    [(name, Resource.from_contents(closed(schema))) for name, schema in SCHEMAS.items()]
)


def check(name: str, document: Any) -> None:
    validator = Draft202012Validator({"$ref": f"{name}.schema.json"}, registry=REGISTRY)
    problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    assert not problems, problems[:5]


@pytest.fixture
def data(images: SaveImage, fake_model: FakeModel, tmp_path: Path) -> Path:
    """Forty images under two labels, two of which are wrong, and one that cannot be read."""
    for index in range(20):
        images(f"data/red/{index}.png", "blue" if index > 18 else (250, 10 * index, 0))
        images(f"data/blue/{index}.png", "red" if index > 18 else (0, 10 * index, 250))
    (tmp_path / "data/red/broken.png").write_bytes(b"no image")
    return tmp_path / "data"


def parse(result: Any) -> Any:
    assert result.exit_code in (0, 1, 3), result.output
    return json.loads(result.stdout)


def lines(result: Any) -> Iterator[Any]:
    assert result.exit_code in (0, 3), result.output
    return map(json.loads, result.stdout.splitlines())


LABELS = ("--labels", "red,blue")


def test_learned(data: Path, images: SaveImage, tmp_path: Path) -> None:
    """The documents of `learn` and of `eval --few-shot`, which takes images that are no copies of each other."""
    for index in range(12):
        images(f"val/orange/{index}.png", (255, 60 + 35 * (index % 4), 45 * (index // 4)))
        images(f"val/violet/{index}.png", (60 + 35 * (index % 4), 45 * (index // 4), 255))
    check("learned", parse(run("learn", data, "--output", tmp_path / "l.json", "--force", "--format", "json")))
    check("learned", json.loads((tmp_path / "l.json").read_text()))
    check("few-shot", parse(run("eval", tmp_path / "val", "--few-shot", "1,2", "--seeds", "2", "--format", "json")))


def test_every_schema_is_one() -> None:
    """Each file is a schema of the draft that it names, and has a title."""
    assert len(SCHEMAS) >= 14
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        assert schema["title"], name


def test_records(data: Path, tmp_path: Path) -> None:
    """Lines and the document of `classify`: answers, unknown ones, failures, all numbers; what `--resume` reads."""
    for options in ((), ("--threshold", "0.9"), ("--fields", "similarity,logit")):
        found = list(lines(run("classify", data, *LABELS, *options)))
        assert len(found) == 41
        for record in found:
            check("record", record)
    check("record", {"path": "a", "status": "failed", "error": "damaged"})
    check("classify", parse(run("classify", data, *LABELS, "--format", "json")))
    run("classify", data, *LABELS, "--output", tmp_path / "o.jsonl", "--resume")
    check("resume", json.loads((tmp_path / "o.jsonl.manifest.json").read_text()))


def test_duplicates(data: Path) -> None:
    """Lines and the document of `duplicates`, with one group at least."""
    shutil.copy(data / "red/0.png", data / "red/copy.png")
    try:
        found = list(lines(run("duplicates", data)))
        document = parse(run("duplicates", data, "--format", "json"))
        planned = list(lines(run("duplicates", data, "--into", data.parent / "aside", "-n", "--format", "jsonl")))
    finally:
        (data / "red/copy.png").unlink()
    assert found
    for row in found:
        check("duplicate", row)
    check("duplicates", document)
    assert planned[0]["kept"]
    for row in planned:
        check("plan", row)


def test_run_status(data: Path, tmp_path: Path) -> None:
    """The document of `run status`, before and after the shards are processed."""
    run("run", "plan", data, *LABELS, "--shard-size", "30", "--into", tmp_path / "run")
    before = parse(run("run", "status", tmp_path / "run", "--format", "json"))
    run("run", "work", tmp_path / "run")
    after = parse(run("run", "status", tmp_path / "run", "--format", "json"))
    assert [(one["missing"], one["records"], len(one["made_by"])) for one in (before, after)] == [
        ([0, 1], 0, 0),
        ([], 41, 1),
    ]
    for document in (before, after):
        check("run-status", document)


def test_search(data: Path) -> None:
    """Lines and the document of `search`, by a text and by an image."""
    for hit in lines(run("search", data, "red")):
        check("hit", hit)
    check("search", parse(run("search", data, "red", "--format", "json")))
    check("search", parse(run("search", data, "--like", data / "red/0.png", "--format", "json")))


def test_prompt_check(data: Path, tmp_path: Path) -> None:
    """The document of `prompts check DIR`, on stdout and in a file, whose ending decides."""
    given = ("prompts", "check", data, *LABELS, "--candidates", "plain", "--candidates", "photo")
    document = parse(run(*given, "--format", "json"))
    check("prompt-check", document)
    assert [Path(failure["path"]).name for failure in document["failures"]] == ["broken.png"]
    assert run(*given, "--output", tmp_path / "check.json").stdout == ""
    assert json.loads((tmp_path / "check.json").read_text()) == document


def test_plans(data: Path, tmp_path: Path) -> None:
    """Lines of a dry run: images that go and images that stay."""
    options = ("--into", tmp_path / "sorted", "--dry-run", "--format", "jsonl", "--threshold", "0.9")
    found = list(lines(run("sort", data, *LABELS, *options)))
    assert {"stay", "link"} == {line["action"] for line in found}
    for line in found:
        check("plan", line)


def test_evaluations(data: Path, tmp_path: Path) -> None:
    """The documents of `eval`, of several runs, of `compare` and of `calibrate`."""
    document = parse(run("eval", data, "--format", "json", "--label-issues", "3"))
    assert document["suspects"]
    check("eval", document)
    grid = parse(run("eval", data, "--format", "json", "--prompts", "plain", "--prompts", "general"))
    assert len(grid["runs"]) == 2
    check("eval-grid", grid)
    for name in ("plain", "photo"):
        run("eval", data, "--prompts", name, "--format", "json", "--output", tmp_path / f"{name}.json")
    (tmp_path / "photo.json").write_text(swap((tmp_path / "photo.json").read_text()))
    compared = parse(run("compare", tmp_path / "plain.json", tmp_path / "photo.json", "--format", "json"))
    assert compared["lost"] or compared["gained"]
    check("compare", compared)
    for options in ((), ("--target-precision", "0.5")):
        run("calibrate", data, "--output", tmp_path / "c.json", "--force", *options)
        check("calibration", json.loads((tmp_path / "c.json").read_text()))


def test_multi_label(data: Path, tmp_path: Path) -> None:
    """Lines of `classify`, and the documents of `eval` and `calibrate`, where an image may have several labels."""
    fitted = tmp_path / "c.json"
    run("calibrate", data, "--multi-label", "--output", fitted, "--force")
    check("multi-label-calibration", json.loads(fitted.read_text()))
    check("multi-label-eval", parse(run("eval", data, "--multi-label", "--format", "json")))
    found = list(lines(run("classify", data, *LABELS, "--multi-label", "--calibration", fitted)))
    assert any(record.get("labels") for record in found)
    for record in found:
        check("record", record)


def swap(text: str) -> str:
    """Give one image of a run another answer."""
    document = json.loads(text)
    prediction = document["predictions"][0]
    prediction["top"].reverse()
    prediction["label"] = prediction["top"][0]["label"]
    return json.dumps(document)


def test_models_and_features(data: Path, tmp_path: Path) -> None:
    """The list of models, with and without every pair, the facts of one, and the manifest inside a features file."""
    check("models", parse(run("models", "list", "--format", "json")))
    check("models", parse(run("models", "list", "--all", "--format", "json")))
    check("model", parse(run("models", "info", "tiny", "--format", "json")))
    run("features", data, "--output", tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as arrays:
        check("features", json.loads(str(arrays["manifest"])))


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("path"),
        lambda record: record.update(probability=1.5),
        lambda record: record.update(label=3),
        lambda record: record.update(other=1),
    ],
)
def test_the_check_can_fail(data: Path, change: Callable[[Any], None]) -> None:
    """A missing key, a number out of range, a wrong type and a key that is not described are noticed."""
    record = next(lines(run("classify", data, *LABELS)))
    change(record)
    with pytest.raises(AssertionError):
        check("record", record)
