"""Journals, steps and their undoing: nothing is overwritten, nothing is lost, and what changed since is left alone."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from zeroshot.enums import Placement
from zeroshot.errors import InputError, OutputError
from zeroshot.results import Prediction, Ranked
from zeroshot.sort import journal, run_plan, safe_copies
from zeroshot.sort.journal import FOLDER, Journal, find_open_journals
from zeroshot.sort.names import folder_names
from zeroshot.sort.plan import Step, make_plan
from zeroshot.sort.run_plan import Outcome, Undone, carry_out, settle_earlier, undo
from zeroshot.sort.step import Method
from zeroshot.system.durable_files import lock

OLD = 1_500_000_000_123_456_789
"""A time with a nanosecond part, so that rounding would show."""


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Two images with a time of their own."""
    for name in ("1.jpg", "sub/2.jpg"):
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image " + name.encode())
        os.utime(path, ns=(OLD, OLD))
    return tmp_path / "src"


def plan(src: Path, into: Path, placement: Placement) -> list[Step]:
    records = [
        Prediction(str(path), "cat", 0.9, (Ranked("cat", 0.9, 0.3, 3.0),))
        for path in sorted(src.rglob("*.jpg"), key=lambda path: path.name)
    ]
    return [item for item in make_plan(records, into, folder_names(["cat"]), placement) if isinstance(item, Step)]


def sort(src: Path, placement: Placement, steps: list[Step] | None = None) -> tuple[Path, list[Outcome]]:
    into = src.parent / "into"
    with Journal.create(into) as journal:
        return journal.path, list(carry_out(steps or plan(src, into, placement), journal))


def take_back(journal: Path) -> list[Undone]:
    with Journal.open(journal) as opened:
        return list(undo(opened))


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and FOLDER not in path.parts
    }


def cross_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every renaming of one name into another folder fail, as between two file systems."""
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("placement", Placement)
@pytest.mark.parametrize("across", [False, True])
def test_undo_restores_exactly(src: Path, placement: Placement, across: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content, names and times are as before, and the folders that the run made are gone; twice is no error."""
    if across:
        cross_file_systems(monkeypatch)
    before = tree(src)
    journal, outcomes = sort(src, placement)
    assert [outcome.reason for outcome in outcomes] == ["", ""]
    into = src.parent / "into"
    assert {name: content for name, (content, _) in tree(into).items()} == {
        "cat/1.jpg": b"image 1.jpg",
        "cat/2.jpg": b"image sub/2.jpg",
    }
    assert (tree(src) == before) is (placement is not Placement.MOVE)
    assert [undone.reason for undone in take_back(journal)] == ["", ""]
    assert tree(src) == before
    assert [path.name for path in into.iterdir()] == [FOLDER]
    assert take_back(journal) == []


def test_links_are_hard_or_else_symbolic(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hard link keeps the image when its source is deleted; across file systems, a symbolic one serves."""
    _, outcomes = sort(src, Placement.LINK)
    assert {outcome.method for outcome in outcomes} == {Method.HARD_LINK}
    cross_file_systems(monkeypatch)
    steps = plan(src, src.parent / "other", Placement.LINK)
    with Journal.create(src.parent / "other") as journal:
        assert {outcome.method for outcome in carry_out(steps, journal)} == {Method.SYMBOLIC_LINK}
    link = src.parent / "other/cat/1.jpg"
    assert link.readlink() == src.resolve() / "1.jpg"
    assert [undone.reason for undone in take_back(journal.path)] == ["", ""]
    assert not link.is_symlink()


def test_a_folder_that_nothing_can_be_moved_out_of(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the folder and the way round it."""

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    _, outcomes = sort(src, Placement.MOVE)
    assert "cannot be written to: change that, or let images be copied" in outcomes[0].reason


def test_an_image_that_went_is_not_put_down_to_its_folder(src: Path) -> None:
    """Nor is its folder, which went with it."""
    steps = plan(src, src.parent / "into", Placement.MOVE)
    src.rename(src.parent / "elsewhere")
    _, outcomes = sort(src, Placement.MOVE, steps)
    assert [outcome.reason for outcome in outcomes] == ["No such file or directory"] * 2


@pytest.mark.parametrize("placement", Placement)
def test_nothing_is_overwritten(src: Path, placement: Placement) -> None:
    """A file that appears at the target after the plan was made is left alone, and so is the image."""
    into = src.parent / "into"
    steps = plan(src, into, placement)
    (into / "cat").mkdir(parents=True)
    (into / "cat/1.jpg").write_bytes(b"")  # even if it is empty
    journal, outcomes = sort(src, placement, steps)
    assert "appeared" in outcomes[0].reason
    assert outcomes[1].reason == ""
    assert (into / "cat/1.jpg").read_bytes() == b""
    assert (src / "1.jpg").exists()
    take_back(journal)
    assert (into / "cat/1.jpg").read_bytes() == b""


@pytest.mark.parametrize("placement", Placement)
def test_a_image_that_changed_or_went_stays_out(src: Path, placement: Placement) -> None:
    """What is not as it was when it was classified is not touched, and the other images are still sorted."""
    steps = plan(src, src.parent / "into", placement)
    (src / "1.jpg").write_bytes(b"edited")
    (src / "sub/2.jpg").unlink()
    _, outcomes = sort(src, placement, steps)
    assert all(outcome.reason for outcome in outcomes)
    assert (src / "1.jpg").read_bytes() == b"edited"
    assert tree(src.parent / "into") == {}


@pytest.mark.parametrize("placement", [Placement.COPY, Placement.MOVE])
def test_a_copy_that_reads_back_differently_is_not_kept(
    src: Path, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk returns other bytes than it was given, the source stays and the copy goes."""
    cross_file_systems(monkeypatch)
    monkeypatch.setattr(safe_copies, "hash_content", lambda path: "0" * 64)
    before = tree(src)
    _, outcomes = sort(src, placement)
    assert all("differs" in outcome.reason for outcome in outcomes)
    assert tree(src) == before
    assert tree(src.parent / "into") == {}


@pytest.mark.parametrize("placement", [Placement.COPY, Placement.MOVE])
def test_a_source_that_cannot_be_removed_is_no_double(
    src: Path, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across file systems, an image whose folder is read-only stays there and its copy is taken away again."""
    cross_file_systems(monkeypatch)
    unlink = os.unlink

    def refuse(path: Path, **options: object) -> None:
        if Path(path).is_relative_to(src):
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    before = tree(src)
    _, outcomes = sort(src, placement)
    if placement is Placement.MOVE:
        assert all("Permission" in outcome.reason for outcome in outcomes)
        assert tree(src.parent / "into") == {}
    assert tree(src) == before


def test_undo_leaves_what_changed_since(src: Path) -> None:
    """A moved file that was edited, and a source that is taken again, are named and kept; the rest is undone."""
    journal, _ = sort(src, Placement.MOVE)
    into = src.parent / "into"
    (into / "cat/1.jpg").write_bytes(b"edited")
    (src / "sub/2.jpg").write_bytes(b"another")
    reasons = {undone.task.source.name: undone.reason for undone in take_back(journal)}
    assert "changed since" in reasons["1.jpg"]
    assert "taken by another file" in reasons["2.jpg"]
    assert (into / "cat/1.jpg").read_bytes() == b"edited"
    assert (into / "cat/2.jpg").read_bytes() == b"image sub/2.jpg"
    assert (src / "sub/2.jpg").read_bytes() == b"another"
    (src / "sub/2.jpg").unlink()
    assert [undone.reason == "" for undone in take_back(journal)] == [True, False]


@pytest.mark.parametrize("placement", [Placement.COPY, Placement.LINK])
def test_undo_never_takes_the_last_copy(src: Path, placement: Placement) -> None:
    """A link or copy whose original was deleted is the image now, and is kept."""
    journal, _ = sort(src, placement)
    (src / "1.jpg").unlink()
    reasons = [undone.reason for undone in take_back(journal)]
    assert [bool(reason) for reason in reasons] == [False, True]
    assert "stays" in reasons[1]
    assert (src.parent / "into/cat/1.jpg").read_bytes() == b"image 1.jpg"


@pytest.mark.parametrize("placement", [Placement.COPY, Placement.LINK])
def test_undo_needs_no_writing_at_the_source(src: Path, placement: Placement, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of a read-only disk were copied or linked: their copies go, and that is what is told."""
    journal, outcomes = sort(src, placement)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.is_relative_to(src):
            raise OSError(errno.EROFS, "Read-only file system")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    undone = take_back(journal)
    assert [outcome.reason for outcome in undone] == [""] * len(outcomes)
    assert not any(outcome.step.target.exists() for outcome in outcomes)


def test_undo_makes_folders_that_went(src: Path) -> None:
    """A source folder that was removed once it was empty is made again."""
    journal, _ = sort(src, Placement.MOVE)
    (src / "sub").rmdir()
    take_back(journal)
    assert (src / "sub/2.jpg").read_bytes() == b"image sub/2.jpg"


@pytest.mark.parametrize("tail", [b'{"begin": 3, "met', b"\0" * 300, b""])
def test_a_torn_last_line_is_dropped(src: Path, tail: bytes) -> None:
    """What a kill or a power cut leaves at the end of a journal does not keep it from being undone."""
    before = tree(src)
    journal, _ = sort(src, Placement.MOVE)
    with journal.open("ab") as file:
        file.write(tail)
    take_back(journal)
    assert tree(src) == before
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())


def test_lost_endings_are_read_off_the_files(src: Path) -> None:
    """Power may take the lines that say how steps ended; undo finds out by itself."""
    before = tree(src)
    journal, _ = sort(src, Placement.MOVE)
    lines = [line for line in journal.read_bytes().splitlines(keepends=True) if b'{"done"' not in line]
    journal.write_bytes(b"".join(lines))
    assert [undone.reason for undone in take_back(journal)] == ["", ""]
    assert tree(src) == before


def test_a_damaged_journal_is_refused(src: Path) -> None:
    """A line in the middle that is no entry means that the journal cannot be trusted; nothing is touched."""
    journal, _ = sort(src, Placement.MOVE)
    content = journal.read_bytes()
    journal.write_bytes(content.replace(b'"method": "move"', b'"method": "burn"', 1))
    with pytest.raises(InputError, match="line 3 is damaged"):
        take_back(journal)
    assert len(tree(src.parent / "into")) == 2


def test_a_damaged_journal_does_not_hide_a_later_run(src: Path) -> None:
    """The last run is taken back though an earlier journal is damaged; a damaged last one is named, with what to do."""
    steps = plan(src, into := src.parent / "into", Placement.COPY)
    first, _ = sort(src, Placement.COPY, steps[:1])
    last, _ = sort(src, Placement.COPY, steps[1:])
    assert find_open_journals(into) == [last, first]
    content = first.read_bytes()
    first.write_bytes(content.replace(b'"method": "copy"', b'"method": "burn"'))
    assert find_open_journals(into) == [last]
    first.write_bytes(content)
    last.write_bytes(last.read_bytes().replace(b'"method": "copy"', b'"method": "burn"'))
    with pytest.raises(InputError, match="damaged") as raised:
        find_open_journals(into)
    assert raised.value.hint == "restore the journal from a backup, or give the journal of an earlier run"
    assert [undone.reason for undone in take_back(first)] == [""]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"target": "cat/1.jpg"', '"target": "../../elsewhere.jpg"'),
        ('"target": "cat/1.jpg"', '"target": "/etc/passwd"'),
        ('"folder": "cat"', '"folder": "../src"'),
        ('"source": "/', '"source": "../'),
        ('"token": "', '"token": "../'),
    ],
)
def test_a_journal_names_nothing_outside_its_folder(src: Path, old: str, new: str) -> None:
    """A journal that was tampered with cannot reach for other targets, relative sources or temporary names."""
    journal, _ = sort(src, Placement.MOVE)
    text = journal.read_text()
    assert old in text
    journal.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError):
        take_back(journal)


@pytest.mark.parametrize(
    "content", [b"", b"an image\n", b"{}\n", b"[1]\n", b"\xff\xd8\xff\xe0", b"{" * 100_000 + b"\n"]
)
def test_other_files_are_no_journals(tmp_path: Path, content: bytes) -> None:
    """A file of another kind is refused and not changed; an empty one is a run that was killed before it began."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    if content:
        with pytest.raises(InputError, match="is not a journal"):
            take_back(path)
    else:
        assert take_back(path) == []
    assert path.read_bytes() == content
    with pytest.raises(InputError, match="cannot open"):
        take_back(tmp_path / "none.jsonl")


def test_a_journal_belongs_to_its_folder(src: Path) -> None:
    """A sorted folder that was moved as a whole is not taken apart: its journal names the old place."""
    sort(src, Placement.MOVE)
    moved = (src.parent / "into").rename(src.parent / "moved")
    (journal,) = (moved / FOLDER).iterdir()
    with pytest.raises(InputError, match="journal of"):
        take_back(journal)


def test_a_journal_in_use_is_refused(src: Path) -> None:
    """A run that is going on cannot be undone beside itself, nor two undos run at once."""
    into = src.parent / "into"
    with Journal.create(into) as journal:
        with pytest.raises(InputError, match="in use"):
            Journal.open(journal.path)
        assert "in use" in settle_earlier(into)[0]


@pytest.mark.parametrize(("line", "moved"), [(2, 0), (3, 0), (4, 1), (5, 1), (6, 2)])
def test_no_step_happens_without_its_journal(src: Path, line: int, moved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the journal's disk is full the run ends before the next image is touched, and can be undone."""
    before = tree(src)
    write, calls = os.write, []

    def fill(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) >= line:
            write(descriptor, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(OutputError, match="No space left"):
        sort(src, Placement.MOVE)
    monkeypatch.setattr(os, "write", write)
    assert len(tree(src)) == 2 - moved
    (journal,) = (src.parent / "into" / FOLDER).iterdir()
    assert [undone.reason for undone in take_back(journal)] == [""] * moved
    assert tree(src) == before


def test_the_next_run_settles_what_a_killed_one_left(src: Path) -> None:
    """A step that was announced and cut short is taken back before the next plan is made."""
    journal, _ = sort(src, Placement.MOVE)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))  # killed after the move and before the line that says so
    assert "interrupted" in settle_earlier(src.parent / "into")[-1]
    assert (src / "sub/2.jpg").exists()
    assert not (src / "1.jpg").exists()
    assert settle_earlier(src.parent / "into") == []


def test_new_folders_are_on_the_disk_before_images_are(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut takes no folder that an image was moved to: its name is on the disk before, at every depth."""
    synced: list[tuple[Path, list[Path]]] = []
    for module in (journal, run_plan):
        monkeypatch.setattr(module, "sync_folder", lambda at: synced.append((at, sorted(at.glob("[!.]*")))))
    into = src.parent / "new/er"
    with Journal.create(into) as begun:
        list(carry_out(plan(src, into, Placement.MOVE), begun))
    assert {into.parent, into.parent.parent} <= {folder for folder, _ in synced}
    assert synced[-1] == (into, [into / "cat"])


def test_a_journal_that_another_run_looks_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked by another run between its making and its locking, a journal is left for one of the next name."""
    held: list[Journal] = []

    def too_late(descriptor: int) -> None:
        if not held:
            monkeypatch.setattr(journal, "lock", lock)
            held.append(Journal.open(next((tmp_path / FOLDER).iterdir())))
        lock(descriptor)

    monkeypatch.setattr(journal, "lock", too_late)
    with Journal.create(tmp_path) as begun, held[0] as other:
        assert begun.path.name == other.path.name.replace(".jsonl", "-2.jsonl")
    assert settle_earlier(tmp_path) == []


def test_journals_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    """Names hold the time, but neither a fast hand nor a clock set back makes two runs share one."""
    paths = set()
    for _ in range(5):
        with Journal.create(tmp_path) as journal:
            paths.add(journal.path)
    assert len(paths) == 5
