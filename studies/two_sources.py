"""Measure what it is worth to model Kaggle's two annotation sources separately, on synthetic faces, whose true points are known.

python studies/two_sources.py --folder kaggle_synthetic --lookup IdLookupTable.csv --out results/two_sources [--seeds 0 1 2] [--variants one two_heads]

Trains variants of the heatmap network on a synthetic training.csv (7,049 rows) with the same budget of images, and predicts the values that
IdLookupTable.csv requests for the 1,783 test faces. The test set selects nothing; it is scored once per run. Runs that are already in the study are
not repeated.

one         one network on all rows, without the source
two_heads   one network with one head per source
two_nets    one network per source; the budget is divided in proportion to the labelled values
offset      the first source's network of two_nets, plus a constant offset per keypoint for the second source, estimated on its training rows
"""
import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from facekp.augment_bulk import augment_faces
from facekp.conventions import is_second_source
from facekp.data.kaggle import load_kaggle_test
from facekp.data.npz import load_npz, save_npz
from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.evaluation import rmse_by_keypoint, rmse_by_source
from facekp.experiments.kaggle import read_requests
from facekp.experiments.record import Record, describe_data, describe_machine, describe_versions
from facekp.experiments.results import add_runs, has_study, read_study
from facekp.files import hash_file
from facekp.keypoints import COLUMNS, KEYPOINTS
from facekp.metrics import rmse
from facekp.models.annotator_heads import add_heads, choose_by_annotator, fit_by_annotator
from facekp.models.cnn import build_heatmap
from facekp.synthetic.dataset import synthetic_test_set
from facekp.synthetic.kaggle_files import write_kaggle_folder
from facekp.training.batches import predict_points
from facekp.training.loop import fit
from facekp.training.seeds import set_seeds

VARIANTS = ("one", "two_heads", "two_nets", "offset")


def train_one(faces, validation, images: int, options, seed: int, heads: int = 1):
    "Train a network on augmented faces within a budget of images."
    copies = min(options.augment, -(-images // len(faces)))
    augmented = augment_faces(faces, copies, seed=seed)
    set_seeds(seed)
    model = build_heatmap()
    train_model, model = (fit_by_annotator, add_heads(model)) if heads == 2 else (fit, model)
    return train_model(model, augmented, validation, images_shown=images, batch_size=32, learning_rate=2e-3, seed=seed)


def train_variant(variant: str, train, validation, others: list, options, seed: int, state: dict):
    "Train a variant; return its predictions for other sets of faces, its training runs, and notes."
    if variant == "one":
        training = train_one(train, validation, options.images, options, seed)
        return [predict_points(training.model, faces.images) for faces, _ in others], [training], {}
    if variant == "two_heads":
        training = train_one(train, validation, options.images, options, seed, heads=2)
        return [choose_by_annotator(predict_points(training.model, faces.images), second) for faces, second in others], [training], {}
    labelled = np.isfinite(train.points).sum(axis=(1, 2))
    share = labelled[~is_second_source(train)].sum() / labelled.sum()
    if "first" not in state:
        state["first"] = train_one(train[~is_second_source(train)], validation[~is_second_source(validation)], round(share * options.images), options, seed)
    first = state["first"]
    from_first = [predict_points(first.model, faces.images) for faces, _ in others]
    if variant == "offset":
        own = train[is_second_source(train)]
        error = own.points - predict_points(first.model, own.images)
        offset = np.nanmedian(np.where(np.isfinite(error).any(axis=0), error, 0), axis=0)  # 0 for keypoints without labels
        return [points + second[:, None, None] * offset for points, (_, second) in zip(from_first, others)], [first], {"offset": offset}
    other = train_one(train[is_second_source(train)], validation[is_second_source(validation)], round((1 - share) * options.images), options, seed)
    return [np.where(second[:, None, None], predict_points(other.model, faces.images), points)
            for points, (faces, second) in zip(from_first, others)], [first, other], {}


def score(predicted: np.ndarray, points: np.ndarray, requested: np.ndarray, second: np.ndarray) -> dict:
    "Return the RMSE over the requested values: overall, by source and by keypoint."
    predicted, points = np.clip(predicted, 0, 96), np.where(requested, points, np.nan)
    by_keypoint = {f"source {number + 1}": {keypoint: error for keypoint, error in zip(KEYPOINTS, rmse_by_keypoint(predicted[rows], points[rows]).tolist()) if np.isfinite(error)}
                   for number in (0, 1) for rows in [second == number]}
    return {"all": rmse(predicted, points), **rmse_by_source(predicted, points, second), "values": int(requested.sum()), "by_keypoint": by_keypoint}


def mean_shift(predicted: np.ndarray, points: np.ndarray, requested: np.ndarray, second: np.ndarray) -> dict:
    "Return the mean error of the predictions in x and y, pixels, by source and keypoint."
    shift = np.where(requested, predicted - points, np.nan)
    return {f"source {number + 1}": {keypoint: np.nanmean(shift[second == number, place], axis=0) for place, keypoint in enumerate(KEYPOINTS)
                                     if requested[second == number, place].any()} for number in (0, 1)}


def load_synthetic(folder: Path, seed: int):
    "Load the synthetic training set from Kaggle's files, its test set with annotated points, and the true points."
    if not (folder / "training.csv").exists():
        write_kaggle_folder(folder, seed=seed)
    if not (folder / "test_labels.npz").exists():
        save_npz(synthetic_test_set(seed=seed), folder / "test_labels.npz")
    test, _ = load_kaggle_test(folder)
    truth = pd.read_csv(folder / "truth.csv").query("Set == 'test'")
    labels = load_npz(folder / "test_labels.npz").points
    return load_faces(folder), test, truth[list(COLUMNS)].to_numpy(np.float32).reshape(-1, 15, 2), labels, truth["Group"].to_numpy(str)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder of synthetic faces in Kaggle's format; written if missing")
    parser.add_argument("--lookup", type=Path, help="Kaggle's IdLookupTable.csv; default: the one in the folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=40_000, help="images shown in total over all training runs of a variant")
    parser.add_argument("--augment", type=int, default=12, help="augmented copies per face, limited by the budget of images")
    options = parser.parse_args()
    faces, test, truth, labels, groups = load_synthetic(options.folder, 0)
    lookup_path = options.lookup or options.folder / "IdLookupTable.csv"
    requests = read_requests(pd.read_csv(lookup_path), test.image_id, str(lookup_path.parent))
    requested, second = requests.mask, requests.second
    train, validation = split_by_group(faces, 0.15, seed=0)
    print(f"{len(train)} training rows, {len(validation)} validation rows, {requested.sum()} requested values of {len(test)} test faces, "
          f"{second.sum()} of them of the second source", flush=True)
    for seed in options.seeds:
        state: dict = {}
        for variant in options.variants:
            name = f"{variant}-seed{seed}"
            if has_study(options.out) and name in read_study(options.out).runs.index:
                continue
            (held_out, predicted), trainings, _ = train_variant(variant, train, validation, [(validation, is_second_source(validation)), (test, second)],
                                                       options, seed, state)
            known = np.isfinite(validation.points)
            squared = np.where(requested, np.square(np.clip(predicted, 0, 96) - truth), 0).sum(axis=(1, 2))
            values = requested.sum(axis=(1, 2))
            scores = score(predicted, truth, requested, second)
            held_out_scores = score(held_out, np.nan_to_num(validation.points), known, is_second_source(validation))
            record = Record(
                "heatmap", "masked", options.augment, "full", seed,
                data={**describe_data(train, validation, test), "name": "synthetic, 7,049 rows in Kaggle's format, seed 0",
                      "lookup": lookup_path.name, "sha256_of_lookup": hash_file(lookup_path),
                      "sha256_of_training_csv": hash_file(options.folder / "training.csv"), "values_per_face": values.tolist(),
                      "test_faces_also_in_training": int(np.isin(groups, pd.read_csv(options.folder / "truth.csv").query("Set == 'training'")["Group"]).sum())},
                budget={"images": options.images, "batch_size": 32, "learning_rate": 2e-3, "variant": variant},
                weights=sum(training.model.count_params() for training in trainings), epochs=sum(training.epochs for training in trainings),
                images_shown=sum(training.images_shown for training in trainings), seconds=round(sum(training.seconds for training in trainings), 1),
                metrics={"rmse": scores["all"], "by_source": {part: scores[part] for part in ("source 1", "source 2")}, "by_keypoint": scores["by_keypoint"],
                         "against_labels": score(predicted, labels, np.isfinite(labels), second), "validation": held_out_scores,
                         "mean_shift": mean_shift(predicted, truth, requested, second)},
                history=[{"stage": str(number), **entry} for number, training in enumerate(trainings) for entry in training.history],
                machine=describe_machine(), versions=describe_versions(), squared_errors=(squared / values).tolist())
            add_runs(options.out, {name: record}, np.arange(len(test)))
            print(f"{variant:<10} seed {seed}: {scores['all']:.3f} px (source 1 {scores['source 1']:.3f}, source 2 {scores['source 2']:.3f}), validation "
                  f"{held_out_scores['all']:.3f}, {record.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
