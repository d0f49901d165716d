"""Leave out the parts of the shipped model's training, one at a time, in a short training with more than one seed.

    python benchmarks/default_ablation.py --faces helen_afw_96.npz --more youtube_faces_96.npz --out RUN [--parts answers more ...]

Each row is default_model.py --without PART, and without what comes after its first part, measured on the photographs that chose; trainings that RUN holds
are not repeated. Two run at once, one thread each: three minutes a training on two cores. A short training says what helps early and is no forecast of the
long one. Needs: pip install 'facekp[deploy]', and the second opinion that default_model.py says how to get
"""
import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from facekp.core import write_json

LATER = ["again", "own", "end"]  # what comes after the first part
PARTS = ("answers", "more", "drawn", "strong", "bent", "centred", "mae", "decay")
MEANING = {"answers": "the second opinion in the marks", "more": "frames of YouTube Faces", "drawn": "drawings", "strong": "strong copies; the package's plain augmentation (lesson 6) in their place",
           "bent": "copies pulled about", "centred": "marks without their shift to the right", "mae": "absolute errors in the loss; squared ones in their place", "decay": "decay of the weights"}


def train(options, without: list[str], seed: int) -> dict:
    "The record of one training, from the run where it is there."
    left_out = [*without, *LATER]
    record = options.out / f"{'-'.join(['default', *left_out])}-seed{seed}.json"
    if not record.exists():
        subprocess.run([sys.executable, Path(__file__).with_name("default_model.py"), "--faces", options.faces, "--more", options.more, "--out", options.out, "--mediapipe", options.mediapipe,
                        "--images", str(options.images), "--copies", str(options.copies), "--threads", "1", "--seed", str(seed), "--without", *left_out], check=True)
    return json.loads(record.read_text(encoding="utf-8"))


def describe(without: list[str], records: list[dict], baseline: float | None) -> dict:
    "One row of the ablation."
    each = [record["metrics"]["rmse"] for record in records]
    rmse = float(np.mean(each))
    return {"without": without, "meaning": MEANING[without[0]] if without else "nothing left out", "rmse": round(rmse, 4), "worse_by": round(rmse - (rmse if baseline is None else baseline), 4),
            "rmse_of_each_seed": np.round(each, 4).tolist(), "by_source": [{name: round(part["rmse"], 4) for name, part in record["by"]["source"].items()} for record in records],
            "seeds": [record["seed"] for record in records], "copies": records[0]["data"]["n_with_copies"], "images_shown": records[0]["images_shown"], "seconds": [record["seconds"] for record in records]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", required=True, type=Path)
    parser.add_argument("--more", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--mediapipe", default="runs/mediapipe/bin/python", help="as in default_model.py")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--images", type=int, default=36_000)
    parser.add_argument("--copies", type=float, default=0.2)
    parser.add_argument("--save", type=Path, default=Path("results/deploy/ablation.json"))
    options = parser.parse_args()
    rows = [[], *([part] for part in options.parts)]
    first = train(options, [], options.seeds[0])  # alone: it makes the drawings and the second opinion that all share
    with ThreadPoolExecutor(2) as pool:
        waiting = [[pool.submit(train, options, without, seed) for seed in options.seeds] for without in rows]
        records = [[each.result() for each in row] for row in waiting]
    baseline = float(np.mean([record["metrics"]["rmse"] for record in records[0]]))
    write_json(options.save, {
        "what": "parts of the training of the shipped model left out, one at a time, in a short training without what comes after its first part; RMSE in px on the photographs of the validation part, "
                "best epoch. It is no forecast of the long training; as many images are shown without frames or drawings, so more of them are of photographs",
        "not_run": [*(part for part in PARTS if part not in options.parts), *LATER, "the window"], "rows": [describe(without, row, baseline) for without, row in zip(rows, records)],
        "data": first["data"], "budget": first["budget"], "machine": first["machine"], "versions": first["versions"],
        "command": f"python benchmarks/default_ablation.py --faces {options.faces.name} --more {options.more.name} --images {options.images} --copies {options.copies:g} "
                   f"--seeds {' '.join(map(str, options.seeds))} --parts {' '.join(options.parts)} --out RUN"})


if __name__ == "__main__":
    main()
