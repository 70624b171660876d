"""The live page of images in archives, and of folders with archives in them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from faults.test_explore import load_again, sort, wait_for_job
from support.commands import run
from support.explorer import Explorer, explore
from support.fakes import COLOURS, FakeEncoder, FakeModel
from unit.test_archives import make_tar, make_zip, png
from zeroshot.features.pipeline import Pipeline
from zeroshot.images.isolate import Isolation

NAMES = ("red", "green", "blue")
MEMBERS = [(f"./{index // 3}/{index}.png", png(NAMES[index % 3])) for index in range(6)]
MAKERS = {"tar": make_tar, "zip": make_zip}


@pytest.fixture(params=["tar", "zip"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Six images in three colours, and one that is damaged, in an archive."""
    kind = request.param
    return MAKERS[kind](tmp_path / f"x.{kind}", [*MEMBERS, ("./broken.png", b"\x89PNG\r\n\x1a\n"), ("notes.txt", b"")])


@pytest.fixture
def page(archive: Path, tmp_path: Path) -> Iterator[Explorer]:
    with explore(FakeEncoder(), archive, tmp_path / "corrections.csv") as explorer:
        yield explorer


def get(page: Explorer, kind: str, image: int) -> tuple[int, bytes]:
    return page.ask("GET", f"/{kind}/{image}?s={page.token.sign(f'{kind}/{image}')}")[:2]


def records_of(page: Explorer, view: str) -> list[dict[str, Any]]:
    asked = json.dumps({"view": view}).encode()
    body = page.ask("POST", "/api/records", asked, Authorization=f"Bearer {page.token.value}")[1]
    return [json.loads(line) for line in body.splitlines()]


def test_an_archive_is_shown_as_a_folder_is(page: Explorer, archive: Path) -> None:
    """Rows, small and large images, facts, failures, search and names are there; a path is that of a member."""
    start = page.post("start")
    assert (start["name"], start["folder"], start["there"]) == (archive.name, str(archive), True)
    assert (start["into"], start["copied"]) == (str(archive.with_name("x-sorted")), True)
    found = sort(page)
    assert (found["images"], found["counts"]) == (6, [2, 2, 2])
    assert [item[3] for item in found["rows"][0]["items"]] == ["0.png", "3.png"]
    assert page.post("failures")["failures"][0][0] == f"{archive}::./broken.png"
    for kind in ("thumb", "large"):
        status, data = get(page, kind, 0)
        assert status == 200 and data[8:12] == b"WEBP"
    shown = page.post("image", view=found["view"], image=4)
    assert (shown["path"], shown["name"]) == (f"{archive}::./1/4.png", "4.png")
    assert shown["facts"]["kind"] == "PNG, RGB" and shown["problem"] == ""
    hits = page.post("search", images=[[1.0, 2]], windows=[["hits", 0, 2]], threshold=-1)
    assert [item[0] for item in hits["rows"][0]["items"]] == [2, 5]


def test_an_unchanged_archive_is_not_read_again(page: Explorer, archive: Path) -> None:
    """Loading the page again encodes nothing, and what could not be read is counted once."""
    before = sum(page.session.encoder.batches)  # type: ignore[attr-defined]
    for _ in range(2):
        load_again(page)
    changes = page.post("changes")["progress"]
    assert (changes["encoded"], changes["failed"], changes["found"]) == (6, 1, 7)
    assert sum(page.session.encoder.batches) == before and len(page.session.collection) == 6  # type: ignore[attr-defined]


def test_an_archive_that_changed_is_read_anew(page: Explorer, archive: Path) -> None:
    """New members appear, changed ones have their new answer, those taken out are gone, and corrections stay."""
    page.post("correct", view=sort(page)["view"], images=[1], label="blue")
    MAKERS[archive.suffix[1:]](archive, [*MEMBERS[1:5], ("./0/0.png", png("blue")), ("new.png", png("red"))])
    load_again(page)
    found = sort(page)
    progress = page.post("changes")["progress"]
    assert (found["images"], progress["failed"], progress["found"]) == (6, 0, 6)
    assert found["counts"] == [2, 1, 3]  # 3 and the new one; 4; 0 and 2, and 1 by what was said
    assert found["accuracy"]["of"] == 1
    images = len(page.session.collection)
    load_again(page)
    assert len(page.session.collection) == images


@pytest.mark.parametrize("state", ["gone", "damaged"])
def test_an_archive_that_cannot_be_opened_keeps_what_was_encoded(page: Explorer, archive: Path, state: str) -> None:
    """A disk that is not connected, or a copy that is under way: nothing is dropped, and once whole nothing is lost."""
    content = archive.read_bytes()
    status = archive.stat()
    archive.unlink()
    if state == "damaged":
        archive.write_bytes(b"PK" if archive.suffix == ".zip" else b"\x1f\x8b" + bytes(600))
    load_again(page)
    changes = page.post("changes")
    assert (changes["there"], changes["progress"]["encoded"]) == (state == "damaged", 6)
    assert page.post("failures")["failures"][0][0] == str(archive)
    archive.write_bytes(content)
    os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns))
    load_again(page)
    assert (sort(page)["images"], page.post("failures")["total"], len(page.session.collection)) == (6, 1, 6)


def test_corrections_name_members_by_absolute_paths(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever folder the page was started in, the table leads back to the member, and so does another start."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with explore(FakeEncoder(), archive.name, tmp_path / "c.csv") as page:
            page.post("correct", view=sort(page)["view"], images=[0], label="blue")
            found = sort(page)
            assert found["accuracy"]["of"] == 1 and found["counts"] == [1, 2, 3]
            assert page.post("image", view=found["view"], image=0)["label"] == "blue"
    assert (tmp_path / "c.csv").read_text() == f"path,label,not\n{archive}::./0/0.png,blue,\n"


def test_corrections_of_members_with_odd_names_are_read(tmp_path: Path, fake_model: FakeModel) -> None:
    """Two slashes, a dot between slashes, a comma and colons in a member's name are its own."""
    names = ("a//0.png", "./a/./1.png", "a,b/2.png", "https://host/3.png", "x.zip::4.png")
    members = [(name, png(NAMES[place % 2])) for place, name in enumerate(names)]
    with explore(FakeEncoder(), make_zip(tmp_path / "x.zip", members), tmp_path / "c.csv") as page:
        view = sort(page)["view"]
        page.post("correct", view=view, images=[0, 2, 4], label="red")
        page.post("correct", view=view, images=[1, 3], label="green")
        assert sort(page)["accuracy"]["right"] == 5
    measured = run("eval", "--targets", tmp_path / "c.csv", "--format", "json")
    assert measured.exit_code == 0, measured.stderr
    assert json.loads(measured.stdout)["images"]["measured"] == 5
    with explore(FakeEncoder(), tmp_path / "x.zip", tmp_path / "c.csv") as page:
        assert sort(page)["accuracy"]["of"] == 5


def test_exports_name_members(page: Explorer, archive: Path, fake_model: FakeModel) -> None:
    """Records are those that the command line gives, which the page states; both name members."""
    view = sort(page)["view"]
    assert page.post("command", view=view)["command"] == f"zeroshot classify {archive} --labels red,green,blue"
    exported = {record["path"]: record.get("label") for record in records_of(page, view)}
    lines = run("classify", archive, "--labels", "red,green,blue", "--format", "jsonl").stdout.splitlines()
    assert exported == {one["path"]: one.get("label") for one in map(json.loads, lines)}
    assert f"{archive}::./0/0.png" in exported and len(exported) == 7


def test_members_are_copied_and_taken_back(page: Explorer, archive: Path, tmp_path: Path) -> None:
    """A plan to link copies them and says so; a plan to move does nothing, and says why; the archive stays as it is."""
    content = archive.read_bytes()
    view = sort(page)["view"]
    out = tmp_path / "out"
    plan = page.post("plan", view=view, into=str(out), placement="move")
    assert (plan["steps"], plan["stays"]) == (0, 7)
    assert "which nothing is moved out of" in plan["reasons"][0][0] and plan["reasons"][0][1] == 6
    plan = page.post("plan", view=view, into=str(out), placement="link")
    assert (plan["steps"], plan["placement"], out.exists()) == (6, "copy", False)
    page.post("carry-out", plan=plan["plan"])
    assert wait_for_job(page)["done"] == 6
    assert (out / "red/0.png").read_bytes() == MEMBERS[0][1] and len(list((out / "blue").iterdir())) == 2
    page.post("undo")
    assert (wait_for_job(page)["done"], [*out.glob("*/*.png")], archive.read_bytes()) == (6, [], content)


def test_rows_of_a_parquet_file_are_images(tmp_path: Path) -> None:
    """They are shown by their paths, or numbers; decoded in processes of their own they are the same; copies open."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install '.[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": png(name), "path": f"a/{name}.png" if name != "blue" else None} for name in NAMES]
    parquet.write_table(pa.table({"image": rows}), tmp_path / "x.parquet")
    pipeline = Pipeline(16, 2, isolation=Isolation(60, 1 << 30))
    with explore(FakeEncoder(), tmp_path / "x.parquet", tmp_path / "c.csv", pipeline=pipeline) as page:
        found = sort(page)
        assert found["counts"] == [1, 1, 1]
        assert {item[0]: item[3] for item in found["rows"][1]["items"]} == {0: "red.png", 1: "green.png", 2: "2"}
        assert get(page, "thumb", 2)[0] == 200
        assert page.post("image", view=found["view"], image=2)["path"] == f"{tmp_path / 'x.parquet'}::2"
        plan = page.post("plan", view=found["view"], into=str(tmp_path / "out"), placement="copy")
        page.post("carry-out", plan=plan["plan"])
        assert wait_for_job(page)["done"] == 3
        assert (tmp_path / "out/blue/2.png").read_bytes() == png("blue")


def test_archives_in_a_folder_are_opened_when_that_is_asked_for(tmp_path: Path) -> None:
    """Without --archives they are counted; with it, members stand beside files, and go with their archive."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in NAMES:
        Image.new("RGB", (8, 8), COLOURS[name]).save(folder / f"{name}.png")
    make_zip(folder / "x.zip", MEMBERS)
    with explore(FakeEncoder(), folder, tmp_path / "none.csv") as page:
        assert sort(page)["images"] == 3
        assert page.post("changes")["progress"]["note"] == "1 file was passed over: 1 .zip (--archives opens .zip)"
    with explore(FakeEncoder(), folder, tmp_path / "corrections.csv", archives=True) as page:
        start = page.post("start")
        assert (start["name"], start["into"], start["copied"]) == ("images", f"{folder}-sorted", False)
        view = sort(page)
        assert (view["images"], view["counts"]) == (9, [3, 3, 3])
        plan = page.post("plan", view=view["view"], into=str(tmp_path / "out"), placement="move")
        assert (plan["steps"], plan["stays"]) == (3, 6)
        plan = page.post("plan", view=view["view"], into=str(tmp_path / "out"), placement="link")
        assert plan["placement"] == "link and copy"
        page.post("carry-out", plan=plan["plan"])
        assert wait_for_job(page)["done"] == 9
        page.post("undo")
        assert wait_for_job(page)["done"] == 9
        shutil.move(folder / "x.zip", tmp_path / "x.zip")
        load_again(page)
        assert (sort(page)["images"], page.post("changes")["progress"]["found"]) == (3, 3)
        shutil.move(tmp_path / "x.zip", folder / "x.zip")
        load_again(page)
        assert sort(page)["images"] == 9
