"""Ablation of the shipped model's recipe: omit or replace one part at a time, in short training runs with more than one seed.

    python recipes/default/ablation.py --faces helen_afw_96.npz --more youtube_faces_96.npz --out RUN [--parts mediapipe frames ...]

Each row is one configuration, train.py --without PART or --instead PART, scored on the validation set. Parts of the first stage are omitted from a short run of that stage only; parts of
later stages are omitted from a short run of the whole recipe. Runs that are already in RUN are not repeated. Each seed runs in its own process with one thread: three minutes per run of the
first stage on two cores. A short run shows what helps early and does not predict the result of the long one. The published record is older than strong_recipe (see README.md).
Needs: make dev, and the MediaPipe predictions (see train.py)
"""
import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from train import LATER as STAGES

from facekp.experiments.measurement import read_measurement, write_measurement

LATER = STAGES["first"]  # parts of the stages after the first
PARTS = {"mediapipe": "blending labels with MediaPipe predictions", "frames": "video frames of YouTube Faces", "synthetic": "synthetic faces",
         "strong": "strong augmentation (replaced by the plain recipe of unit 7)", "warp": "local warps",
         "occlusion": "occluding patches", "outlier_removal": "dropping frames whose label and MediaPipe prediction differ most", "bias_correction": "correcting the constant offset of the labels",
         "mae": "absolute error (replaced by squared error)", "weight_decay": "weight decay", "window": "cropping to the window (replaced by the whole crop)",
         "second_stage": "stage 2, so fewer images are shown", "pseudo_labels": "pseudo-labels of frames", "third_stage": "stage 3, so fewer images are shown",
         "averaging": "averaging weights of two runs, so fewer images are shown", "final_stage": "the final stages, so fewer images are shown"}
INSTEAD = {"wing": "absolute error (replaced by wing loss)", "coordinates": "heatmaps and absolute error (replaced by coordinate bins and cross-entropy)"}


def train(options, part: str, seed: int) -> dict:
    "Train one configuration, or read its record if it exists; `part` is empty for the complete first stage and `whole` for the complete recipe."
    instead = [part] if part in INSTEAD else []
    without = [part] if part in PARTS else []
    budget = ["--images", str(options.images)]
    if part in LATER or part == "whole":
        budget += ["--second-images", str(options.images), "--third-images", str(options.images), "--final-images", str(options.final_images)]
    else:
        without += LATER
    record = options.out / f"{'-'.join(['default', *without, *instead])}-seed{seed}.json"
    if not record.exists():
        subprocess.run([sys.executable, Path(__file__).with_name("train.py"), "--faces", options.faces, "--more", options.more, "--out", options.out, "--mediapipe", options.mediapipe,
                        "--copies", str(options.copies), "--threads", "1", "--seed", str(seed), "--ablation", *budget, "--without", *without, "--instead", *instead], check=True)
    return read_measurement(record)


def describe(part: str, records: list[dict], complete: list[dict]) -> dict:
    "Return one row of the ablation, with its difference from the complete recipe."
    each, others = ([record["metrics"]["rmse"] for record in some] for some in (records, complete))
    return {"part": part, "meaning": {**PARTS, **INSTEAD}.get(part, "nothing left out"), "rmse": round(float(np.mean(each)), 4), "worse_by": round(float(np.mean(each) - np.mean(others)), 4),
            "worse_by_of_each_seed": np.round(np.subtract(each, others), 4).tolist(), "rmse_of_each_seed": np.round(each, 4).tolist(),
            "by_source": [{name: round(source["rmse"], 4) for name, source in record["by"]["source"].items()} for record in records], "seeds": [record["seed"] for record in records],
            "copies": records[0]["data"]["n_with_copies"], "images_shown": records[0]["images_shown"], "seconds": [record["seconds"] for record in records]}


def describe_all(trained: dict[str, list[dict]], complete: str, parts) -> list[dict]:
    "Return the rows of one kind of run, the complete one first."
    return [describe(part, trained[part], trained[complete]) for part in ([complete, *parts] if parts else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", required=True, type=Path)
    parser.add_argument("--more", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder for the runs")
    parser.add_argument("--mediapipe", default="runs/mediapipe/bin/python", help="as in train.py")
    parser.add_argument("--parts", nargs="+", default=[*PARTS, *INSTEAD], choices=[*PARTS, *INSTEAD])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--images", type=int, default=36_000, help="images shown in the first stage, and in each branch of the second and third")
    parser.add_argument("--final-images", type=int, default=20_000, help="images shown in each branch of the final stage")
    parser.add_argument("--copies", type=float, default=0.2)
    parser.add_argument("--save", type=Path, default=Path("results/deploy/ablation.json"))
    options = parser.parse_args()
    early, late = ([part for part in options.parts if (part in LATER) == after] for after in (False, True))
    parts = ["", *early, *(["whole", *late] if late else [])]
    first = train(options, "", options.seeds[0])  # alone: it creates the synthetic faces and the MediaPipe predictions that all runs share
    with ThreadPoolExecutor(2) as pool:  # runs of one seed share stages, so they run one after another
        by_seed = list(pool.map(lambda seed: [train(options, part, seed) for part in parts], options.seeds))
    trained = {part: list(records) for part, records in zip(parts, zip(*by_seed))}
    write_measurement(options.save, {
        "what": "ablation of the shipped model's recipe, one part at a time: `rows` are short training runs of stage 1, `rows_of_the_whole` short "
                "runs of all stages; RMSE in px on the validation set, best epoch. Short runs do not predict the result of the long one. The number of images shown is the same without "
                "frames or synthetic faces, so more of them are photographs",
        "not_run": [part for part in (*PARTS, *INSTEAD) if part not in options.parts], "rows": describe_all(trained, "", early),
        "rows_of_the_whole": describe_all(trained, "whole", late),
        "budget": first["budget"]},
        f"python recipes/default/ablation.py --faces {options.faces.name} --more {options.more.name} --images {options.images} --final-images {options.final_images} "
                   f"--copies {options.copies:g} --seeds {' '.join(map(str, options.seeds))} --parts {' '.join(options.parts)} --out RUN", first["data"])


if __name__ == "__main__":
    main()
