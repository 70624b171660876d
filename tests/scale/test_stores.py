"""Images in object stores and runs there, against moto's S3 server: what is read, retried, refused, and never told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.commands import run
from support.fakes import COLOURS, FakeModel
from support.object_store import KEY_ID, SECRET, Faults, misbehaving, moto, use_store
from unit.test_archives import make_tar, make_zip, png
from zeroshot.distribute.run_folder import open_folder
from zeroshot.errors import ImageError, InputError
from zeroshot.images.paths import find_entries, find_images
from zeroshot.images.sources import stores
from zeroshot.images.sources.objects import read_object

LABELS = ("--labels", "red,green,blue", "--model", "tiny", "--no-cache")
PLAN = LABELS[:-1]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A store with objects, archives, and names that need care."""
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.001)
    with moto(monkeypatch) as there:
        put = client(there).put_object
        for number, colour in enumerate(COLOURS):
            put(Bucket="bucket", Key=f"imgs/{number}.png", Body=png(colour))
        for key in ("imgs/a b/ü#%?.png", "imgs/x%20y.png", "imgs/.hidden/z.png", "imgs/notes.txt"):
            put(Bucket="bucket", Key=key, Body=png())
        put(Bucket="bucket", Key="imgs/bad.png", Body=b"bad")
        put(Bucket="bucket", Key="imgs/", Body=b"")
        put(Bucket="bucket", Key="imgs-other/n.png", Body=png())
        members = [(f"{number}.png", png(colour)) for number, colour in enumerate(COLOURS)]
        put(Bucket="bucket", Key="arch/x.tar", Body=make_tar(tmp_path / "x.tar", members).read_bytes())
        put(Bucket="bucket", Key="arch/x.zip", Body=make_zip(tmp_path / "x.zip", members).read_bytes())
        yield there


def client(address: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=address, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET)


def records(text: str) -> dict[str, Any]:
    return {record["path"]: record for record in map(json.loads, text.splitlines())}


def test_a_prefix_is_listed_and_read(address: str, fake_model: FakeModel) -> None:
    """A prefix gives its images in the store's order, hidden ones and others aside; keys are taken as they are."""
    found = list(find_images(["s3://bucket/imgs", "s3://bucket/arch/"], archives=True))
    keys = [name.removeprefix("s3://bucket/") for name in found]
    assert [key for key in keys if key.startswith("imgs/")] == sorted(
        [f"imgs/{n}.png" for n in range(9)] + ["imgs/a b/ü#%?.png", "imgs/bad.png", "imgs/x%20y.png"]
    )
    part = "parts/part-00000-0123456789abcdef.parquet"
    for key in ("run/plan.json", f"run/{part}", f"data/{part}"):
        client(address).put_object(Bucket="bucket", Key=key, Body=b"x")
    below = list(find_entries(["s3://bucket/run", "s3://bucket/data/"], archives=True))
    assert below == [f"s3://bucket/data/{part}"]
    assert keys[12:] == [f"arch/x.{kind}::{n}.png" for kind in ("tar", "zip") for n in range(9)]
    outcome = run("classify", *found, "s3://bucket/imgs/none.png", "s3://none/x.png", *LABELS)
    assert outcome.exit_code == 3
    answers = records(outcome.stdout)
    assert len(answers) == len(found) + 2
    errors = {path: answer["error"] for path, answer in answers.items() if "error" in answer}
    assert set(errors) == {"s3://bucket/imgs/bad.png", "s3://bucket/imgs/none.png", "s3://none/x.png"}
    assert errors["s3://bucket/imgs/none.png"] == "no such object"
    assert answers["s3://bucket/imgs/0.png"]["label"] == answers["s3://bucket/arch/x.tar::0.png"]["label"] == "red"


def test_a_run_in_a_store_is_one_here(address: str, fake_model: FakeModel, tmp_path: Path) -> None:
    """Planned, processed in shares, stopped and merged in a store: the bytes of one unbroken run on this machine."""
    inputs = ["s3://bucket/imgs", "s3://bucket/arch/x.tar", "s3://bucket/arch/x.zip"]
    planned = run("run", "plan", *inputs, *PLAN, "--into", "s3://bucket/run", "--shard-size", 4, "--features")
    assert planned.exit_code == 0, planned.output
    assert run("run", "work", "s3://bucket/run", "--shard", "2/2").exit_code in (0, 3)
    assert "are missing" in run("run", "merge", "s3://bucket/run", "-o", tmp_path / "m.jsonl").stderr
    assert run("run", "work", "s3://bucket/run").exit_code in (0, 3)
    assert run("run", "merge", "s3://bucket/run", "-o", tmp_path / "m.jsonl").exit_code == 3
    assert run("classify", *inputs, *LABELS, "-o", tmp_path / "w.jsonl", "--resume").exit_code == 3
    assert (tmp_path / "m.jsonl").read_bytes() == (tmp_path / "w.jsonl").read_bytes()
    other = run("run", "plan", *inputs, *PLAN, "--into", "s3://bucket/run", "--top-k", 1, "--shard-size", 4)
    assert other.exit_code == 1 and "with other settings" in other.stderr
    (name,) = (name for name in open_folder("s3://bucket/run").names("parts") if name.startswith("part-00001"))
    client(address).delete_object(Bucket="bucket", Key=f"run/parts/{name}")
    assert f"{name} is gone" in run("run", "merge", "s3://bucket/run", "-o", tmp_path / "m.jsonl").stderr
    client(address).put_object(Bucket="bucket", Key=f"run/parts/{name.replace('part', 'features', 1)}", Body=b"bad")
    assert run("run", "work", "s3://bucket/run", "--verify").exit_code in (0, 3)
    assert run("run", "merge", "s3://bucket/run", "-o", tmp_path / "n.jsonl").exit_code == 3
    assert (tmp_path / "n.jsonl").read_bytes() == (tmp_path / "w.jsonl").read_bytes()


def test_labelled_images_below_a_prefix(address: str, fake_model: FakeModel) -> None:
    """The first folder below the prefix is the label, in a bucket as on a disk, and of an archive in one."""
    for colour in ("red", "green", "blue"):
        client(address).put_object(Bucket="bucket", Key=f"val/{colour}/deep/1.png", Body=png(colour))
    client(address).put_object(Bucket="bucket", Key="val/loose.png", Body=png())
    for place in ("s3://bucket/val", "s3://bucket/val/"):
        outcome = run("eval", place, "--model", "tiny", "--no-cache", "--format", "json")
        assert outcome.exit_code == 0, outcome.output
        document = json.loads(outcome.stdout)
        assert document["metrics"]["top1"]["value"] == 1 and "loose.png" in outcome.stderr
        names = [entry["path"] for entry in document["predictions"]]
        assert names == [f"s3://bucket/val/{colour}/deep/1.png" for colour in ("blue", "green", "red")]
    assert "no images in s3://bucket/none" in run("eval", "s3://bucket/none", "--model", "tiny").stderr


def test_an_object_is_created_once(address: str) -> None:
    """The second to create an object is told so, and changes nothing."""
    folder = open_folder("s3://bucket/some/run/")
    assert folder.create("done/1", b"first") and not folder.create("done/1", b"second")
    assert folder.read("done/1") == b"first"
    folder.replace("done/1", b"third")
    assert folder.read("done/1") == b"third" and list(folder.names("done")) == ["1"] and not list(folder.names("no"))
    folder.remove("done/1")
    folder.remove("done/1")
    with pytest.raises(FileNotFoundError):
        folder.read("done/1")


@pytest.mark.parametrize("kind", ["500", "503", "cut"])
def test_what_passes_is_asked_for_again(
    kind: str, address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A store that is overloaded or cuts its answers short costs time and no image: objects, tars, lists, commits."""
    faults = Faults([("/imgs/3.png", kind, 2), ("/arch/x.tar", kind, 2), ("list-type", kind, 1), ("/run/", kind, 2)])
    with misbehaving(address, faults) as front:
        use_store(monkeypatch, front)
        inputs = ["s3://bucket/imgs", "s3://bucket/arch/x.tar"]
        assert run("run", "plan", *inputs, *PLAN, "--into", "s3://bucket/run", "--shard-size", 16).exit_code == 0
        assert run("run", "work", "s3://bucket/run").exit_code == 3
        assert run("run", "merge", "s3://bucket/run", "-o", tmp_path / "m.jsonl").exit_code == 3
    answers = records((tmp_path / "m.jsonl").read_text())
    assert {path for path, answer in answers.items() if "error" in answer} == {"s3://bucket/imgs/bad.png"}
    assert len(answers) == 21
    assert [text for text, _, times in faults.rules if faults.seen[text] <= times] == []


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_of_a_store_that_gives_no_parts(
    kind: str, address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a store answers with a whole object whatever part it is asked for, as rclone's does, it is fetched once."""
    faults = Faults([(f"/arch/x.{kind}", "whole", 999)])
    with misbehaving(address, faults) as front:
        use_store(monkeypatch, front)
        outcome = run("classify", f"s3://bucket/arch/x.{kind}", *LABELS)
    assert outcome.exit_code == 0, outcome.output
    assert [answer["label"] for answer in records(outcome.stdout).values()][:3] == ["red", "green", "blue"]
    assert len(records(outcome.stdout)) == 9
    assert faults.seen[f"/arch/x.{kind}"] <= 4


def test_the_number_of_tries_is_the_users(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer outage is sat out by more tries; what is not a number of them is the default."""
    for tries, made in (("2", 2), ("7", 7), ("none", 5)):
        monkeypatch.setenv("ZEROSHOT_STORE_TRIES", tries)
        faults = Faults([("/imgs/3.png", "500", 99)])
        with misbehaving(address, faults) as front:
            use_store(monkeypatch, front)
            with pytest.raises(ImageError, match=f"in {made} tries: HTTP 500"):
                read_object("s3://bucket/imgs/3.png")
        assert faults.seen["/imgs/3.png"] == made


@pytest.mark.parametrize("kind", ["stall", "halt"])
def test_an_answer_that_does_not_come_is_asked_for_again(
    kind: str, address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What stalls before or in its answer is given up after its time, and asked again, whatever it was."""
    monkeypatch.setenv("ZEROSHOT_STORE_TIMEOUT", "3")
    names = ("/imgs/3.png", "/arch/x.tar", "list-type", "/run/parts", "/run/plan.json")
    faults = Faults([(name, kind, 1) for name in names])
    with misbehaving(address, faults) as front:
        use_store(monkeypatch, front)
        inputs = ["s3://bucket/imgs", "s3://bucket/arch/x.tar"]
        assert run("run", "plan", *inputs, *PLAN, "--into", "s3://bucket/run").exit_code == 0
        assert run("run", "work", "s3://bucket/run").exit_code == 3
        assert run("run", "merge", "s3://bucket/run", "-o", tmp_path / "m.jsonl").exit_code == 3
    answers = records((tmp_path / "m.jsonl").read_text())
    assert {path for path, answer in answers.items() if "error" in answer} == {"s3://bucket/imgs/bad.png"}
    assert len(answers) == 21 and all(faults.seen[name] > 1 for name in names)


def test_what_stays_is_one_failed_record(address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is denied, that is listed and gone, that never answers: each is a failure, the others are read."""
    rules = [("/imgs/1.png", "403", 99), ("/imgs/2.png", "404", 99), ("/imgs/3.png", "500", 99)]
    faults = Faults(rules)
    with misbehaving(address, faults) as front:
        use_store(monkeypatch, front)
        outcome = run("classify", "s3://bucket/imgs", *LABELS)
    assert outcome.exit_code == 3
    errors = {path[-5]: record["error"] for path, record in records(outcome.stdout).items() if "error" in record}
    assert errors["1"] == "the store denies access to it (HTTP 403)"
    assert errors["2"] == "no such object"
    assert errors["3"] == "the store gave no usable answer in 5 tries: HTTP 500"
    assert len(errors) == 4 and faults.seen["/imgs/1.png"] == faults.seen["/imgs/2.png"] == 1


@pytest.mark.parametrize(
    "endpoint", ["bad endpoint", "localhost:9000", "http://", "http://a b", "ftp://h", "http://[::1", "http://h:99999"]
)
def test_what_is_no_address_of_a_store_is_one_line(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before the store's client gets it, which would panic at the first request."""
    pytest.importorskip("obstore", reason="pip install '.[cloud]'")
    use_store(monkeypatch, endpoint)
    for command in (("classify", "s3://bucket/imgs", *LABELS), ("run", "status", "s3://bucket/run")):
        refused = run(*command)
        assert refused.exit_code == 1 and len(refused.stderr.splitlines()) <= 2
        assert f"is no address of a store: '{endpoint}'" in refused.stderr
    use_store(monkeypatch, "name:password@host")
    assert "password" not in run("run", "status", "s3://bucket/run").output


def test_a_store_that_is_not_there_or_says_nothing_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is put down to the address, silence to the store; a key that reads like a status is none."""
    pytest.importorskip("obstore", reason="pip install '.[cloud]'")
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.001)
    monkeypatch.setenv("ZEROSHOT_STORE_TRIES", "2")
    monkeypatch.setenv("ZEROSHOT_STORE_TIMEOUT", "0.5")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        use_store(monkeypatch, f"http://127.0.0.1:{port}")
        with pytest.raises(ImageError, match="in 2 tries: no answer in time"):
            read_object("s3://bucket/HTTP-404.jpg")
    use_store(monkeypatch, f"http://127.0.0.1:{port}")
    with pytest.raises(ImageError, match="in 2 tries: no connection"):
        read_object("s3://bucket/status-404.jpg")
    for command in (("classify", "s3://bucket/imgs", *LABELS), ("run", "status", "s3://bucket/run")):
        refused = run(*command)
        assert "no connection" in refused.stderr and "AWS_ENDPOINT_URL" in refused.stderr


def test_a_panic_of_the_client_is_a_reason() -> None:
    """A defect in Rust code is none of Python's exceptions; it becomes one, and is not asked for again."""
    asked = []
    panic = type("PanicException", (BaseException,), {})

    def request() -> None:
        asked.append(1)
        raise panic("request valid: many lines")

    with pytest.raises(ImageError, match="obstore, failed"):
        stores.with_retries(request)
    assert len(asked) == 1


def test_a_prefix_with_nothing_below_is_a_folder_that_is_not_there(
    address: str, fake_model: FakeModel, tmp_path: Path
) -> None:
    """It ends a command before a model is loaded; beside inputs that are there it is one failed record."""
    client(address).put_object(Bucket="bucket", Key="text/a.txt", Body=b"x")
    client(address).put_object(Bucket="bucket", Key="photo", Body=png("red"))
    nothing = "s3://bucket/nothing/"
    for command in (("classify", nothing, *LABELS), ("run", "plan", nothing, *PLAN, "--into", tmp_path / "run")):
        refused = run(*command)
        assert refused.exit_code == 1 and f"no such object, and none below it: {nothing}" in refused.stderr
    refused = run("classify", nothing, tmp_path / "none", *LABELS)
    assert refused.exit_code == 1 and "no such input" in refused.stderr and nothing in refused.stderr
    refused = run("classify", "s3://bucket/text", *LABELS)
    assert refused.exit_code == 1 and "no images in s3://bucket/text" in refused.stderr
    assert not fake_model.calls
    assert run("classify", "s3://bucket/photo", *LABELS).exit_code == 0
    client(address).put_object(Bucket="bucket", Key="no.tar", Body=make_tar(tmp_path / "no.tar", []).read_bytes())
    refused = run("classify", "s3://bucket/no.tar", *LABELS)
    assert refused.exit_code == 1 and "error: no images in s3://bucket/no.tar" in refused.stderr
    beside = run("classify", "s3://bucket/text", "s3://bucket/no.tar", "s3://bucket/imgs/0.png", *LABELS)
    assert beside.exit_code == 0 and len(records(beside.stdout)) == 1
    for empty in ("text", "no.tar"):
        assert beside.stderr.count(f"warning: no images in s3://bucket/{empty}") == 1
    beside = run("classify", nothing, "s3://bucket/imgs/0.png", *LABELS)
    assert beside.exit_code == 3 and records(beside.stdout)[nothing]["error"] == "no such object"


def test_a_store_that_is_down_is_told_of_what_was_named(
    address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for a run at a place is no reason to tell of its plan."""
    monkeypatch.setenv("ZEROSHOT_STORE_TRIES", "1")
    for kind, hint in (("500", "run the command again"), ("403", "check address and credentials")):
        with misbehaving(address, Faults([("bucket", kind, 999)])) as front:
            use_store(monkeypatch, front)
            for words in (("classify", "s3://bucket/imgs", *LABELS), ("search", "s3://bucket/imgs", "red")):
                refused = run(*words)
                assert refused.exit_code == 1 and "cannot read s3://bucket/imgs: the store" in refused.stderr
                assert hint in refused.stderr and "plan.json" not in refused.output
    assert not fake_model.calls


@pytest.mark.parametrize("kind", ["403", "500", "cut"])
def test_a_store_that_is_down_commits_no_failures(
    kind: str, address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that ran out are not the images' fault, nor is a store that is down: in shards of any size."""
    monkeypatch.setenv("ZEROSHOT_STORE_TRIES", "1")
    for size, inputs in ((1, "imgs"), (3, "imgs"), (100, "imgs"), (5, "arch/x.tar")):
        place = f"s3://bucket/run{size}"
        run("run", "plan", f"s3://bucket/{inputs}", *PLAN, "--into", place, "--shard-size", size)
        with misbehaving(address, Faults([("/imgs/", kind, 999), ("/arch/x.tar", kind, 999)])) as front:
            use_store(monkeypatch, front)
            refused = run("run", "work", place)
            assert refused.exit_code == 1 and "shard 0 is not committed" in refused.stderr
            assert json.loads(run("run", "status", place).stdout)["committed"] == 0
            if size > 1:  # else it would be asked of each image in turn
                assert run("run", "work", place, "--accept-failures").exit_code == 3
        use_store(monkeypatch, address)


def test_a_store_that_is_down_is_not_waited_for(
    address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some images in a row without an answer a shard is given up, not after all of its thousands."""
    run("run", "plan", "s3://bucket/imgs", *PLAN, "--into", "s3://bucket/run", "--batch-size", 2)
    monkeypatch.setattr("zeroshot.distribute.work._UNANSWERED", 2)
    monkeypatch.setenv("ZEROSHOT_STORE_TRIES", "1")
    with misbehaving(address, Faults([("/imgs/", "500", 999)])) as front:
        use_store(monkeypatch, front)
        refused = run("run", "work", "s3://bucket/run", "--workers", 1)
        assert refused.exit_code == 1 and "for 3 images of shard 0 in a row" in refused.stderr
        assert run("run", "work", "s3://bucket/run", "--accept-failures").exit_code == 3


def test_a_folder_that_is_denied_says_what_to_check(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To run the command again helps where a store is out of order, not where it denies access."""
    for kind, hint in (("403", "check address and credentials"), ("500", "run the command again")):
        with misbehaving(address, Faults([("/run/", kind, 99)])) as front:
            use_store(monkeypatch, front)
            refused = run("run", "status", "s3://bucket/run")
        assert refused.exit_code == 1 and hint in refused.stderr


def test_secrets_are_told_nowhere(
    address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither key nor secret stands in any object of a run, in any message, or in any record, whatever goes wrong."""
    told = []
    with misbehaving(address, Faults([("/imgs/1.png", "403", 99), ("/imgs/2.png", "500", 99)])) as front:
        use_store(monkeypatch, front)
        inputs = ["s3://bucket/imgs", "s3://bucket/arch/x.tar", "s3://none/x.png", "s3://bucket/imgs//x.png"]
        for command in (
            ("run", "plan", *inputs, *PLAN, "--into", "s3://bucket/run", "--features"),
            ("run", "work", "s3://bucket/run"),
            ("run", "status", "s3://bucket/run"),
            ("run", "merge", "s3://bucket/run", "-o", tmp_path / "m.jsonl"),
            ("classify", *inputs, *LABELS, "--format", "json"),
            ("classify", "s3://none/", *LABELS),
            ("run", "work", "s3://none/run"),
        ):
            told.append(run(*command).output)
    listing = client(address).list_objects_v2(Bucket="bucket", Prefix="run/")["Contents"]
    assert len(listing) >= 5
    for entry in listing:
        told.append(client(address).get_object(Bucket="bucket", Key=entry["Key"])["Body"].read().decode("latin-1"))
    told.append((tmp_path / "m.jsonl").read_text())
    for text in told:
        assert SECRET not in text and KEY_ID not in text and "Signature" not in text


def test_keys_that_cannot_be_listed_are_an_error_that_says_so(address: str) -> None:
    """Obstore lists no key with an empty part; nothing is left out in silence."""
    for key in ("odd/a//b.png", "dots/d/./x.png"):
        client(address).put_object(Bucket="bucket", Key=key, Body=png())
        with pytest.raises(InputError, match=f'empty part .* as a part: "{key}"') as caught:
            list(find_images([f"s3://bucket/{key[:4]}"]))
        assert caught.value.hint == "give the object another name"


@pytest.mark.parametrize("place", ["s3://", "gs://", "az://", "s3:///"])
def test_a_store_without_a_bucket_is_named(place: str) -> None:
    """The scheme that was typed stands in the message and in its hint."""
    pytest.importorskip("obstore", reason="pip install '.[cloud]'")
    scheme = place.partition(":")[0]
    for command in (("classify", place, *LABELS), ("run", "status", place)):
        refused = run(*command)
        assert refused.exit_code == 1 and f"{scheme}:// names no bucket" in refused.stderr
        assert f"{scheme}://BUCKET/KEY" in refused.stderr


@pytest.mark.parametrize(("kind", "hint"), [("403", "check address and credentials"), ("503", "run the command again")])
def test_what_helps_is_said_of_a_runs_folder(
    kind: str, hint: str, address: str, fake_model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is listed and where it is written: credentials where access is denied, another try where it may pass."""
    run("run", "plan", "s3://bucket/imgs", *PLAN, "--into", "s3://bucket/run")
    monkeypatch.setenv("ZEROSHOT_STORE_TRIES", "1")
    for text, what in (("prefix=run%2Fdone", "cannot list"), ("/run/parts", "cannot write")):
        with misbehaving(address, Faults([(text, kind, 99)])) as front:
            use_store(monkeypatch, front)
            refused = run("run", "work", "s3://bucket/run")
        assert refused.exit_code == 1 and what in refused.stderr and hint in refused.stderr, refused.stderr


def test_an_answer_that_is_cut_short_is_called_so(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason is no class of the client's."""
    with misbehaving(address, Faults([("/imgs/0.png", "cut", 99)])) as front:
        use_store(monkeypatch, front)
        with pytest.raises(ImageError, match="in 5 tries: the answer was cut short"):
            read_object("s3://bucket/imgs/0.png")


def test_a_key_that_names_a_member_too_is_refused(address: str, fake_model: FakeModel, tmp_path: Path) -> None:
    """An object is never answered for by a member of an archive, with and without that archive, planned or not."""
    put = client(address).put_object
    members = [("img/1.png", png("red")), ("2.png", png("red"))]
    put(Bucket="bucket", Key="p/x.tar", Body=make_tar(tmp_path / "p.tar", members).read_bytes())
    for key in ("p/x.tar::img/1.png", "p/none.zip::m.png", "p/a::b.png"):
        put(Bucket="bucket", Key=key, Body=png("blue"))
    refused = {"s3://bucket/p/x.tar::img/1.png::": ".tar::", "s3://bucket/p/none.zip::m.png::": ".zip::"}
    for place in ("s3://bucket/p/", "s3://bucket/p"):
        outcome = run("classify", place, "--archives", *LABELS)
        answers = records(outcome.stdout)
        assert outcome.exit_code == 3 and len(answers) == 5
        for name, what in refused.items():
            assert f"its key holds `{what}`" in answers[name]["error"]
        assert answers["s3://bucket/p/x.tar::img/1.png"]["label"] == "red"
        assert answers["s3://bucket/p/a::b.png"]["label"] == "blue"
    assert run("run", "plan", "s3://bucket/p/", *PLAN, "--into", tmp_path / "run").exit_code == 0
    assert run("run", "work", tmp_path / "run").exit_code == 3
    assert run("run", "merge", tmp_path / "run", "-o", tmp_path / "m.jsonl").exit_code == 3
    merged = records((tmp_path / "m.jsonl").read_text())
    assert {name for name, record in merged.items() if "error" in record} == set(refused)


def test_objects_are_copied_by_sort_and_never_moved(address: str, fake_model: FakeModel, tmp_path: Path) -> None:
    """Objects and members of archives in a store are copied here, and undo takes away what the store still holds."""
    names = ["s3://bucket/imgs/0.png", "s3://bucket/imgs/a b/ü#%?.png", "s3://bucket/arch/x.tar::1.png"]
    out = tmp_path / "out"
    assert run("sort", *names, *LABELS, "--into", out, "--move").exit_code == 3 and not list(tmp_path.glob("out/*"))
    sorted_ = run("sort", *names, *LABELS, "--into", out)
    assert sorted_.exit_code == 0, sorted_.output
    there = sorted(str(path.relative_to(out)) for path in out.glob("[a-z]*/*"))
    assert there == ["green/1.png", "red/0.png", "red/ü#%-.png"]
    assert (out / "red/0.png").read_bytes() == png("red")
    client(address).delete_object(Bucket="bucket", Key="imgs/0.png")
    assert run("undo", out).exit_code == 3
    assert [str(path.relative_to(out)) for path in out.glob("[a-z]*/*")] == ["red/0.png"]
