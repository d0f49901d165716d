"""Test whether augmented copies of one photograph on both sides of the split explain a validation MSE far below the competition's best.

python studies/leakage.py --faces helen_afw_96.npz [--models baseline cnn heatmap] [--images 30000] [--photos 150] [--seeds 0 1]

The project that the course follows reports MSE 0.6; the winner of the competition had 1.64. One network is trained as in a notebook that augments first and
splits afterwards: every photograph and its copies, in random order, 80% to train on and 20% to validate on. It is scored three ways: on its training rows, on these
validation rows, and on photographs that it has never seen. A second network, with the split made first, is scored on the same photographs. Few photographs and many images shown are
what memorising takes: with 12 copies of 950 photographs and 30,000 images shown, the network has not memorised the training rows. Runs that are recorded
are not trained again. Writes results/leakage/meta.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from facekp.augment_bulk import augment_faces
from facekp.data.npz import load_npz
from facekp.data.split import split_by_group
from facekp.evaluation import evaluate_points
from facekp.experiments.measurement import read_measurement, write_measurement
from facekp.experiments.record import describe_data
from facekp.faces import Faces
from facekp.models.registry import build_model, model_spec
from facekp.training.batches import predict_points
from facekp.training.loop import fit
from facekp.training.seeds import set_seeds


def scores(model: Any, faces: Faces) -> dict[str, Any]:
    "Return MSE with its interval over photographs, RMSE and Keras's accuracy."
    found = evaluate_points(predict_points(model, faces.images), faces.points, faces.group)
    return {"mse": found["mse"], "mse_interval": found["intervals"]["mse"], "rmse": found["rmse"], "accuracy": found["accuracy"], "faces": len(faces)}


def run(name: str, seed: int, rest: Faces, test: Faces, images: int, copies: int) -> dict[str, Any]:
    "Train with the copies split at random, and with the photographs split first."
    mixed = augment_faces(rest, copies, seed=seed, workers=1)
    mixed = mixed[np.random.default_rng(seed).permutation(len(mixed))]
    cut = len(mixed) * 4 // 5
    train, validation = split_by_group(rest, 0.2, seed)
    options = {"images_shown": images, "batch_size": 32, "learning_rate": model_spec(name).learning_rate, "seed": seed, "patience": 1000, "show_progress": False}
    result: dict[str, Any] = {"model": name, "seed": seed, "images": images, "copies": copies, "photographs": len(np.unique(rest.group))}
    for kind, training_faces, held in (("copies split at random", mixed[:cut], mixed[cut:]), ("photographs split first", augment_faces(train, copies, seed=seed, workers=1), validation)):
        set_seeds(seed)
        done = fit(build_model(name, training_faces), training_faces, held, **options)
        first = np.unique(training_faces.group, return_index=True)[1]
        result[kind] = {"training rows": scores(done.model, training_faces[np.sort(first)]), "validation rows": scores(done.model, held), "unseen photographs": scores(done.model, test),
                        "validation photographs also in training": float(np.isin(held.group, training_faces.group).mean()), "seconds": round(done.seconds, 1), "epochs": done.epochs}
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["baseline", "cnn", "heatmap"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=30_000, help="images shown in a training run")
    parser.add_argument("--copies", type=int, default=12, help="augmented copies per photograph")
    parser.add_argument("--photos", type=int, default=0, help="training photographs; 0: all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "leakage" / "meta.json")
    options = parser.parse_args(arguments)
    command = " ".join(Path(word).name if "/" in word else word for word in (arguments or sys.argv[1:]))
    rest, test = split_by_group(load_npz(options.faces), 0.2, 0)
    data = describe_data(rest, rest[:0], test)
    photographs = np.unique(rest.group)
    chosen = np.random.default_rng(0).permutation(photographs)[:options.photos or len(photographs)]
    rest = rest[np.isin(rest.group, chosen)]
    record = read_measurement(options.out) if options.out.is_file() else {"data": data, "runs": []}
    if record["data"]["sha256"] != data["sha256"]:
        parser.error(f"{options.out}: its runs used other faces; name another file with --out")
    known = [tuple(entry[key] for key in ("model", "seed", "images", "copies", "photographs")) for entry in record["runs"]]
    for seed in options.seeds:
        for name in options.models:
            if (name, seed, options.images, options.copies, len(chosen)) in known:
                continue
            entry = run(name, seed, rest, test, options.images, options.copies)
            record["runs"].append(entry)
            write_measurement(options.out, {"runs": record["runs"]}, f"{command}", data)
            errors = {kind: {part: round(entry[kind][part]["mse"], 2) for part in ("training rows", "validation rows", "unseen photographs")}
                    for kind in ("copies split at random", "photographs split first")}
            print(name, seed, errors, flush=True)


if __name__ == "__main__":
    main()
