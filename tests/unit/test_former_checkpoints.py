"""What was made with a former built-in checkpoint is another model's: its cache, its calibrations and its results."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from support import ROOT
from zeroshot import build_classifier, load_encoder, load_templates, parse_labels
from zeroshot.cli.main import app
from zeroshot.encoder import Encoder, EncoderSpec
from zeroshot.errors import InputError
from zeroshot.evaluation.calibration_file import CALIBRATION_FORMAT, VERSION, identify, load_calibration
from zeroshot.features.cache import FeatureCache
from zeroshot.features.keys import image_key, text_key
from zeroshot.images.decode import DecodeOptions

# SHA-256 of former weights: those trained from scratch, and the first on a pretrained tower.
FORMER = [
    "315dafd3b7676e5feb71ff64104c64b9c45f81da9cc5e6a00695b28ee2bf2bdf",
    "ee0faefab23ddcb6cd308a645fd0663724fad66e9c75711785fa299096c16b57",
]


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return load_encoder("tiny")


@pytest.fixture(params=FORMER)
def former(tiny: Encoder, request: pytest.FixtureRequest) -> EncoderSpec:
    """The facts of the checkpoint with a former one's weights; all else may well be the same."""
    return replace(tiny.spec, weights_sha256=request.param)


def test_features_that_a_former_checkpoint_cached_are_not_found(
    tiny: Encoder, former: EncoderSpec, tmp_path: Path
) -> None:
    """Image and text features are kept under the weights' hash; those of former weights are never read."""
    store = FeatureCache(tmp_path / "features.sqlite")
    row = np.ones(tiny.spec.dim, np.float32)
    for old, new in (
        (image_key(former, DecodeOptions(), b""), image_key(tiny.spec, DecodeOptions(), b"")),
        (text_key(former), text_key(tiny.spec)),
    ):
        store.add(old, "tiny", [(b"content", row)])
        assert store.find(old, b"content", tiny.spec.dim) is not None
        assert store.find(new, b"content", tiny.spec.dim) is None


def test_a_calibration_of_a_former_checkpoint_is_refused(tiny: Encoder, former: EncoderSpec, tmp_path: Path) -> None:
    """The message says that it was fitted for another tiny, and how to fit one."""
    classifier = build_classifier(tiny, parse_labels("bee,goldfish"), load_templates("general"))
    path = tmp_path / "calibration.json"
    document = {"format": CALIBRATION_FORMAT, "version": VERSION, "temperature": 1.1, "threshold": 0.5}
    path.write_text(json.dumps(document | {"fitted_for": asdict(identify(tiny.spec, classifier))}))
    assert load_calibration(path, tiny.spec, classifier).temperature == 1.1
    path.write_text(json.dumps(document | {"fitted_for": asdict(identify(former, classifier))}))
    with pytest.raises(InputError, match="another tiny: its weights") as refused:
        load_calibration(path, tiny.spec, classifier)
    assert "zeroshot calibrate" in str(refused.value.hint)


def test_results_of_a_former_checkpoint_are_not_continued(tiny: Encoder, former: EncoderSpec, tmp_path: Path) -> None:
    """`--resume` names the weights as what differs, and the results stay as they were."""
    images = [str(ROOT / "examples" / name) for name in ("bee.jpg", "goldfish.jpg")]
    target = tmp_path / "answers.jsonl"
    command = ["classify", *images, "--labels", "bee,goldfish", "--model", "tiny", "--output", str(target)]
    runner = CliRunner()
    assert runner.invoke(app, [*command, "--resume"]).exit_code == 0
    assert "complete already" in runner.invoke(app, [*command, "--resume"]).stderr
    manifest = tmp_path / "answers.jsonl.manifest.json"
    text = manifest.read_text()
    assert tiny.spec.weights_sha256 in text
    for now, then in ((tiny.spec.weights_sha256, former.weights_sha256), (tiny.spec.fingerprint, former.fingerprint)):
        text = text.replace(now, then)
    manifest.write_text(text)
    before = target.read_bytes()
    result = runner.invoke(app, [*command, "--resume"])
    assert result.exit_code == 1
    assert "made with something else" in result.stderr
    assert former.weights_sha256[:8] in result.stderr or former.fingerprint[:8] in result.stderr
    assert target.read_bytes() == before
