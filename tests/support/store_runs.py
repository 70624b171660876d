"""A run whose images and folder are in a store, against one unbroken `classify --resume` of the same images."""

from __future__ import annotations

from pathlib import Path

from support.commands import run
from support.fakes import COLOURS
from unit.test_archives import make_tar, make_zip, png
from zeroshot.distribute.run_folder import open_folder

_LABELS = ("--labels", "red,green,blue", "--model", "tiny")


def assert_a_run_there_is_one_here(place: str, folder: Path) -> None:
    """Fill a place in a store, then plan, process and merge a run of it there.

    Args:
        place: Address of the store's bucket, which is empty.
        folder: Of this machine, for what is written here.
    """
    put = open_folder(f"{place}/data").replace
    for number, colour in enumerate(COLOURS):
        put(f"imgs/{number} ü#%.png", png(colour))
    put("imgs/bad.png", b"bad")
    members = [(f"{number}.png", png(colour)) for number, colour in enumerate(COLOURS)]
    put("x.tar", make_tar(folder / "x.tar", members).read_bytes())
    put("x.zip", make_zip(folder / "x.zip", members).read_bytes())
    inputs = [f"{place}/data/{name}" for name in ("imgs", "x.tar", "x.zip", "none.png")]
    planned = run("run", "plan", *inputs, *_LABELS, "--into", f"{place}/run", "--shard-size", 4, "--features")
    assert planned.exit_code == 0, planned.output
    assert run("run", "work", f"{place}/run", "--shard", "2/2").exit_code in (0, 3)
    assert "are missing" in run("run", "merge", f"{place}/run", "-o", folder / "m.jsonl").stderr
    assert run("run", "work", f"{place}/run").exit_code == 3
    assert run("run", "merge", f"{place}/run", "-o", folder / "m.jsonl").exit_code == 3
    whole = run("classify", *inputs, *_LABELS, "--no-cache", "-o", folder / "w.jsonl", "--resume")
    assert whole.exit_code == 3 and "2 of 29 inputs" in whole.stderr
    assert (folder / "m.jsonl").read_bytes() == (folder / "w.jsonl").read_bytes()
    there = open_folder(f"{place}/run")
    assert not there.create("plan.json", b"another") and there.create("note", b"first")
    there.remove("note")
    assert there.create("note", b"second") and there.read("note") == b"second"
