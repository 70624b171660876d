"""Ratios measured side by side in one run: this tool against bare parts and against what people use now.

    python benchmarks/run.py --photos ../shared/photos              # every row, about half an hour on two cores
    python benchmarks/run.py --photos ../shared/photos startup text # these only

Seconds depend on the machine and on what else it does; ratios of things that take turns, compared by their best,
depend on it much less. Weights are random where only the architecture matters. Peers that are not installed are
skipped (``pip install '.[benchmarks]'``), and the row that needs a GPU where there is none.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from benchmark_inputs import Material
from measure import Row
from own_stages import again, cached, encoders, gpu, images, int8, memory, resizing, startup, terminal, tiny
from peers import peers
from simulated_cores import cores
from texts import beginnings, labels, text
from without_torch import pull

ROWS = {
    row.__name__: row
    for row in (
        *(startup, pull, text, beginnings, labels),
        *(encoders, int8, images, tiny, resizing, cores, gpu),
        *(cached, again, terminal, memory, peers),
    )
}


def main() -> None:
    listed = "\n".join(f"  {name:11} {row.__doc__}" for name, row in ROWS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"rows:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help="of those below; all if none is named"
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs, repeated as needed")
    parser.add_argument("--work", type=Path, help="keep what is made here, for another run")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="fewer labels, cached images and simulated cores")
    options = parser.parse_args()
    made = tempfile.mkdtemp(prefix="zeroshot-bench-")
    work = (options.work or Path(made)).resolve()
    work.mkdir(parents=True, exist_ok=True)
    material = Material(options.photos, work)
    found: list[Row] = []
    try:
        for name in options.rows or ROWS:
            for row in ROWS[name](material, options.quick):
                found.append(row)
                print(f"{row.ratio:8.3f}  {row.bar:8}  {row.ours:10.3f}  {row.theirs:10.3f}  {row.name}", flush=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if options.json:
        rows = [{"name": r.name, "ours": r.ours, "theirs": r.theirs, "bar": r.bar, "ratio": r.ratio} for r in found]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
