"""Runs in shards: what is planned, committed, refused, and merged to the bytes of one unbroken run."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial, partialmethod
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from support.commands import run
from support.fakes import COLOURS, FakeModel
from support.fixtures import SaveImage
from unit.test_archives import make_tar, make_zip, png
from zeroshot.distribute import commits, on_ray, part_files, shard_entries
from zeroshot.distribute.merge import name_numbers
from zeroshot.distribute.plan import load_plan, read_shard, write_plan
from zeroshot.distribute.recipe import parse_recipe
from zeroshot.distribute.run_folder import LocalFolder, open_folder
from zeroshot.distribute.shard_entries import Piece, cut, parse_entries
from zeroshot.errors import InputError, OutputError, ResourceError

LABELS = ("--labels", "red,green,blue", "--model", "tiny")


@pytest.fixture
def inputs(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> list[str]:
    """A folder, a tar and a zip: 23 images of many colours, three that cannot be read, odd names."""
    colours = list(COLOURS)
    for number in range(9):
        images(f"all/{number}.png", (29 * number, 255 - 20 * number, 7 * number))
    images("all/a,\"b'.png", "cyan")
    (tmp_path / "all" / "broken.png").write_bytes(b"broken")
    (tmp_path / os.fsdecode(b"all/\xff.png")).write_bytes(png("red"))
    tar = make_tar(tmp_path / "x.tar", [(f"{number}.png", png(colours[number % 9])) for number in range(7)])
    content = [(f"{number}.png", png(colours[-1 - number])) for number in range(4)] + [("bad.png", b"bad")]
    return [str(tmp_path / "all"), str(tar), str(make_zip(tmp_path / "x.zip", content)), str(tmp_path / "none.png")]


@pytest.fixture
def whole(inputs: list[str], tmp_path: Path) -> Callable[..., bytes]:
    """The bytes of one unbroken `classify --resume`."""

    def classify(*options: str, name: str = "whole.jsonl") -> bytes:
        target = tmp_path / name
        command = run("classify", *inputs, *LABELS, *options, "--output", target, "--resume", "--no-cache")
        assert command.exit_code == 3, command.output
        return target.read_bytes()

    return classify


def plan(inputs: list[str], into: Path, *options: str, size: int = 5) -> None:
    planned = run("run", "plan", *inputs, *LABELS, *options, "--into", into, "--shard-size", size)
    assert planned.exit_code == 0, planned.output


def merged(into: Path, name: str = "merged.jsonl") -> bytes:
    target = into.parent / name
    outcome = run("run", "merge", into, "-o", target)
    assert outcome.exit_code == 3, outcome.output
    return target.read_bytes()


def part_of(into: Path, number: int, kind: str = "part") -> Path:
    (found,) = (into / "parts").glob(f"{kind}-{number:05d}-*")
    return found


class FolderWithEvents(LocalFolder):
    """A folder in which something happens before some of the writes; they are counted from 0."""

    def __init__(self, place: str, events: dict[int, Callable[[], None]]) -> None:
        super().__init__(place)
        self._events, self._writes = events, 0

    def create(self, name: str, content: bytes) -> bool:
        self._happen()
        return super().create(name, content)

    def replace(self, name: str, content: bytes) -> None:
        self._happen()
        super().replace(name, content)

    def _happen(self) -> None:
        event = self._events.get(self._writes)
        self._writes += 1
        if event:
            event()


@pytest.mark.parametrize("size", [1, 3, 5, 32, 1000])
def test_shards_of_any_size_give_the_bytes_of_one_run(
    size: int, inputs: list[str], whole: Callable[..., bytes], tmp_path: Path
) -> None:
    """However the images are cut, the merged file is what one unbroken run writes, in every format."""
    plan(inputs, tmp_path / "run", "--fields", "similarity,logit", size=size)
    assert run("run", "work", tmp_path / "run").exit_code == 3
    for form in ("jsonl", "csv", "tsv"):
        whole_bytes = whole("--fields", "similarity,logit", name=f"whole.{form}")
        assert merged(tmp_path / "run", f"merged.{form}") == whole_bytes
    status = json.loads(run("run", "status", tmp_path / "run").stdout)
    assert (status["records"], status["failures"], status["missing"]) == (25, 3, [])


def test_a_run_is_read_with_its_own_model(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """Without --model, what reads a run's features asks for the model that it was planned with; a named one stays."""
    for name in COLOURS:
        images(f"all/{name}/1.png", name)
    into = tmp_path / "run"
    planned = run("run", "plan", tmp_path / "all", *LABELS, "--into", into, "--features")
    assert "run has 1 shard, 9 images; its id is " in planned.stderr
    assert "1 shard with 9 images is committed" in run("run", "work", into).stderr
    for words in (("search", into, "red"), ("features", into, "-o", tmp_path / "f.npz"), ("eval", into)):
        assert run(*words).exit_code == 0
        assert fake_model.calls[-1]["model"] == "tiny"
        assert run(*words, "--model", "base").exit_code == 0
        assert fake_model.calls[-1]["model"] == "base"


def test_messages_name_what_was_typed(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """Labels that differ are named by the first that does, and an output by its ending."""
    images("all/1.png", "red")
    plan([str(tmp_path / "all")], tmp_path / "run")
    other = run(
        "run", "plan", tmp_path / "all", "--labels", "red,cyan,blue", "--model", "tiny", "--into", tmp_path / "run"
    )
    assert 'labels.labels[1].name was "green", is "cyan"' in other.stderr
    assert run("run", "work", tmp_path / "run").exit_code == 0
    refused = run("run", "merge", tmp_path / "run", "-o", tmp_path / "m.txt")
    assert refused.exit_code == 2 and "--format" not in refused.stderr and "m.txt: a merged file" in refused.stderr


def test_what_ray_says_goes_to_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout is for data, also while the connection to a cluster is taken down."""
    ray = ModuleType("ray")
    ray.util = ModuleType("ray.util")  # type: ignore[attr-defined]
    ray.is_initialized = lambda: False  # type: ignore[attr-defined]
    ray.init = lambda *_, **__: None  # type: ignore[attr-defined]
    ray.shutdown = lambda: print("a worker died")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.util", ray.util)  # type: ignore[attr-defined]
    with on_ray._connected("HOST:6379"):
        print("a worker is slow")
    assert capsys.readouterr() == ("", "a worker is slow\na worker died\n")


def test_what_the_cluster_loses_within_a_task_is_told_in_a_line() -> None:
    """A task's own error is raised as it is, a defect with its traceback; what Ray lost is one line with a remedy."""

    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        def __init__(self, cause: Exception) -> None:
            super().__init__("many lines")
            self.cause = cause

    ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError))
    lost, own, defect = RayError("no memory\nlines"), InputError("not the list"), RayTaskError(KeyError("x"))
    for error in (lost, RayTaskError(lost)):
        told = on_ray._failure(ray, error)
        assert isinstance(told, ResourceError) and told.message == "the Ray cluster gave up: no memory"
    assert on_ray._failure(ray, RayTaskError(own)) is own
    for error in (defect, RayTaskError(defect)):
        assert on_ray._failure(ray, error) is error


def test_a_label_called_error_is_no_failure(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """What counts as a failure is a record's key, not a word in it."""
    for name in ("a.png", 'b"error".png', "error.png"):
        images(f"all/{name}", "red")
    (tmp_path / "all" / "broken.png").write_bytes(b"broken")
    labels = ("--labels", "error,red", "--model", "tiny")
    assert run("run", "plan", tmp_path / "all", *labels, "--into", tmp_path / "run").exit_code == 0
    assert run("run", "work", tmp_path / "run").exit_code == 3
    status = json.loads(run("run", "status", tmp_path / "run").stdout)
    assert (status["records"], status["failures"]) == (4, 1)


def test_learned_weights_travel_in_the_plan(
    inputs: list[str], whole: Callable[..., bytes], images: SaveImage, tmp_path: Path
) -> None:
    """A worker needs no file of its own, gives what one run with --learned gives, and texts alone do not."""
    for place, colour in (("red", "red"), ("green", "green"), ("blue", "magenta")):
        for number in range(3):
            images(f"examples/{place}/{number}.png", colour)
    learned = tmp_path / "learned.json"
    taught = run("learn", tmp_path / "examples", "--model", "tiny", "--output", learned, "--force")
    assert learned.exists(), taught.output
    plan(inputs, tmp_path / "run", "--learned", str(learned))
    expected = whole("--learned", str(learned))
    learned.unlink()
    run("run", "work", tmp_path / "run")
    assert merged(tmp_path / "run") == expected != whole(name="texts.jsonl")
    again = run("run", "plan", *inputs, *LABELS, "--into", tmp_path / "run", "--shard-size", 5)
    assert again.exit_code == 1
    assert "learned" in again.stderr


@pytest.mark.parametrize("parts", ["jsonl", "parquet"])
def test_parts_of_both_kinds_merge_to_the_same(
    parts: str, inputs: list[str], whole: Callable[..., bytes], tmp_path: Path
) -> None:
    """Parquet parts, with features, hold the same records to the byte."""
    if parts == "parquet":
        pytest.importorskip("pyarrow")
    plan(inputs, tmp_path / "run", "--parts", parts, "--features", "--threshold", "0.5")
    run("run", "work", tmp_path / "run")
    assert merged(tmp_path / "run") == whole("--threshold", "0.5")


def test_shares_together_are_the_run(inputs: list[str], whole: Callable[..., bytes], tmp_path: Path) -> None:
    """Shares in any order, one of them twice, give the same; one that is missing is named by the merge."""
    into = tmp_path / "run"
    plan(inputs, into)
    for share in ("3/3", "1/3", "3/3"):
        assert run("run", "work", into, "--shard", share).exit_code in (0, 3)
    refused = run("run", "merge", into, "-o", tmp_path / "merged.jsonl")
    assert refused.exit_code == 1 and "2 of 7 shards are missing: 1, 4" in refused.stderr
    assert not (tmp_path / "merged.jsonl").exists()
    assert run("run", "work", into, "--shard", "2/3").exit_code in (0, 3)
    assert merged(into) == whole()


@pytest.mark.parametrize("share", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3"])
def test_shares_that_are_none_are_refused(share: str, tmp_path: Path) -> None:
    """I is from 1 to N."""
    assert run("run", "work", tmp_path, "--shard", share).exit_code == 2


def test_another_recipe_or_other_inputs_are_refused(inputs: list[str], tmp_path: Path) -> None:
    """The same plan again changes nothing; another one in its folder is an error that names the difference."""
    into = tmp_path / "run"
    plan(inputs, into)
    before = (into / "plan.json").read_bytes()
    plan(inputs, into)
    other = run("run", "plan", *inputs, *LABELS, "--top-k", "1", "--into", into, "--shard-size", "5")
    assert other.exit_code == 1 and "top_k was 3, is 1" in other.stderr
    for changed in (inputs[:2], [*inputs, inputs[0]], inputs[::-1]):
        refused = run("run", "plan", *changed, *LABELS, "--into", into, "--shard-size", "5")
        assert refused.exit_code == 1 and "inputs" in refused.stderr
    assert (into / "plan.json").read_bytes() == before


@pytest.mark.parametrize("kind", ["mixed", "tar", "few"])
def test_another_shard_size_is_named(kind: str, inputs: list[str], tmp_path: Path) -> None:
    """Where the inputs are the same the option is named, with what gives the same plan; else the inputs are."""
    into = tmp_path / "run"
    given = {"mixed": inputs, "tar": inputs[1:2], "few": inputs[:1]}[kind]
    plan(given, into, size=5)
    before = (into / "plan.json").read_bytes()
    for size in (1, 3, 4, 6, 7, 100):
        refused = run("run", "plan", *given, *LABELS, "--into", into, "--shard-size", size)
        assert refused.exit_code == 1 and f"with another --shard-size than {size}" in refused.stderr
        assert "--shard-size 5, or --into another folder" in refused.stderr
    for changed in ([*given, inputs[2]], inputs[2:]):
        refused = run("run", "plan", *changed, *LABELS, "--into", into, "--shard-size", 5)
        assert refused.exit_code == 1 and "inputs" in refused.stderr and "--shard-size" not in refused.stderr
    plan(given, into, size=5)
    assert (into / "plan.json").read_bytes() == before


def test_a_plan_or_list_that_was_tampered_with_is_refused(inputs: list[str], tmp_path: Path) -> None:
    """The id is the hash of it all: neither recipe nor inputs change unseen."""
    into = tmp_path / "run"
    plan(inputs, into)
    text = (into / "plan.json").read_text()
    (into / "plan.json").write_text(text.replace('"threshold": 0.0', '"threshold": 0.9'))
    refused = run("run", "work", into).stderr
    assert "not as it was written" in refused and f"remove {into}/plan.json and give the same" in refused
    (into / "plan.json").unlink()
    plan(inputs, into)
    assert (into / "plan.json").read_text() == text
    for changed, hint in (('"format": "other"', "name the folder of a run"), ('"version": 9', "use the version")):
        key = changed.partition(":")[0]
        (into / "plan.json").write_text(
            "".join(f" {changed},\n" if line.startswith(f" {key}") else line for line in text.splitlines(True))
        )
        assert hint in run("run", "work", into).stderr
    (into / "plan.json").write_text(text)
    (lost,) = (into / "inputs").glob("00001-*")
    (damaged,) = (into / "inputs").glob("00002-*")
    before = [lost.read_bytes(), damaged.read_bytes()]
    lost.unlink()
    damaged.write_text('"/etc/passwd"\n')
    for share in ("2/7", "3/7"):
        refused = run("run", "work", into, "--shard", share)
        assert refused.exit_code == 1 and "not the list that was planned" in refused.stderr
        assert "the same `zeroshot run plan` command again" in refused.stderr
    plan(inputs, into)
    assert [lost.read_bytes(), damaged.read_bytes()] == before and (into / "plan.json").read_text() == text
    assert run("run", "work", into).exit_code == 3


def test_results_of_another_plan_are_not_taken_over(inputs: list[str], tmp_path: Path) -> None:
    """Where only the plan is gone, the same plan goes on with its results; another one is refused, and reads none."""
    into = tmp_path / "run"
    plan(inputs, into)
    run("run", "work", into)
    good = merged(into)
    other = ("run", "plan", *inputs, "--labels", "cyan,black", "--model", "tiny", "--into", into, "--shard-size", 5)
    (into / "plan.json").unlink()
    refused = run(*other)
    assert refused.exit_code == 1 and "results of another plan" in refused.stderr and not (into / "plan.json").exists()
    plan(inputs, into)
    assert "nothing is left to do" in run("run", "work", into).stderr and merged(into) == good
    shutil.rmtree(into / "done")
    (into / "plan.json").unlink()
    refused = run(*other)
    assert refused.exit_code == 1 and "remove its folders done and parts" in refused.stderr
    shutil.move(into / "parts", tmp_path / "parts")
    assert run(*other).exit_code == 0
    shutil.move(tmp_path / "parts", into / "parts")  # as a worker leaves them that was stopped
    assert run("run", "work", into).exit_code == 3
    assert b"red" not in merged(into)


def test_two_plans_at_once_leave_one_whole_run(tmp_path: Path) -> None:
    """Whoever is second is refused, and has written over none of the first one's lists, whenever it began."""
    folder = LocalFolder(str(tmp_path / "run"))
    names = [f"s3://bucket/{number}.png" for number in range(30)]
    for moment in range(4):  # before each of the 3 lists, and before the plan
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        second = FolderWithEvents(folder.place, {moment: partial(write_plan, folder, {}, names, 10)})
        with pytest.raises(OutputError, match="another plan meanwhile"):
            write_plan(second, {"top_k": 1}, reversed(names), 10)
        planned = load_plan(folder)
        assert planned.recipe == {}
        assert [name for number in range(3) for name in read_shard(folder, planned, number).entries] == names


def test_another_model_is_refused(inputs: list[str], fake_model: FakeModel, tmp_path: Path) -> None:
    """A worker whose model is another one stops before its first image."""
    plan(inputs, tmp_path / "run")
    fake_model.encoder = type(fake_model.encoder)(size=(16, 16))
    refused = run("run", "work", tmp_path / "run")
    assert refused.exit_code == 1 and "not the model that the run was planned with: preprocessing" in refused.stderr


def test_killed_between_any_two_writes_it_ends_the_same(
    inputs: list[str], whole: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before or after each write of a shard, the run is continued to the same bytes, nothing twice."""
    plan(inputs, tmp_path / "planned", "--features")
    expected = whole()
    writes = {name: getattr(LocalFolder, name) for name in ("create", "replace")}
    for moment in range(0, 60, 5):  # before and after each of a shard's 3 writes: 5 meets all 6
        into = tmp_path / f"run{moment}"
        shutil.copytree(tmp_path / "planned", into)
        left = [moment]

        def write(self: LocalFolder, name: str, content: bytes, how: str = "create", left: list[int] = left) -> bool:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            outcome: bool = writes[how](self, name, content)
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return outcome

        with monkeypatch.context() as patched:
            for name in writes:
                patched.setattr(LocalFolder, name, partialmethod(write, how=name))
            stopped = run("run", "work", into).exit_code == 130
        assert run("run", "work", into).exit_code in (0, 3)
        assert merged(into, "m.jsonl") == expected, moment
        if not stopped:
            break
    assert moment > 20


def test_two_workers_at_once_leave_one_result(inputs: list[str], whole: Callable[..., bytes], tmp_path: Path) -> None:
    """Workers that take the same shards at the same time write the same, whoever is first."""
    into = tmp_path / "run"
    plan(inputs, into, size=3)
    from zeroshot.distribute.plan import numbers
    from zeroshot.distribute.work import Machine, build_worker

    folder = open_folder(str(into))
    planned = load_plan(folder)
    recipe = parse_recipe(planned.recipe)
    workers = [build_worker(folder, planned, recipe, Machine()) for _ in range(4)]
    threads = [threading.Thread(target=lambda w=w: [w.process(n) for n in numbers(planned)]) for w in workers]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert merged(into) == whole()
    assert not [path for path in into.rglob("*") if path.name.endswith(".tmp")]
    assert len(list((into / "parts").iterdir())) == len(planned.shards)


def test_what_no_done_object_names_is_computed_again(inputs: list[str], tmp_path: Path) -> None:
    """A part without its done object is never taken over, whatever it holds: the images decide."""
    into = tmp_path / "run"
    plan(inputs, into)
    run("run", "work", into)
    good = merged(into)
    part = part_of(into, 0)
    whole_part = part.read_bytes()
    for content in (whole_part.replace(b'"probability": 0.', b'"probability": 0.0', 1), whole_part[:-20], b"", b"{}\n"):
        part.write_bytes(content)
        (into / "done" / "00000.done").unlink()
        assert run("run", "work", into).exit_code in (0, 3)
        assert merged(into, "m.jsonl") == good


@pytest.mark.parametrize("options", [("--features",), ("--features", "--parts", "parquet")])
def test_damaged_parts_are_named_and_computed_again(
    options: tuple[str, ...], inputs: list[str], whole: Callable[..., bytes], tmp_path: Path
) -> None:
    """Records and features that changed since are refused by the merge, and made of the images by --verify."""
    if "parquet" in options:
        pytest.importorskip("pyarrow")
    into = tmp_path / "run"
    plan(inputs, into, *options)
    run("run", "work", into)
    expected = whole()
    for path in sorted((into / "parts").iterdir())[:: 1 if "parquet" in options else 3]:
        content = path.read_bytes()
        middle = len(content) - 9
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        refused = run("run", "merge", into, "-o", tmp_path / "refused.jsonl")
        assert refused.exit_code == 1 and not (tmp_path / "refused.jsonl").exists()
        assert path.name in refused.stderr and f"zeroshot run work {into} --verify" in refused.stderr
        assert run("run", "work", into, "--verify").exit_code in (0, 3)
        assert path.read_bytes() == content
        assert merged(into) == expected


def test_a_damaged_done_object_leads_to_its_repair(inputs: list[str], tmp_path: Path) -> None:
    """Status and merge tell it from one that is missing, and name what makes it anew; other names are none."""
    into = tmp_path / "run"
    plan(inputs, into, "--features")
    run("run", "work", into)
    expected = merged(into)
    done = into / "done" / "00003.done"
    done.write_bytes(b"")
    status = json.loads(run("run", "status", into).stdout)
    assert (status["committed"], status["missing"], status["damaged"]) == (6, [], [3])
    for command in (("run", "merge", into, "-o", tmp_path / "m.jsonl"), ("search", into, "red")):
        refused = run(*command)
        assert refused.exit_code == 1 and f"zeroshot run work {into} --verify" in refused.stderr
    (into / "done" / "00001.done").unlink()
    (into / "done" / "000001.done").touch()
    refused = run("run", "merge", into, "-o", tmp_path / "m.jsonl")
    assert "shards are missing: 1\n" in refused.stderr and f"zeroshot run work {into} --verify" in refused.stderr
    assert run("run", "work", into).exit_code in (0, 3)
    assert json.loads(run("run", "status", into).stdout)["missing"] == []
    assert run("run", "work", into, "--verify").exit_code in (0, 3)
    assert merged(into) == expected


def test_workers_that_round_otherwise_share_a_run(inputs: list[str], tmp_path: Path) -> None:
    """Whatever two workers write in whatever order, each stopped at any write, a done object names what stands."""
    folder = LocalFolder(str(tmp_path / "run"))
    plan(inputs, tmp_path / "run", "--features", size=25)
    planned = load_plan(folder)
    run("run", "work", tmp_path / "run")
    found = commits.find_done(folder, planned.id, 0)
    assert found is not None
    records = [folder.read(found.files[0].name)]
    records.append(records[0].replace(b'"probability": 0.', b'"probability": 0.0', 1))
    assert records[0] != records[1]
    features = np.load(part_of(tmp_path / "run", 0, "features"))
    recipe = parse_recipe(planned.recipe)

    def write(worker: int, place: LocalFolder) -> None:
        made = part_files.build(0, records[worker], features + np.float32(worker), recipe)
        files = tuple(commits.File.of(name, content) for name, content in made)
        done = commits.Done(planned.id, 0, found.images, found.failures, files, {})
        with suppress(KeyboardInterrupt):
            commits.commit(place, done, tuple(content for _, content in made))

    def stop() -> None:
        raise KeyboardInterrupt

    for begins, stopped, ended in product(range(4), repeat=3):  # before which of the 3 writes of each
        for name in ("parts", "done"):
            shutil.rmtree(tmp_path / "run" / name)
            (tmp_path / "run" / name).mkdir()
        inner = FolderWithEvents(folder.place, {stopped: stop})
        write(0, FolderWithEvents(folder.place, {ended: stop, begins: partial(write, 1, inner)}))
        there = commits.committed(folder, planned)
        finished = ended in (3, begins) or (stopped == 3 and begins < ended)
        assert bool(there) == finished
        for number in there:
            done = commits.find_done(folder, planned.id, number)
            assert done is not None and len(commits.read_records(folder, planned, done)) == 25


def test_a_half_deleted_run_is_refused_and_made_whole(
    inputs: list[str], whole: Callable[..., bytes], tmp_path: Path
) -> None:
    """Parts and done objects that are gone, cut, or another run's are named by the merge, and made anew by --verify."""
    into = tmp_path / "run"
    plan(inputs, into)
    run("run", "work", into)
    expected = whole()
    damages: list[Callable[[], object]] = [
        lambda: part_of(into, 1).unlink(),
        lambda: os.truncate(part_of(into, 2), 100),
        lambda: (into / "done" / "00003.done").write_bytes(b""),
        lambda: shutil.copy(into / "done" / "00001.done", into / "done" / "00000.done"),
        lambda: (into / "done" / "00002.done").write_text('{"files": [], "plan": 1}'),
        lambda: shutil.rmtree(into / "parts"),
        lambda: shutil.rmtree(into / "done"),
    ]
    for damage in damages:
        damage()
        assert run("run", "merge", into, "-o", tmp_path / "merged.jsonl").exit_code == 1
        assert run("run", "work", into, "--verify").exit_code in (0, 3)
        assert merged(into) == expected


def test_an_archive_that_lost_images_since_the_plan_is_no_shorter_shard(inputs: list[str], tmp_path: Path) -> None:
    """The number that was planned is the number that is committed, or nothing is."""
    plan(inputs, tmp_path / "run")
    make_tar(Path(inputs[1]), [("0.png", png())])
    refused = run("run", "work", tmp_path / "run")
    assert refused.exit_code == 1 and "has changed since" in refused.stderr


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet"])
def test_an_archive_in_another_order_is_refused_by_its_name(kind: str, fake_model: FakeModel, tmp_path: Path) -> None:
    """Replaced between two shards by one with as many members, it would give some images twice, and others never."""
    members = [(f"{number:02}.png", png()) for number in range(20)]

    def make(order: list[tuple[str, bytes]]) -> str:
        if kind == "parquet":
            pyarrow = pytest.importorskip("pyarrow")
            rows = [{"bytes": content, "path": name} for name, content in order]
            table = pyarrow.table({"image": rows})
            pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "x.parquet", row_group_size=10)
            return str(tmp_path / "x.parquet")
        return str((make_tar if kind == "tar" else make_zip)(tmp_path / f"x.{kind}", order))

    archive = make(members)
    plan([archive], tmp_path / "run", size=10)
    assert run("run", "work", tmp_path / "run", "--shard", "1/2").exit_code == 0
    make(members[10:] + members[:10])
    refused = run("run", "work", tmp_path / "run")
    assert refused.exit_code == 1 and f"{archive} has changed since the run was planned" in refused.stderr
    assert "restore it, or plan another run" in refused.stderr
    make(members)
    assert run("run", "work", tmp_path / "run").exit_code == 0
    assert run("run", "merge", tmp_path / "run", "-o", tmp_path / "m.jsonl").exit_code == 0
    assert len({json.loads(line)["path"] for line in (tmp_path / "m.jsonl").open()}) == 20


def test_lists_keep_every_name_and_archives_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list reads back as it was written; archives are cut where they are long, and whole where nobody counts them."""
    tar = str(make_tar(tmp_path / "x.tar", [(f"{number}.png", png()) for number in range(7)]))
    names = ["a\nb.png", "\udcff.png", "é😀.png", tar, "s3://bucket/y.tar", "z.png"]
    shards = list(cut(names, 3))
    assert [shard.images for shard in shards] == [3, 3, 3, 1, None, 1]
    found = [entry for shard in shards for entry in shard.entries]
    assert [entry if isinstance(entry, str) else replace(entry, sha256=None) for entry in found] == [
        *names[:3],
        Piece(tar, 0, 3),
        Piece(tar, 3, 6),
        Piece(tar, 6, None),
        Piece("s3://bucket/y.tar"),
        "z.png",
    ]
    for shard in shards:
        assert tuple(parse_entries(shard.lines())) == shard.entries
    assert [name for shard in shards[1:4] for name in shard.images_in()] == list(shard_entries.expand(tar))


def test_a_plan_is_made_of_a_stream(tmp_path: Path) -> None:
    """Inputs are listed once, and never all held at once."""
    seen = 0

    def names() -> object:
        nonlocal seen
        for number in range(10_000):
            seen += 1
            yield f"s3://bucket/{number}.jpg"

    written: list[int] = []
    made = write_plan(LocalFolder(str(tmp_path / "run")), {}, names(), 1000, lambda n: written.append(seen))  # type: ignore[arg-type]
    assert len(made.shards) == 10 and made.images == 10_000
    assert written == [1000 * (index + 1) for index in range(10)]
    assert load_plan(LocalFolder(str(tmp_path / "run"))) == made


def test_a_place_without_a_run_says_so(tmp_path: Path) -> None:
    """No run, a file, an address that cannot be written to."""
    for command in (("work",), ("status",), ("merge", "-o", tmp_path / "m.jsonl")):
        refused = run("run", command[0], tmp_path / "none", *command[1:])
        assert refused.exit_code == 1 and "does not hold a run" in refused.stderr
    with pytest.raises(InputError):
        open_folder("https://host/run")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        LocalFolder(str(tmp_path / "file")).create("a", b"")


def test_features_stand_beside_the_records(inputs: list[str], tmp_path: Path) -> None:
    """A row for each image that could be read, in the records' order."""
    plan(inputs, tmp_path / "run", "--features")
    run("run", "work", tmp_path / "run")
    rows = [np.load(path) for path in sorted((tmp_path / "run" / "parts").glob("*.npy"))]
    assert np.concatenate(rows).shape == (22, 8)


def test_a_finished_run_is_searched_without_its_images(inputs: list[str], tmp_path: Path) -> None:
    """`search` and `features` read what a run holds: the images may be gone, and the answers are the same."""
    plan(inputs, tmp_path / "run", "--features")
    unfinished = run("search", tmp_path / "run", "red", "--model", "tiny")
    assert unfinished.exit_code == 1 and "shard 0" in unfinished.stderr and "is missing" in unfinished.stderr
    run("run", "work", tmp_path / "run")
    before = run("search", *inputs, "red", "--model", "tiny", "--format", "jsonl", "--no-cache")
    assert run("features", *inputs, "--model", "tiny", "--no-cache", "-o", tmp_path / "a.npz").exit_code == 3
    for path in inputs[:3]:
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    after = run("search", tmp_path / "run", "red", "--model", "tiny", "--format", "jsonl")
    assert after.stdout == before.stdout and after.exit_code == before.exit_code == 3
    assert run("features", tmp_path / "run", "--model", "tiny", "-o", tmp_path / "b.npz").exit_code == 3
    one, other = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    assert (one["paths"] == other["paths"]).all() and (one["features"] == other["features"]).all()


def test_a_finished_run_is_classified_anew_without_its_images(inputs: list[str], tmp_path: Path) -> None:
    """Other labels, shares and neighbours are applied to the features of a run: the images may be gone."""
    plan(inputs, tmp_path / "run", "--features")
    run("run", "work", tmp_path / "run")
    asked = ("--labels", "red,blue,green", "--format", "jsonl", "--no-cache")
    ways = ((), ("--prior", "auto"), ("--neighbours",), ("--exclude", "*.zip*"), ("--sample", 5, "--seed", 3))
    before = [run("classify", *inputs, *asked, *way) for way in ways]
    for path in inputs[:3]:
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    for way, one in zip(ways, before, strict=True):
        after = run("classify", tmp_path / "run", *asked, *way)
        assert after.stdout == one.stdout != "", way
        assert after.exit_code == one.exit_code


def test_a_run_is_no_output_and_stands_alone(inputs: list[str], tmp_path: Path) -> None:
    """No output replaces a run's files, a run is no input among others, and its images are not opened anew."""
    plan(inputs, tmp_path / "run", "--features")
    run("run", "work", tmp_path / "run")
    asked = ("classify", tmp_path / "run", "--labels", "red,blue")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for path in (tmp_path / "run" / "plan.json", next((tmp_path / "run" / "done").iterdir())):
        refused = run(*asked, "--output", path, "--format", "json")
        assert refused.exit_code != 0 and f"lies among the files of the run {tmp_path / 'run'}" in refused.stderr
        assert run("search", tmp_path / "run", "red", "--output", path, "--format", "json").exit_code != 0
        assert run("eval", tmp_path / "run", "--output", path, "--format", "json").exit_code != 0
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    beside = run("classify", tmp_path / "run", *inputs, "--labels", "red,blue")
    assert (beside.exit_code, "stands alone" in beside.stderr) == (2, True)
    for option in ("--no-exif", "--draft"):
        for command in (asked, ("search", tmp_path / "run", "red")):
            anew = run(*command, option)
            assert (anew.exit_code, f"opened in another way: {option}" in anew.stderr) == (1, True)


def test_no_output_lies_among_the_files_of_a_run(inputs: list[str], tmp_path: Path) -> None:
    """Whichever command writes it, and whether or not that reads the run; beside them, and in other folders, it may."""
    into = tmp_path / "run"
    plan(inputs, into)
    run("run", "work", into)
    expected = merged(into)
    before = {path: path.read_bytes() for path in into.rglob("*") if path.is_file()}
    (tmp_path / "link").symlink_to(into / "parts")
    taken = [
        *before,
        into / "parts" / "new.jsonl",
        into / "inputs" / "sub" / "new.jsonl",
        tmp_path / "link" / "x.jsonl",
    ]
    for target in taken:
        for command in (
            ("run", "merge", into, "-o", target, "--format", "jsonl"),
            ("classify", inputs[1], *LABELS, "-o", target, "--format", "jsonl"),
        ):
            refused = run(*command)
            assert refused.exit_code == 1 and f"lies among the files of the run {into}" in refused.stderr
    assert {path: path.read_bytes() for path in into.rglob("*") if path.is_file()} == before
    assert run("run", "merge", into, "-o", into / "merged.jsonl").exit_code == 3
    assert (into / "merged.jsonl").read_bytes() == expected
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "inputs").mkdir()
    for target in (tmp_path / "inputs" / "a.jsonl", tmp_path / "plan.json"):
        assert run("classify", inputs[1], *LABELS, "-o", target).exit_code == 0


def test_merge_says_what_it_writes(inputs: list[str], tmp_path: Path) -> None:
    """Its hints name what works: a file, of this machine, in a format with one record per line."""
    into = tmp_path / "run"
    plan(inputs, into)
    run("run", "work", into)
    for target, hint in (
        ("-", "name a file, or leave the option out where it may be"),
        (tmp_path / "x.parquet", "end it in .jsonl, .csv or .tsv, or give --format"),
        (tmp_path / "x.json", "a name ending in .jsonl, .csv or .tsv"),
        ("s3://b/x.jsonl", "cannot write s3://b/x.jsonl: outputs are files and folders of this machine"),
    ):
        refused = run("run", "merge", into, "-o", target)
        assert refused.exit_code != 0 and hint in refused.stderr, target


def test_a_finished_run_is_evaluated_without_its_images(
    fake_model: FakeModel, images: SaveImage, tmp_path: Path
) -> None:
    """`eval` on a run says what it says on the folder, labels by folders or by a table; no image is opened."""
    for label, other in (("red", "green"), ("green", "blue"), ("blue", "blue")):
        for number in range(4):
            images(f"data/{label}/{number}.png", label if number else other)
    (tmp_path / "data" / "red" / "bad.png").write_bytes(b"bad")
    rows = [f"data/{label}/{number}.png,{label}\n" for label in ("blue", "red") for number in (3, 0)]
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(rows))
    plan([str(tmp_path / "data")], tmp_path / "run", "--features")
    options = ("--model", "tiny", "--format", "json", "--no-cache")
    ways: list[tuple[tuple[object, ...], tuple[object, ...]]] = [
        ((tmp_path / "data",), (tmp_path / "run",)),
        (("--targets", table), (tmp_path / "run", "--targets", table)),
    ]
    assert "is missing" in run("eval", tmp_path / "run", *options).stderr
    run("run", "work", tmp_path / "run")
    before = [run("eval", *folder, *options) for folder, _ in ways]
    shutil.rmtree(tmp_path / "data")
    fake_model.encoder.batches.clear()
    for said, (_, stored) in zip(before, ways, strict=True):
        again = run("eval", *stored, *options)
        assert again.exit_code == said.exit_code == (3 if stored == (tmp_path / "run",) else 0), again.output
        one, other = json.loads(said.stdout), json.loads(again.stdout)
        assert one.pop("manifest") != other.pop("manifest")
        assert one == other
    assert not fake_model.encoder.batches
    assert run("eval", tmp_path / "run", "--model", "tiny", "--targets", tmp_path / "none.csv").exit_code == 1


def test_images_of_a_run_are_labelled_by_their_folders() -> None:
    """The folder that holds an image, wherever that is, is its label; without one there is none."""
    from zeroshot.evaluation.labelled_folders import group_by_folder

    paths = ["a/dog/1.png", "x.tar::cat/2.png", "s3://bucket/dog/3.png", "b/cat/n/cat/4.png", "a/dog/1.png"]
    found = group_by_folder(paths)
    assert found.keys == ("cat", "dog") and found.targets.tolist() == [0, 0, 1, 1]
    assert found.paths == ("x.tar::cat/2.png", "b/cat/n/cat/4.png", "a/dog/1.png", "s3://bucket/dog/3.png")
    with pytest.raises(InputError, match="no folder"):
        group_by_folder(["1.png"])


def test_a_run_without_features_is_not_searched(inputs: list[str], tmp_path: Path) -> None:
    """What was not stored cannot be read."""
    plan(inputs, tmp_path / "run")
    for command in (("search", tmp_path / "run", "red"), ("eval", tmp_path / "run")):
        refused = run(*command, "--model", "tiny")
        assert refused.exit_code == 1 and "holds no features" in refused.stderr
        assert "plan the run with --features" in refused.stderr


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_images_that_are_all_gone_are_not_committed_as_failures(
    count: int, fake_model: FakeModel, images: SaveImage, tmp_path: Path
) -> None:
    """A disk that is away on one machine is not the images' fault, however few they are."""
    for number in range(count):
        images(f"disk/all/{number}.png", "red")
    plan([str(tmp_path / "disk")], tmp_path / "run")
    for empty in (False, True):  # the place where a disk is mounted stays
        (tmp_path / "disk").rename(tmp_path / "away")
        if empty:
            (tmp_path / "disk" / "all").mkdir(parents=True)
        refused = run("run", "work", tmp_path / "run")
        assert refused.exit_code == 1 and "missing, denied or not answered" in refused.stderr
        assert f"{tmp_path}/disk/all/0.png" in refused.stderr and "--accept-failures" in refused.stderr
        assert not (tmp_path / "run" / "done").exists()
        shutil.rmtree(tmp_path / "disk", ignore_errors=True)
        (tmp_path / "away").rename(tmp_path / "disk")
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    shutil.move(tmp_path / "disk", tmp_path / "away")
    assert run("run", "work", tmp_path / "other", "--accept-failures").exit_code == 3
    shutil.move(tmp_path / "away", tmp_path / "disk")
    assert run("run", "work", tmp_path / "run").exit_code == 0


def test_the_last_images_are_not_committed_as_failures(inputs: list[str], tmp_path: Path) -> None:
    """The last shard is small, and a worker that sees no disk commits none of it."""
    plan(inputs[:1], tmp_path / "run", size=10)  # 12 images: the last two in a shard of their own
    (tmp_path / "all").rename(tmp_path / "away")
    refused = run("run", "work", tmp_path / "run", "--shard", "2/2")
    assert refused.exit_code == 1 and "shard 1 is not committed: 2 of its 2 images are missing" in refused.stderr
    assert json.loads(run("run", "status", tmp_path / "run").stdout)["committed"] == 0


def test_an_image_that_was_deleted_is_one_failure(fake_model: FakeModel, images: SaveImage, tmp_path: Path) -> None:
    """In shards of one image too a run is finished: a file that is gone from among others was deleted."""
    for number in range(3):
        images(f"all/{number}.png", "red")
    plan([str(tmp_path / "all")], tmp_path / "run", size=1)
    (tmp_path / "all" / "1.png").unlink()
    assert run("run", "work", tmp_path / "run").exit_code == 3
    assert b'"error": "no such file"' in merged(tmp_path / "run")


def test_what_is_left_of_a_run_is_said(inputs: list[str], tmp_path: Path) -> None:
    """A share that is done is not the run, and what is damaged is not done: merging is named where it works."""
    into = tmp_path / "a run"
    plan(inputs, into)
    for _ in range(2):
        said = run("run", "work", into, "--shard", "1/2")
    assert "nothing is left in this share (4 of 7 shards of the run are committed)" in said.stderr
    assert said.exit_code == 0 and "merge" not in said.stderr
    run("run", "work", into)
    assert f"`zeroshot run merge '{into}' -o FILE` writes the records" in run("run", "work", into).stderr
    (into / "done" / "00003.done").write_bytes(b"{")
    refused = run("run", "work", into)
    assert refused.exit_code == 1 and "1 of 7 shards is damaged or of another plan: 3" in refused.stderr
    assert f"`zeroshot run work '{into}' --verify`" in refused.stderr
    other = run("run", "work", into, "--shard", "1/2")
    assert other.exit_code == 0 and "in this share (6 of 7 shards of the run are committed)" in other.stderr
    table = run("run", "status", into, "--format", "table").stdout
    assert f"damaged   1; `zeroshot run work '{into}' --verify` computes them again" in table
    assert run("run", "work", into, "--verify").exit_code in (0, 3)


def test_numbers_are_named_in_few_words() -> None:
    """Neighbours are one span."""
    assert name_numbers([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert name_numbers(range(0, 100, 2)).endswith("and 40 more")
    assert commits.done_name(7) == "done/00007.done"
