"""The live page of images in an object store, against moto's S3 server: listed, shown, corrected, exported, copied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults.test_explore import load_again, sort, wait_for_job
from faults.test_explore_sources import get, records_of
from scale.test_stores import address, client  # noqa: F401 - a fixture
from support.commands import run
from support.explorer import explore
from support.fakes import FakeEncoder, FakeModel
from support.object_store import KEY_ID, SECRET, Faults, misbehaving, use_store
from unit.test_archives import make_tar, png
from zeroshot.images.sources import archive_cache

IMGS = "s3://bucket/imgs/"


def test_a_prefix_is_shown_as_a_folder_is(address: str, fake_model: FakeModel, tmp_path: Path) -> None:  # noqa: F811
    """Small and large images, facts and failures; corrections, exports and the command line name addresses."""
    with explore(FakeEncoder(), IMGS, tmp_path / "c.csv") as page:
        start = page.post("start")
        assert (start["name"], start["into"]) == ("imgs", str(Path.cwd() / "imgs-sorted"))
        assert (start["copied"], start["there"]) == (True, True)
        found = sort(page)
        assert found["images"] == 11
        assert page.post("failures")["failures"][0][0] == f"{IMGS}bad.png"
        image = page.session.collection.find(f"{IMGS}a b/ü#%?.png")
        assert image is not None
        for kind in ("thumb", "large"):
            status, data = get(page, kind, image)
            assert status == 200 and data[8:12] == b"WEBP"
        shown = page.post("image", view=found["view"], image=image)
        assert (shown["path"], shown["name"], shown["facts"]["kind"]) == (f"{IMGS}a b/ü#%?.png", "ü#%?.png", "PNG, RGB")
        page.post("correct", view=found["view"], images=[image], label="blue")
        page.post("correct", view=found["view"], images=[page.session.collection.find(f"{IMGS}0.png")], label="red")
        table = page.session.corrections.path
        assert f"{IMGS}a b/ü#%?.png,blue," in table.read_text().splitlines()
        command = page.post("command", view=found["view"])["command"]
        assert command == f"zeroshot classify {IMGS} --labels red,green,blue"
        assert {record["path"] for record in records_of(page, found["view"])} == {
            record["path"] for record in map(json.loads, run(*command.split()[1:], "-f", "jsonl").stdout.splitlines())
        }
    measured = run("eval", "--targets", table, "--format", "json")
    assert json.loads(measured.stdout)["images"]["measured"] == 2, measured.stderr


def test_a_store_is_listed_again_only_when_the_page_is(
    address: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is new is read then, and nothing else; while the store is down, what was encoded stays."""
    faults = Faults([("/imgs/0.png", "500", 0), ("list-type=2", "500", 0)])
    with misbehaving(address, faults) as front:
        use_store(monkeypatch, front)
        with explore(FakeEncoder(), IMGS, tmp_path / "c.csv") as page:
            listed = faults.seen["list-type=2"]
            page.post("changes")
            sort(page)
            assert (faults.seen["/imgs/0.png"], faults.seen["list-type=2"]) == (1, listed)
            client(address).put_object(Bucket="bucket", Key="imgs/new.png", Body=png("blue"))
            client(address).delete_object(Bucket="bucket", Key="imgs/1.png")
            load_again(page)
            assert sort(page)["images"] == 12
            assert (faults.seen["/imgs/0.png"], faults.seen["list-type=2"]) == (1, 2 * listed)
            monkeypatch.setenv("ZEROSHOT_STORE_TRIES", "1")
            faults.rules = [("bucket", "500", 999)]
            load_again(page)
            progress = page.post("changes")["progress"]
            assert (progress["encoded"], progress["finished"]) == (12, True)
            assert progress["note"].startswith(f"encoding has stopped: cannot list {IMGS}: ")
            assert SECRET not in progress["note"] and KEY_ID not in progress["note"]
            assert get(page, "thumb", 0)[0] == 404
            faults.rules = []
            load_again(page)
            assert page.post("changes")["progress"]["note"] == ""


def test_archives_in_a_store_are_read_once(
    address: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More of them than stay open are not fetched to be listed again; what failed is tried again, what is new read."""
    monkeypatch.setattr(archive_cache, "_open", 4)
    put = client(address).put_object
    for number in range(6):
        members = [("red.png", png("red")), ("bad.png", b"bad")] if number == 0 else [("blue.png", png("blue"))]
        put(Bucket="bucket", Key=f"tars/{number}.tar", Body=make_tar(tmp_path / "x.tar", members).read_bytes())
    faults = Faults([(f"/tars/{number}.tar", "500", 0) for number in range(6)])
    with misbehaving(address, faults) as front:
        use_store(monkeypatch, front)
        with explore(FakeEncoder(), "s3://bucket/tars/", tmp_path / "c.csv", archives=True) as page:
            assert sort(page)["counts"] == [1, 0, 5]
            first = {number: faults.seen[f"/tars/{number}.tar"] for number in range(6)}
            put(
                Bucket="bucket",
                Key="tars/6.tar",
                Body=make_tar(tmp_path / "x.tar", [("g.png", png("green"))]).read_bytes(),
            )
            load_again(page)
            assert sort(page)["counts"] == [1, 1, 5]
            assert {number: faults.seen[f"/tars/{number}.tar"] for number in range(1, 6)} == {
                number: count for number, count in first.items() if number
            }
            assert page.post("failures")["failures"][0][0] == "s3://bucket/tars/0.tar::bad.png"


@pytest.mark.parametrize("place", ["s3://bucket/arch/x.tar", "s3://bucket/arch/x.zip", "s3://bucket/arch/"])
def test_archives_in_a_store_are_shown(
    place: str,
    address: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    """One that is named, and those below a prefix with --archives; no member is read twice."""
    with explore(FakeEncoder(), place, tmp_path / "c.csv", archives=place.endswith("/")) as page:
        images = 18 if place.endswith("/") else 9
        assert sort(page)["images"] == images
        load_again(page)
        assert (sort(page)["images"], len(page.session.collection)) == (images, images)
        assert get(page, "thumb", images - 1)[0] == 200
        assert page.post("image", view=sort(page)["view"], image=2)["name"] == "2.png"


def test_objects_are_copied_from_the_page_and_taken_back(address: str, tmp_path: Path) -> None:  # noqa: F811
    """A plan to move does nothing; copies are taken back, and the store is as it was."""
    out = tmp_path / "out"
    with explore(FakeEncoder(), IMGS, tmp_path / "c.csv") as page:
        view = sort(page)["view"]
        plan = page.post("plan", view=view, into=str(out), placement="move")
        assert plan["steps"] == 0 and "which nothing is moved out of" in plan["reasons"][0][0]
        plan = page.post("plan", view=view, into=str(out), placement="link")
        assert (plan["steps"], plan["placement"], out.exists()) == (11, "copy", False)
        page.post("carry-out", plan=plan["plan"])
        assert wait_for_job(page)["done"] == 11
        assert (out / "red/0.png").read_bytes() == png("red")
        page.post("undo")
        assert (wait_for_job(page)["done"], [*out.glob("*/*.png")]) == (11, [])
    assert len(client(address).list_objects_v2(Bucket="bucket", Prefix="imgs/")["Contents"]) == 15


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://none/imgs/", "cannot list s3://none/imgs/: no such bucket"),
        ("s3://bucket/nothing/", "no such object, and none below it: s3://bucket/nothing/"),
        ("s3://bucket/arch/none.zip", "cannot read s3://bucket/arch/none.zip: no such object"),
        ("s3://bucket/arch", "no images in s3://bucket/arch; 2 files were passed over"),
        ("s3://bucket/imgs/0.png", "s3://bucket/imgs/0.png is one object, not a prefix"),
    ],
)
def test_what_holds_no_images_is_told_before_the_model_is_loaded(
    place: str,
    said: str,
    address: str,  # noqa: F811
    fake_model: FakeModel,
) -> None:
    """In one line that names it, and one that says what to do."""
    result = run("explore", place, "--no-open")
    assert (result.exit_code, result.stdout) == (1, "")
    *_, error, remedy = result.stderr.splitlines()
    assert said in error and remedy.strip().startswith("try: ")
    assert not fake_model.calls
