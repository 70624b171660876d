"""Records as bytes: the JSON contract, tables that fit, and nothing that a terminal or spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import replace

import pytest
from rich.cells import cell_len

from zeroshot.enums import Field, Format
from zeroshot.output.render.choose_writer import make_writer
from zeroshot.output.render.records import Layout, printable, to_json
from zeroshot.results import Failure, Manifest, Prediction, Ranked, Record, significant

MANIFEST = Manifest({"model": "fake"}, {"name": "plain"}, {"labels": []}, {"score": "softmax"})
ALL = tuple(Field)
ODD = [
    "a\nb.jpg",
    "t\tb\\n.jpg",
    "c\rd.jpg",
    "q\"'.jpg",
    "[red]x[/red].jpg",
    "\x1b[31m.jpg",
    "a,b;c.jpg",
    "猫.jpg",
    " x ",
]


def prediction(path: str, *top: tuple[str, float], label: str | None = "") -> Prediction:
    ranked = tuple(Ranked(name, value, 0.25, -1.5) for name, value in top or (("cat", 0.75), ("dog", 0.25)))
    return Prediction(path, ranked[0].label if label == "" else label, ranked[0].probability, ranked)


def write(form: Format, records: list[Record], *, complete: bool = True, **options: object) -> bytes:
    stream = io.BytesIO()
    writer = make_writer(form, stream, Layout(**{"top_k": 2, **options}))  # type: ignore[arg-type]
    writer.begin(MANIFEST)
    for record in records:
        writer.write(record)
    writer.end(complete=complete)
    return stream.getvalue()


def test_contract_of_a_line() -> None:
    """A jsonl line has exactly these keys in this order, for a prediction, an unknown and a failure."""
    lines = (
        write(Format.JSONL, [prediction("a"), prediction("b", label=None), Failure("c", "why")]).decode().splitlines()
    )
    top = '[{"label": "cat", "probability": 0.75}, {"label": "dog", "probability": 0.25}]'
    assert lines == [
        f'{{"path": "a", "status": "ok", "label": "cat", "probability": 0.75, "top": {top}}}',
        f'{{"path": "b", "status": "unknown", "label": null, "probability": 0.75, "top": {top}}}',
        '{"path": "c", "status": "failed", "error": "why"}',
    ]


def test_contract_of_the_document() -> None:
    """The json document names its format and version, and is whole even when the run was interrupted."""
    for records, complete in (([], True), ([prediction("a"), Failure("b", "why")], False)):
        document = json.loads(write(Format.JSON, records, complete=complete))
        assert list(document) == ["format", "version", "manifest", "records", "summary"]
        assert (document["format"], document["version"]) == ("zeroshot-classify", 1)
        assert list(document["manifest"]) == ["model", "prompts", "labels", "options"]
        assert document["records"] == [record.to_dict((Field.PROBABILITY,)) for record in records]
        assert document["summary"] == {"inputs": len(records), "failed": len(records) // 2, "complete": complete}


def test_more_fields() -> None:
    """Similarities and logits stand beside the probability, in the record and in each of its labels."""
    found = prediction("a").to_dict(ALL)
    assert list(found) == ["path", "status", "label", "probability", "similarity", "logit", "top"]
    assert found["top"][1] == {"label": "dog", "probability": 0.25, "similarity": 0.25, "logit": -1.5}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1 / 3, "0.333333"), (0.10000000149, "0.1"), (1.23456789e-9, "1.23457e-09"), (1.0, "1.0"), (123456.7, "123457.0")],
)
def test_six_digits(value: float, text: str) -> None:
    """Numbers have six significant digits, without float32's noise."""
    assert json.dumps(significant(value)) == text


def test_nan_is_refused() -> None:
    """What JSON has no word for is never written, nor half a line of it."""
    stream = io.BytesIO()
    for value in (math.nan, math.inf):
        for form in (Format.JSON, Format.JSONL):
            writer = make_writer(form, stream, Layout())
            with pytest.raises(ValueError, match="not JSON compliant"):
                writer.write(prediction("a", ("cat", value)))
    assert stream.getvalue() == b""


@pytest.mark.parametrize("form", [Format.JSON, Format.JSONL])
def test_any_name_survives_json(form: Format) -> None:
    """Every file name comes back as the same bytes, UTF-8 or not, and a jsonl record stays on one line."""
    paths = [*ODD, os.fsdecode(b"\xff\xfe.jpg")]
    data = write(form, [prediction(path) for path in paths])
    records = (
        json.loads(data)["records"] if form is Format.JSON else [json.loads(line) for line in data.split(b"\n") if line]
    )
    assert [record["path"] for record in records] == paths
    assert data.decode("utf-8")
    assert to_json("\udcff") == b'"\\udcff"'


@pytest.mark.parametrize("fields", [(Field.PROBABILITY,), ALL])
def test_csv_round_trip(fields: tuple[Field, ...]) -> None:
    """Any CSV reader gives back names and labels, in rows as long as the header, failures included."""
    records: list[Record] = [prediction(path, (path, 0.5), ("b,c", 0.25)) for path in ODD]
    records += [Failure("bad.jpg", "why, oh why"), prediction("u.jpg", label=None)]
    data = write(Format.CSV, records, fields=fields)
    header, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
    assert header[: 4 + len(fields)] == ["path", "label", *fields, "error", "status"]
    assert header[-1 - len(fields) :] == ["label_2", *(f"{field}_2" for field in fields)]
    assert {len(row) for row in rows} == {len(header)}
    assert [row[0] for row in rows] == [record.path for record in records]
    assert [row[1] for row in rows[: len(ODD)]] == ODD
    assert rows[-2][header.index("error")] == "why, oh why"
    assert [row[header.index("status")] for row in rows] == ["ok"] * len(ODD) + ["failed", "unknown"]
    assert rows[-1][1] == ""
    assert rows[0][header.index("label_2")] == "b,c"


def test_tsv_round_trip() -> None:
    """A TSV has a line a record and a tab a column, whatever names hold; unescaping gives them back."""
    lines = write(Format.TSV, [prediction(path, (path, 0.5), ("b", 0.25)) for path in ODD]).decode().split("\n")
    assert lines.pop() == ""
    header, *rows = (line.split("\t") for line in lines)
    assert header == [
        "path",
        "label",
        "probability",
        "error",
        "status",
        "label_1",
        "probability_1",
        "label_2",
        "probability_2",
    ]
    assert {len(row) for row in rows} == {len(header)}
    back = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    for row, path in zip(rows, ODD, strict=True):
        pairs = iter(row[0])
        assert "".join(back[c + next(pairs)] if c == "\\" else c for c in pairs) == path


def test_formulas_do_not_run() -> None:
    """No CSV cell begins as a formula: relative paths get ``./``, which is the same file, labels an apostrophe."""
    for start in "=+-@\t\r":
        records = [
            prediction(f"{start}1.jpg", (f"{start}a", 0.5), (f"{start}b", 0.25)),
            Failure(f"{start}x", f"{start}e"),
        ]
        _, first, second = csv.reader(io.StringIO(write(Format.CSV, records).decode(), newline=""))
        assert first[:5] == [f"./{start}1.jpg", f"'{start}a", "0.5", "", "ok"]
        assert first[5:] == [f"'{start}a", "0.5", f"'{start}b", "0.25"]
        assert second[:5] == [f"./{start}x", "", "", f"'{start}e", "failed"]
    assert b"\n=1.jpg\t=a" in write(Format.TSV, [prediction("=1.jpg", ("=a", 0.5), ("b", 0.1))])
    assert b"\n/=1.jpg,a=," in write(Format.CSV, [prediction("/=1.jpg", ("a=", 0.5), ("b", 0.1))])


def test_negative_numbers_stay_numbers() -> None:
    """A negative logit in a CSV is a number, not a guarded text."""
    assert b",-1.5," in write(Format.CSV, [prediction("a")], fields=ALL)


def test_printable() -> None:
    """Escape sequences, line ends, right-to-left marks and undecodable bytes are shown, not acted upon."""
    assert printable("a\x1b[2Jb\n\x9b\u202e\udcff é猫") == "a\\x1b[2Jb\\n\\x9b\\u202e\\udcff é猫"


WIDE = [
    "猫の写真" * 20,
    "🐈" * 60,
    "e\u0301" * 90,
    "x" * 200,
    "a/" * 80 + "end.jpg",
    "",
    "\x1b" * 40,
    "👩‍👩‍👧" * 20,
    "한글" * 30,
]


def test_a_table_in_a_file_is_whole() -> None:
    """Where no terminal limits the table, paths, labels, errors and runners-up are not shortened."""
    path, name, why = "folder/" * 20 + "a.jpg", "a label of very many words, more than fit", "why " * 40
    records = [prediction(path, (name, 0.75), ("b" * 70, 0.25)), Failure("b.jpg", why.strip())]
    _, answer, failure = write(Format.TABLE, records, width=None).decode().splitlines()
    assert "…" not in answer + failure
    assert answer.startswith(f"{path}  {name}  ")
    assert answer.endswith("b" * 70 + " 25.0%")
    assert failure.endswith("failed: " + why.strip())


@pytest.mark.parametrize("width", [60, 80, 81, 120, 200])
def test_table_fits(width: int) -> None:
    """No line of the table is wider than the terminal, whatever the letters, and each record is one line."""
    records: list[Record] = [prediction(text, (text, 0.987654), ("dog", 0.01)) for text in WIDE]
    records += [prediction(text, ("a", 1.0), (text, 0.0), label=None) for text in WIDE]
    records += [Failure(text, text) for text in WIDE]
    lines = write(Format.TABLE, records, width=width).decode().splitlines()
    assert len(lines) == 1 + len(records)
    assert max(cell_len(line) for line in lines) <= width


def test_table_at_80_columns() -> None:
    """Path, label, probability with a bar and runners-up stand in columns under their headings."""
    lines = (
        write(
            Format.TABLE,
            [
                prediction("photos/cat.jpg"),
                prediction("x" * 40 + ".jpg", label=None),
                Failure("bad.jpg", "no such file"),
            ],
        )
        .decode()
        .splitlines()
    )
    assert lines == [
        "path                            label             probability      runners-up",
        "photos/cat.jpg                  cat                75.0% ██████··  dog 25.0%",
        "…xxxxxxxxxxxxxxxxxxxxxxxxx.jpg  (unknown)              –           cat 75.0%",
        "bad.jpg                         failed: no such file",
    ]


def test_the_probability_of_an_unknown_stands_beside_its_label() -> None:
    """`48.2%` is bird's, so it stands there alone; a background label that won is shown, in parentheses."""
    unknown = prediction("a", ("bird", 0.482), ("cat", 0.3), label=None)
    outdone = replace(prediction("b", ("bird", 0.2), ("cat", 0.1), label=None), background=Ranked("sky", 0.7, 0.3, 1.0))
    _, first, second = write(Format.TABLE, [unknown, outdone]).decode().splitlines()
    assert (first.count("48.2%"), first.split()[1:4]) == (1, ["(unknown)", "–", "bird"])
    assert second.split()[1:5] == ["(sky)", "70.0%", "██████··", "bird"]


def test_table_at_60_columns() -> None:
    """Every heading is whole, and the best runner-up still fits."""
    heading, row = write(Format.TABLE, [prediction("photos/cat.jpg")], width=60).decode().splitlines()
    assert heading.split() == ["path", "label", "prob.", "runners-up"]
    assert row.split() == ["photos/cat.jpg", "cat", "75.0%", "dog", "25.0%"]


def test_long_paths_leave_room_for_the_labels() -> None:
    """On a terminal of 200 columns the paths take a quarter of them."""
    heading = write(Format.TABLE, [], width=200).decode()
    assert heading.index("label") == 50


def test_table_markup_and_escapes() -> None:
    """Brackets are letters, emoji codes too, and a name cannot colour or clear the terminal."""
    text = write(Format.TABLE, [prediction("[b]:cat:[/b]\x1b[2J", ("[red]x", 0.5))]).decode()
    assert "[b]:cat:[/b]\\x1b[2J" in text
    assert "[red]x" in text
    assert "\x1b" not in text


def test_table_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the table is coloured, unless $NO_COLOR is set."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert b"\x1b[32m" in write(Format.TABLE, [prediction("a")], terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b[32m" not in write(Format.TABLE, [prediction("a")], terminal=True)


@pytest.mark.parametrize("form", Format)
def test_streaming(form: Format) -> None:
    """Each record is in the stream, flushed, when `write` returns, and the stream stays open for its owner."""

    class Stream(io.BytesIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed = len(self.getvalue())

    stream = Stream()
    writer = make_writer(form, stream, Layout())
    writer.begin(MANIFEST)
    writer.write(prediction("seen.jpg"))
    assert b"seen.jpg" in stream.getvalue()
    assert stream.flushed == len(stream.getvalue())
    del writer
    assert not stream.closed
