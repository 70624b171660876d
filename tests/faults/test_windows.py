"""What Windows does otherwise, on a stand-in for it: renaming, open files, locks, signals and encodings."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zeroshot.engines import onnx_manifest
from zeroshot.engines.export import export_cache
from zeroshot.enums import Format, Placement
from zeroshot.errors import OutputError
from zeroshot.output.destination import check_output, open_output
from zeroshot.output.partial_records import Recipe
from zeroshot.output.render.choose_writer import make_writer
from zeroshot.output.render.records import Layout
from zeroshot.output.resume import open_resumable
from zeroshot.results import Failure, Manifest, Prediction, Ranked
from zeroshot.sort.journal import Journal
from zeroshot.sort.names import folder_names
from zeroshot.sort.plan import Step, make_plan
from zeroshot.sort.run_plan import carry_out, undo
from zeroshot.system import durable_files, signals

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what Windows refuses: renaming over a name, renaming or removing what is open; there is no `fcntl`."""
    if not DESCRIPTORS.is_dir():
        pytest.skip("the stand-in reads /proc to learn which files are open")
    rename, replace, unlink, sync = os.rename, os.replace, os.unlink, os.fsync

    def refuse_open(path: Path) -> None:
        for descriptor in DESCRIPTORS.iterdir():
            if Path(path).exists() and descriptor.exists() and descriptor.samefile(path):
                raise PermissionError(errno.EACCES, "in use", str(path))

    def strict_rename(source: Path, target: Path) -> None:
        refuse_open(source)
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target))
        rename(source, target)

    def strict_replace(source: Path, target: Path) -> None:
        refuse_open(source)
        refuse_open(target)
        replace(source, target)

    def strict_unlink(path: Path, **options: int) -> None:
        if not options:
            refuse_open(path)
        unlink(path, **options)

    def strict_sync(descriptor: int) -> None:
        if "flags:\t0100000" in Path(f"/proc/self/fdinfo/{descriptor}").read_text():  # O_RDONLY
            raise OSError(errno.EBADF, "opened for reading")
        sync(descriptor)

    monkeypatch.setattr(os, "rename", strict_rename)
    monkeypatch.setattr(os, "replace", strict_replace)
    monkeypatch.setattr(os, "unlink", strict_unlink)
    monkeypatch.setattr(os, "fsync", strict_sync)
    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.setattr(durable_files, "fcntl", None)


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("placement", [Placement.MOVE, Placement.COPY, Placement.LINK])
def test_sort_and_undo(tmp_path: Path, placement: Placement) -> None:
    """An image gets its new name, and its old one back."""
    image, into = tmp_path / "1.jpg", tmp_path / "into"
    image.write_bytes(b"image")
    records = [Prediction(str(image), "a: b", 0.9, (Ranked("a: b", 0.9, 0.3, 3.0),))]
    names = folder_names(["a: b"])
    steps = [item for item in make_plan(records, into, names, placement) if isinstance(item, Step)]
    with Journal.create(into) as journal:
        assert [outcome.reason for outcome in carry_out(steps, journal)] == [""]
    assert (into / "a- b" / "1.jpg").read_bytes() == b"image"
    assert image.exists() is (placement is not Placement.MOVE)
    with Journal.open(journal.path) as opened:
        assert [undone.reason for undone in undo(opened)] == [""]
    assert image.read_bytes() == b"image"
    assert not (into / "a- b").exists()


@pytest.mark.usefixtures("windows")
def test_results_are_begun_continued_and_complete(tmp_path: Path) -> None:
    """A file is closed before it gets its name, whether it is new, continued, complete, added to or refused."""
    target = tmp_path / "out.jsonl"

    def write(paths: list[str], batch_size: int = 1, *, append: bool = False) -> bool:
        recipe = Recipe(Manifest({"model": "x"}, {}, {}, {}), Format.JSONL, Layout(top_k=1), batch_size)
        with open_resumable(target, recipe, append=append) as begun:
            writer = make_writer(recipe.form, begun.stream, recipe.layout)
            for path in begun.skip(iter(paths)):
                if path == "stop":
                    raise KeyboardInterrupt
                writer.write(Failure(path, "no"))
        return begun.complete

    with pytest.raises(KeyboardInterrupt):
        write(["a", "stop"])
    assert not write(["a", "b"])
    assert write(["a", "b"])
    assert not write(["a", "b", "c"], append=True)
    assert target.read_bytes().count(b"\n") == 3
    with pytest.raises(OutputError, match="made with something else"):
        write(["a"], batch_size=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.manifest.json"]
    check_output(tmp_path / "new.json")
    with open_output(tmp_path / "new.json") as stream:
        stream.write(b"{}")
    assert (tmp_path / "new.json").read_bytes() == b"{}"


@pytest.mark.usefixtures("windows")
def test_an_export_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    """A folder of that name goes out of the way first; a file is flushed through a handle that may write."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / onnx_manifest.MANIFEST_NAME).write_text(name)
    durable_files.sync_file(tmp_path / "new" / onnx_manifest.MANIFEST_NAME)
    durable_files.sync_folder(tmp_path)
    export_cache.put_in_place(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / onnx_manifest.MANIFEST_NAME).read_text() == "new"


def test_ctrl_break_stops_a_run_and_no_signal_is_missed_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has SIGBREAK (Ctrl-Break, a closed console) and no SIGHUP."""
    handlers: dict[int, Callable[..., None]] = {}
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_DFL)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    signals.handle_stops()
    assert set(handlers) == {signal.SIGINT, signal.SIGTERM, 21}
    with pytest.raises(signals.Stopped) as stopped:
        handlers[21](21, None)
    assert signals.exit_code(stopped.value) == 149


def test_a_pipe_gets_utf8_where_the_system_has_another_encoding(tmp_path: Path) -> None:
    """What a command prints as text can be read back as its bytes can."""
    templates = tmp_path / "mine.yaml"
    templates.write_text('templates: ["画 {}"]\n', encoding="utf-8")
    command = [sys.executable, "-m", "zeroshot", "prompts", "show", str(templates)]
    shown = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True, check=True)
    assert shown.stdout.decode("utf-8").strip() == "画 {}"
