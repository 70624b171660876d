"""Make a trained checkpoint ready for the package: graphs for the torch-free engine, and its golden vectors.

python tools/package_tiny.py zeroshot/checkpoints/tiny
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zeroshot import doctor, load, models
from zeroshot.engines import torch_engine
from zeroshot.export import graphs as export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an open_clip folder with safetensors")
    folder = parser.parse_args().folder
    encoder = torch_engine.load(models.obtain(models.resolve(str(folder))))
    manifest = export.write_graphs_over_safetensors(encoder, folder)
    print(f"agreement with PyTorch: {manifest.agreement}")
    (folder / doctor.GOLDEN).write_text(json.dumps(doctor.golden_features(encoder)) + "\n")
    graphs = load.load_encoder(str(folder))
    print(f"{graphs.spec.engine} loads it; {sum(p.stat().st_size for p in folder.iterdir()) / 1e6:.2f} MB in all")


if __name__ == "__main__":
    main()
