"""Make a trained checkpoint ready for the package: graphs for the torch-free engine, and its reference features.

python tools/tiny/package.py zeroshot/models/checkpoints/tiny
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from graphs_over_safetensors import write_graphs_over_safetensors

from zeroshot.engines import choose, installation_checks, torch_loading
from zeroshot.models import resolvers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an open_clip folder with safetensors")
    folder = parser.parse_args().folder
    encoder = torch_loading.load(resolvers.obtain(resolvers.resolve(str(folder))))
    manifest = write_graphs_over_safetensors(encoder, folder)
    print(f"agreement with PyTorch: {manifest.agreement}")
    (folder / installation_checks.REFERENCE_FEATURES).write_text(
        json.dumps(installation_checks.reference_features(encoder)) + "\n"
    )
    graphs = choose.load_encoder(str(folder))
    print(f"{graphs.spec.engine} loads it; {sum(p.stat().st_size for p in folder.iterdir()) / 1e6:.2f} MB in all")


if __name__ == "__main__":
    main()
