"""Test whether augmented copies of one photograph on both sides of the split explain a validation MSE far below the competition's best.

python studies/leakage.py --faces helen_afw_96.npz [--models baseline cnn heatmap] [--images 30000] [--photos 150] [--seeds 0 1]

The project that the course follows reports MSE 0.6; the winner of the competition had 1.64. One network is trained as in a notebook that augments first and
splits afterwards: every photograph and its copies, in random order, 80% to train on and 20% to validate on. It is scored three ways: on its training rows, on these
validation rows, and on photographs that it has never seen. A second network, with the split made first, is scored on the same photographs. Few photographs and many images shown are
what memorising takes: with 12 copies of 950 photographs and 30,000 images shown, the network has not memorised the training rows. Runs with a result
are not trained again. Writes results/leakage/: the errors of each run on the unseen photographs, with the scores on training and validation rows as columns.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from facekp.augment_bulk import augment_faces
from facekp.data.npz import load_npz
from facekp.data.split import split_by_group
from facekp.evaluation import evaluate_points
from facekp.experiments.record import Record, describe_data, make_record
from facekp.experiments.results import add_runs, has_study, read_study
from facekp.faces import Faces
from facekp.models.registry import build_model, model_spec
from facekp.training.batches import predict_points
from facekp.training.loop import fit
from facekp.training.seeds import set_seeds

SPLITS = ("copies split at random", "photographs split first")
BATCH_SIZE = 32


def split_rows(kind: str, faces: Faces, copies: int, seed: int) -> tuple[Faces, Faces]:
    "Return training and validation rows: augmented and then split at random, or split by photograph and then augmented."
    if kind == SPLITS[0]:
        rows = augment_faces(faces, copies, seed=seed, workers=1)
        rows = rows[np.random.default_rng(seed).permutation(len(rows))]
        return rows[:len(rows) * 4 // 5], rows[len(rows) * 4 // 5:]
    train, validation = split_by_group(faces, 0.2, seed)
    return augment_faces(train, copies, seed=seed, workers=1), validation


def scores(model: Any, faces: Faces) -> dict[str, float]:
    "Return MSE with its interval over photographs, RMSE and Keras's accuracy."
    found = evaluate_points(predict_points(model, faces.images), faces.points, faces.group)
    low, high = found["intervals"]["mse"]
    return {"mse": found["mse"], "mse_low": low, "mse_high": high, "rmse": found["rmse"], "accuracy": found["accuracy"], "faces": len(faces)}


def run(kind: str, name: str, seed: int, faces: Faces, test: Faces, data: dict[str, Any], images: int, copies: int) -> Record:
    "Train one network, and score it on its training rows, on its validation rows and on unseen photographs."
    train, validation = split_rows(kind, faces, copies, seed)
    learning_rate = model_spec(name).learning_rate
    set_seeds(seed)
    training = fit(build_model(name, train), train, validation, images_shown=images, batch_size=BATCH_SIZE, learning_rate=learning_rate, seed=seed, patience=1000, show_progress=False)
    shared = float(np.isin(validation.group, train.group).mean())
    record = make_record(training, test, {"model": name, "labels": "truth", "augment": copies, "profile": "full", "seed": seed,
                                          "data": data | {"split": kind, "photographs": len(np.unique(faces.group)), "validation_rows_in_training": shared},
                                          "budget": {"images": images, "batch_size": BATCH_SIZE, "learning_rate": learning_rate}})
    first = np.sort(np.unique(train.group, return_index=True)[1])  # one row of each photograph
    record.metrics |= {"training_rows": scores(training.model, train[first]), "validation_rows": scores(training.model, validation), "unseen_photographs": scores(training.model, test)}
    return record


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["baseline", "cnn", "heatmap"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=30_000, help="images shown in a training run")
    parser.add_argument("--copies", type=int, default=12, help="augmented copies per photograph")
    parser.add_argument("--photos", type=int, default=0, help="training photographs; 0: all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "leakage", help="folder of the results")
    options = parser.parse_args(arguments)
    rest, test = split_by_group(load_npz(options.faces), 0.2, 0)
    data = describe_data(rest, rest[:0], test)
    photographs = np.unique(rest.group)
    chosen = np.random.default_rng(0).permutation(photographs)[:options.photos or len(photographs)]
    faces = rest[np.isin(rest.group, chosen)]
    known = set(read_study(options.out).runs.index) if has_study(options.out) else set()
    for seed in options.seeds:
        for kind in SPLITS:
            for name in options.models:
                run_name = f"{name}-{kind.replace(' ', '_')}-photographs{len(chosen)}-images{options.images}-copies{options.copies}-seed{seed}"
                if run_name in known:
                    continue
                record = run(kind, name, seed, faces, test, data, options.images, options.copies)
                add_runs(options.out, {run_name: record}, test.group)
                print(run_name, {part: round(record.metrics[part]["mse"], 2) for part in ("training_rows", "validation_rows", "unseen_photographs")}, flush=True)


if __name__ == "__main__":
    main()
