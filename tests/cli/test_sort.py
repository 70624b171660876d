"""`zeroshot sort` and `zeroshot undo` as they are typed, with a model of colours."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from support.fakes import FakeModel
from unit.test_archives import make_tar, make_zip, png
from zeroshot.cli.main import app
from zeroshot.errors import OutputError
from zeroshot.sort import place_image, safe_copies
from zeroshot.sort.journal import Journal
from zeroshot.sort.names import safe_file_name
from zeroshot.sort.step import Placed, Task

SaveImage = Callable[..., Path]
LABELS = ["--labels", "red,green,blue", "--no-cache"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def src(fake_model: FakeModel, images: SaveImage) -> Path:
    """A folder with an image of each label, one of none, and a file that is no image."""
    for name, colour in [("1.png", "red"), ("2.png", "green"), ("deep/er/3.png", "blue"), ("4.png", "grey")]:
        path = images(f"src/{name}", colour)
    broken = path.parent / "5.jpg"
    broken.write_text("no image")
    return path.parent


def files(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".zeroshot" not in path.parts
    )


def test_images_go_to_folders_by_label(src: Path, tmp_path: Path) -> None:
    """Moved images lie in their labels' folders, doubtful ones in _review, broken ones where they were: exit 3."""
    result = run("sort", src, *LABELS, "--threshold", 0.5, "--into", tmp_path / "out", "--move")
    assert result.exit_code == 3
    assert files(tmp_path / "out") == ["_review/4.png", "blue/3.png", "green/2.png", "red/1.png"]
    assert files(src) == ["5.jpg"]
    assert "5.jpg stays: cannot be read" in result.stderr
    assert "4 of 5 sorted" in result.stderr
    journal = Path(result.stdout.strip())
    assert f"zeroshot undo {tmp_path / 'out'}" in result.stderr
    assert str(journal) not in result.stderr
    undone = run("undo", journal)
    assert (undone.exit_code, undone.stderr) == (0, "zeroshot: 4 taken back\n")
    assert files(src) == ["1.png", "2.png", "4.png", "5.jpg", "deep/er/3.png"]
    assert files(tmp_path / "out") == []


def test_linking_is_the_default(src: Path, tmp_path: Path) -> None:
    """Without an option images are linked: the source is as before, and no space is taken."""
    run("sort", src, *LABELS, "--into", tmp_path / "out")
    assert (tmp_path / "out/red/1.png").samefile(src / "1.png")
    assert len(files(src)) == 5


def test_a_dry_run_tells_the_plan_and_changes_nothing(src: Path, tmp_path: Path) -> None:
    """The plan in JSON is what a run then does; nothing is made, not even the folder."""
    arguments = ["sort", src, *LABELS, "--threshold", 0.5, "--into", tmp_path / "out", "--move"]
    result = run(*arguments, "--dry-run", "--format", "jsonl")
    assert result.exit_code == 3
    assert not (tmp_path / "out").exists()
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["action"] for row in rows] == ["move", "move", "move", "stay", "move"]
    assert rows[0] == {
        "path": str(src / "1.png"),
        "action": "move",
        "target": str(tmp_path / "out/red/1.png"),
        "label": "red",
        "probability": rows[0]["probability"],
    }
    assert set(rows[3]) == {"path", "action", "reason", "failed"}
    assert f"{src / '1.png'} -> {tmp_path / 'out/red/1.png'}" in run(*arguments, "--dry-run").stdout
    run(*arguments)
    assert [str(tmp_path / "out" / name) for name in files(tmp_path / "out")] == sorted(
        row["target"] for row in rows if row["action"] == "move"
    )


def test_a_link_whose_image_moves_is_named(src: Path, tmp_path: Path) -> None:
    """It is not moved, and leads nowhere afterwards."""
    (src / "link.png").symlink_to(src / "1.png")
    result = run("sort", src, *LABELS, "--into", tmp_path / "out", "--move")
    assert f"{src / 'link.png'} leads to an image that moves" in result.stderr
    assert "leads to an image" not in run("undo", tmp_path / "out").stderr
    assert "leads to an image" not in run("sort", src, *LABELS, "--into", tmp_path / "out", "--copy").stderr


def test_a_file_where_a_label_goes_is_told_beforehand(src: Path, tmp_path: Path) -> None:
    """The dry run plans nothing that the run could not do, and says what is in the way."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/red").write_text("mine")
    for more in (["--dry-run"], []):
        result = run("sort", src, *LABELS, "--into", tmp_path / "out", *more)
        assert f"{tmp_path / 'out/red'} is no folder: move it away" in result.stdout + result.stderr
        assert "out/red/" not in result.stdout
    assert (tmp_path / "out/red").read_text() == "mine"


def test_running_twice_changes_nothing_more(src: Path, tmp_path: Path) -> None:
    """The same content under the same name is there already; no second journal is begun."""
    run("sort", src, *LABELS, "--into", tmp_path / "out", "--copy")
    before = files(tmp_path / "out")
    result = run("sort", src, *LABELS, "--into", tmp_path / "out", "--copy")
    assert files(tmp_path / "out") == before
    assert "4 are there already" in result.stderr
    assert "nothing was sorted" in result.stderr
    assert len(list((tmp_path / "out/.zeroshot").iterdir())) == 1


@pytest.mark.parametrize("into", ["src", "src/sorted"])
def test_sorting_inside_the_source(src: Path, into: str, tmp_path: Path) -> None:
    """A folder can be sorted into itself or into one inside it, again and again, and taken back."""
    before = files(src)
    first = run("sort", src, *LABELS, "--threshold", 0.5, "--into", tmp_path / into, "--move")
    sorted_files = files(src)
    assert "1 of" not in first.stderr.split("4 of 5 sorted")[0]
    second = run("sort", src, *LABELS, "--threshold", 0.5, "--into", tmp_path / into, "--move")
    assert files(src) == sorted_files
    assert second.exit_code == 3  # the broken one
    assert run("undo", first.stdout.strip()).exit_code == 0
    assert files(src) == before


def test_a_run_that_sorted_nothing_offers_no_undo(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`undo DIR` would take back the run before it."""
    from zeroshot.sort import run_plan

    first = run("sort", src, *LABELS, "--into", tmp_path / "out", "--copy")
    assert "to take it back: zeroshot undo" in first.stderr
    monkeypatch.setattr(
        run_plan, "carry_out", lambda steps, _journal: (run_plan.Outcome(step, None, "read-only") for step in steps)
    )
    images = sorted((tmp_path / "out" / "red").iterdir())
    nothing = run("sort", *images, *LABELS, "--into", tmp_path / "out", "--move", "--threshold", 1)
    assert (nothing.exit_code, "0 of" in nothing.stderr) == (3, True)
    assert "to take it back" not in nothing.stderr


def test_what_cannot_be_undone_is_named(src: Path, tmp_path: Path) -> None:
    """An edited file is left where it is, said on stderr, and the exit code is 3."""
    journal = run("sort", src, *LABELS, "--into", tmp_path / "out", "--move").stdout.strip()
    (tmp_path / "out/red/1.png").write_bytes(b"edited")
    before = (Path(journal).read_bytes(), files(tmp_path))
    shown = run("undo", journal, "--dry-run")
    assert (shown.exit_code, shown.stdout.count("->"), "red/1.png" in shown.stdout) == (3, 3, False)
    assert f"cannot be undone: {tmp_path / 'out/red/1.png'} changed since" in shown.stderr
    assert "3 would be taken back, 1 not" in shown.stderr
    assert before == (Path(journal).read_bytes(), files(tmp_path))
    result = run("undo", journal)
    assert result.exit_code == 3
    assert f"not undone: {tmp_path / 'out/red/1.png'} changed since" in result.stderr
    assert "3 taken back, 1 not" in result.stderr


@pytest.mark.parametrize("way", ["--move", "--copy", "--link"])
def test_a_dry_undo_says_what_undo_does(src: Path, tmp_path: Path, way: str) -> None:
    """Step by step: edited, gone, replaced and taken places are told beforehand, and nothing is touched."""
    out = tmp_path / "out"
    assert run("sort", src, *LABELS, "--into", out, *([way] if way != "--link" else [])).exit_code == 3
    (out / "red/1.png").unlink()
    (out / "red/1.png").write_bytes(b"edited")
    (out / "green/2.png").unlink()
    (src / "deep/er/3.png").unlink(missing_ok=True)
    (src / "deep/er/3.png").write_bytes(b"another")
    there = files(tmp_path)
    shown = run("undo", out, "--dry-run")
    assert files(tmp_path) == there
    done = run("undo", out)
    promised = [line.replace("cannot be undone", "not undone") for line in shown.stderr.splitlines()]
    assert [line.replace("would be taken", "taken") for line in promised] == done.stderr.splitlines()
    assert len(shown.stdout.splitlines()) == int(done.stderr.split("zeroshot: ")[-1].split()[0])
    assert (shown.exit_code, done.exit_code) == (3, 3)


def test_undo_goes_on_to_the_run_before(src: Path, tmp_path: Path, images: SaveImage) -> None:
    """A run of which nothing can be taken back is named, with the runs before; the next undo goes on to those."""
    out = tmp_path / "out"
    first = run("sort", src, *LABELS, "--into", out, "--move").stdout.strip()
    late = images("late/9.png", "red")
    second = run("sort", late, *LABELS, "--into", out, "--move").stdout.strip()
    (out / "red/9.png").write_bytes(b"edited")
    stuck = run("undo", out)
    assert stuck.exit_code == 3
    assert f"0 taken back, 1 not of {second}" in stuck.stderr
    assert f"can be taken back on its own: zeroshot undo {first}" in stuck.stderr
    assert files(src) == ["5.jpg"]
    again = run("undo", out)
    assert (again.exit_code, "going on to the run before it" in again.stderr) == (0, True)
    assert f"4 taken back of {first}" in again.stderr
    assert files(src) == ["1.png", "2.png", "4.png", "5.jpg", "deep/er/3.png"]
    assert "0 taken back, 1 not" in run("undo", out).stderr


def test_the_last_run_is_the_one_that_began_last(src: Path, tmp_path: Path, images: SaveImage) -> None:
    """An undo writes to its journal, which makes it no later run; two runs are taken back one by one."""
    out = tmp_path / "out"
    first = run("sort", src, *LABELS, "--into", out, "--move").stdout.strip()
    run("sort", images("late/9.png", "red"), *LABELS, "--into", out, "--move")
    (out / "red/1.png").write_bytes(b"edited")
    assert run("undo", first).exit_code == 3
    undone = run("undo", out)
    assert (undone.exit_code, (tmp_path / "late/9.png").exists()) == (0, True)
    assert f"the run before it is {first}" in undone.stderr


def test_a_run_that_another_run_built_upon(src: Path, tmp_path: Path) -> None:
    """Sorted again out of its own _review, the file is named with the run that moved it on; in turn both go back."""
    out, before = tmp_path / "out", files(src)
    first = run("sort", src, *LABELS, "--threshold", 0.9, "--into", out, "--move").stdout.strip()
    assert files(out / "_review")
    second = run("sort", out / "_review", *LABELS, "--into", out, "--move").stdout.strip()
    tangled = run("undo", first)
    assert tangled.exit_code == 3
    assert f"was moved on by another run: take back {second} first" in tangled.stderr
    assert run("undo", out).exit_code == run("undo", out).exit_code == 0
    assert files(src) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--into", "out", "--copy", "--move"], "--copy and --move are given"),
        ([], "no folder to sort into"),
        (["--into", "out", "--format", "jsonl"], "only --dry-run shows"),
        (["--into", "src/1.png"], "is not a folder"),
    ],
)
def test_options_that_make_no_sense(src: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    """Contradictions are usage errors, found before a model is loaded."""
    given = [str(tmp_path / part) if part.startswith(("out", "src")) else part for part in arguments]
    result = run("sort", src, *LABELS, *given)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("into", ["n" * 300, "loop", "~nobody-at-all/out"])
def test_folders_that_cannot_be(src: Path, into: str, tmp_path: Path) -> None:
    """A folder to sort into that the system cannot even look up is a usage error, as is a journal there an error."""
    (tmp_path / "loop").symlink_to("loop")
    place = into if into.startswith("~") else tmp_path / into
    assert run("sort", src, *LABELS, "--into", place).exit_code == 2
    assert "cannot open the folder or journal" in run("undo", place).stderr


def test_a_source_without_images(fake_model: FakeModel, tmp_path: Path) -> None:
    """Sorting only what is sorted already is no error, and makes nothing."""
    (tmp_path / "red").mkdir()
    (tmp_path / "red/1.png").write_bytes(b"x")
    result = run("sort", tmp_path, *LABELS, "--into", tmp_path)
    assert result.exit_code == 0
    assert "nothing to sort" in result.stderr
    assert fake_model.calls == []


def test_a_place_that_takes_no_folder_is_refused_before_the_model_is_loaded(
    fake_model: FakeModel, src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is classified for a sort that could not begin; finding that out leaves nothing behind."""
    (tmp_path / "made").mkdir()
    before = sorted(tmp_path.rglob("*"))

    def refuse(*_: object, **__: object) -> str:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.mkdtemp", refuse)
        for into in (tmp_path / "made", tmp_path / "new" / "below"):
            refused = run("sort", src, "--labels", "red,blue", "--into", into)
            assert (refused.exit_code, fake_model.calls) == (1, [])
            assert refused.stderr.startswith("zeroshot: error: cannot write in ")
            assert "Read-only file system" in refused.stderr
        assert sorted(tmp_path.rglob("*")) == before
        assert run("sort", src, "--labels", "red,blue", "--into", tmp_path / "made", "--dry-run").exit_code == 3
    assert run("sort", src, "--labels", "red,blue", "--into", tmp_path / "new" / "below").exit_code == 3
    assert not list((tmp_path / "new").glob(".zeroshot-*"))


@pytest.fixture
def archive(fake_model: FakeModel, tmp_path: Path) -> Path:
    """A tar whose members have names that clash, that lead elsewhere, and that no file system takes."""
    members = [
        ("a/1.png", "red"),
        ("b/1.png", "blue"),
        ("c/1.png", "red"),
        ("../../2.png", "green"),
        ("d\n:3.png", "green"),
    ]
    return make_tar(tmp_path / "x.tar", [(name, png(colour)) for name, colour in members])


@pytest.mark.parametrize("option", [(), ("--copy",)])
def test_members_of_archives_are_copied_out(option: tuple[str, ...], archive: Path, tmp_path: Path) -> None:
    """Each gets a safe name, whole; sorting again adds nothing, and undo takes away what the archive holds."""
    before = archive.read_bytes()
    sort = ("sort", archive, *LABELS, "--into", tmp_path / "out", *option)
    planned = run(*sort, "--dry-run", "--format", "json")
    assert {row["action"] for row in json.loads(planned.stdout) if row["action"] != "stay"} == {"copy"}
    result = run(*sort)
    assert result.exit_code == 0, result.output
    there = files(tmp_path / "out")
    assert there == ["blue/1.png", "green/2.png", "green/d -3.png", "red/1.png"]
    assert (tmp_path / "out/red/1.png").read_bytes() == png("red") and archive.read_bytes() == before
    assert not (tmp_path / "2.png").exists()
    again = run(*sort)
    assert "nothing was sorted" in again.stderr and files(tmp_path / "out") == there
    (tmp_path / "out/blue/1.png").write_bytes(png("yellow"))
    undone = run("undo", tmp_path / "out")
    assert undone.exit_code == 3 and "blue/1.png stays" in undone.stderr
    assert files(tmp_path / "out") == ["blue/1.png"] and archive.read_bytes() == before


def test_members_are_never_moved(archive: Path, tmp_path: Path) -> None:
    """With --move they stay, as images that could not be sorted."""
    before = archive.read_bytes()
    result = run("sort", archive, *LABELS, "--into", tmp_path / "out", "--move")
    assert result.exit_code == 3 and "nothing is moved out of" in result.stderr
    assert files(tmp_path) == ["x.tar"] and archive.read_bytes() == before


def test_other_members_of_one_name_get_numbers(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """The same content is there already, wherever it lies; other content is numbered."""
    larger = images("larger.png", "red", (9, 9)).read_bytes()
    archive = make_zip(tmp_path / "x.zip", [("a/1.png", png("red")), ("b/1.png", larger), ("1.png", png("red"))])
    (tmp_path / "1.png").write_bytes(png("red"))
    assert run("sort", tmp_path / "1.png", archive, *LABELS, "--into", tmp_path / "out").exit_code == 0
    assert files(tmp_path / "out") == ["red/1 (2).png", "red/1.png"]
    assert (tmp_path / "out/red/1.png").samefile(tmp_path / "1.png")


def test_an_archive_that_changes_meanwhile_gives_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was classified is what is copied, or nothing is; nothing is taken back that the archive holds no longer."""
    place = place_image.place

    def late(task: Task) -> Placed:
        if task.number == 2:
            make_tar(archive, [("a/1.png", png("red")), ("b/1.png", png("grey"))])
        return place(task)

    monkeypatch.setattr("zeroshot.sort.run_plan.place", late)
    result = run("sort", archive, *LABELS, "--into", tmp_path / "out")
    assert result.exit_code == 3 and "changed while the run was going on" in result.stderr
    assert files(tmp_path / "out") == ["red/1.png"]
    archive.unlink()
    undone = run("undo", tmp_path / "out")
    assert undone.exit_code == 3 and files(tmp_path / "out") == ["red/1.png"]


def test_a_kill_while_copying_out_leaves_nothing_half(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before and after the copy has its name, the next run takes back what was begun, and sorts it all."""
    for moment in ("sync_folder", "hash_content"):
        out = tmp_path / moment
        with monkeypatch.context() as patched:
            patched.setattr(safe_copies, moment, lambda *_: (_ for _ in ()).throw(SystemExit(9)))
            run("sort", archive, *LABELS, "--into", out)
        run("sort", archive, *LABELS, "--into", out)
        assert files(out) == ["blue/1.png", "green/2.png", "green/d -3.png", "red/1.png"], moment
        while run("undo", out).stderr.startswith("zeroshot: 0") is False:
            pass
        assert files(out) == []


def test_rows_without_a_path_get_the_ending_of_their_format(fake_model: FakeModel, tmp_path: Path) -> None:
    """Copies of rows that have a number alone are found by every command; a dry run names them, and undo takes them."""
    pyarrow = pytest.importorskip("pyarrow")
    contents = [png("red"), encoded("JPEG"), encoded("WEBP"), encoded("TIFF"), encoded("GIF")]
    table = pyarrow.table({"image": pyarrow.array(contents, type=pyarrow.binary())})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "x.parquet")
    out = tmp_path / "out"
    asked = ("sort", tmp_path / "x.parquet", *LABELS, "--into", out)
    expected = ["0.png", "1.jpg", "2.webp", "3.tif", "4.gif"]
    planned = run(*asked, "--dry-run", "--format", "json")
    assert not out.exists() and all(name in planned.stdout for name in expected)
    assert run(*asked).exit_code == 0
    assert files(out) == [f"red/{name}" for name in expected]
    assert [path.read_bytes() for path in sorted(out.glob("red/*"))] == contents
    again = run(*asked)
    assert again.exit_code == 0 and files(out) == [f"red/{name}" for name in expected]
    assert run("classify", out, *LABELS, "--format", "jsonl").stdout.count('"label": "red"') >= len(expected)
    assert run("undo", out).exit_code == 0 and files(out) == []


def encoded(form: str) -> bytes:
    """A red image of a format."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(stream, form)
    return stream.getvalue()


def test_names_of_members_are_made_safe() -> None:
    """The last part of the name, without what a path, a shell or another system would act on; never hidden or empty."""
    safe = {
        "a/b/cat.jpg": "cat.jpg",
        "..\\..\\x.png": "x.png",
        ".hidden.jpg": "hidden.jpg",
        "con.jpg": "con_.jpg",
        "..": "unnamed",
        "a/b/": "b",
        "12": "12",
        "x" * 300 + ".png": "x" * 120 + ".png",
        "a.b c/d:e.j\0g": "d-e.j-g",
    }
    assert {member: safe_file_name(member) for member in safe} == safe


def test_every_image_that_stays_is_named_where_nothing_else_holds_it(src: Path, tmp_path: Path) -> None:
    """Into a pipe or file all of them are named, and so is an input that is given twice."""
    for number in range(30):
        (src / f"bad{number}.jpg").write_text("no image")
    result = run("sort", src, src / "1.png", *LABELS, "--into", tmp_path / "out")
    assert result.stderr.count("stays: cannot be read") == 31
    assert f"{src / '1.png'} stays: is the same file as an input before it" in result.stderr
    found = run("search", src, "red", "--no-cache", "-f", "jsonl")
    assert sum(f"bad{number}.jpg: " in found.stderr for number in range(30)) == 30


def test_an_empty_text_is_no_folder(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a variable that is not set: nothing goes to the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for command in (("sort", src, *LABELS), ("duplicates", src)):
        result = run(*command, "--into", "")
        assert (result.exit_code, "names no folder" in result.stderr) == (2, True)
    assert files(tmp_path / "here") == []


def test_the_command_that_takes_back_can_be_typed(src: Path, tmp_path: Path) -> None:
    """A folder whose name a terminal would act on is quoted, in words that a shell reads."""
    into = tmp_path / "a\x1b[31mb\nc"
    result = run("sort", src, *LABELS, "--into", into)
    assert f"zeroshot undo $'{tmp_path}/a\\x1b[31mb\\x0ac'" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_disk_that_fills_is_counted(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted, staying and not tried are all the images that there are."""
    append, lines = Journal._append, []

    def fill(self: Journal, entry: dict[str, object], *, sync: bool = False) -> None:
        lines.append(entry)
        if "done" in entry and len([line for line in lines if "done" in line]) == 2:
            raise OutputError("cannot write the journal")
        append(self, entry, sync=sync)

    monkeypatch.setattr(Journal, "_append", fill)
    result = run("sort", src, *LABELS, "--into", tmp_path / "out")
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if " sorted" in line)
    said = re.fullmatch(r"zeroshot: 1 of (\d+) sorted: 1 in \w+; (\d+) not tried, or cut short", line)
    assert said is not None, line
    whole, left = map(int, said.groups())
    assert whole == 1 + left + result.stderr.count(" stays: ")


@pytest.mark.skipif(not Path("/dev/full").exists() or not shutil.which("bash"), reason="needs bash and /dev/full")
def test_a_stdout_that_is_full_or_gone_hides_nothing(src: Path, tmp_path: Path) -> None:
    """What is for people is said first: what stays, the counts, the way back; the exit code is that of the sort."""
    (src / "bad.jpg").write_text("no image")
    for redirect, code in (("| true", 3), (">/dev/full", 1)):
        into = shlex.quote(str(tmp_path / f"out{code}"))
        command = (
            f"{shlex.quote(sys.executable)} -m zeroshot sort {shlex.quote(str(src))} --labels red,blue --model tiny"
        )
        script = f"{command} --into {into} {redirect}; exit ${{PIPESTATUS[0]}}"
        result = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert result.returncode == code, result.stderr
        assert "bad.jpg stays: cannot be read" in result.stderr
        assert " sorted: " in result.stderr and "to take it back: zeroshot undo" in result.stderr


def test_a_link_that_leads_to_itself_stays(src: Path, tmp_path: Path) -> None:
    """Named outright it is one image that cannot be read, and the others are sorted."""
    (tmp_path / "ring.png").symlink_to("ring.png")
    result = run("sort", tmp_path / "ring.png", src / "1.png", *LABELS, "--into", tmp_path / "out")
    assert result.exit_code == 3 and "ring.png stays: cannot be read" in result.stderr
    assert files(tmp_path / "out") == ["red/1.png"]
