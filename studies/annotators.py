"""Measure what it is worth to model every annotator of Kaggle's table, where its rows change the annotator.

python studies/annotators.py synthetic [--seeds 0 1]
python studies/annotators.py photographs --helen-afw helen_afw_96.npz --lfpw lfpw_train_96.npz --kaggle kaggle_lfpw_96.npz [--seeds 0 1 2]

synthetic    7,049 synthetic faces with the gaps of Kaggle's table in its order and the conventions of its seven blocks; 1,783 test faces in the blocks'
             proportions, whose labels are known for each of the requested values
photographs  photographs with 300-W's labels, and LFPW photographs with Kaggle's labels: two annotators. LFPW photographs are in one part only, with both labels

Variants, each the heatmap network with the same budget of images:
one       one set of points for all annotators
sources   a head per annotation source (rows with fifteen points, rows with four), which the requests of a submission reveal; synthetic only
offsets   a learned offset per annotator and keypoint
heads     a head per annotator
own       trained on the rows of Kaggle's annotators alone; photographs only

The annotator of a test face is known, predicted from its image by a small network, or averaged over with the predicted probabilities. The score of a run is
that of the predicted annotator, as in a submission; the others are recorded as well. Nothing is selected on the test set. Finished runs are not repeated.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from facekp.augment_bulk import augment_faces
from facekp.data.npz import load_npz
from facekp.data.split import split_by_group
from facekp.evaluation import evaluate_points
from facekp.experiments.record import describe_data, record_run
from facekp.experiments.results import add_runs, has_study, read_study
from facekp.faces import Faces, concatenate
from facekp.keypoints import KEYPOINTS
from facekp.metrics import rmse
from facekp.models.annotator_heads import add_heads, add_offsets, choose_by_annotator, fit_by_annotator
from facekp.models.cnn import build_heatmap
from facekp.synthetic.blocks import BLOCKS, impose_conventions, impose_table, places_in_table
from facekp.synthetic.gaps import SOURCE_CUT, TEST_ROWS, TRAINING_ROWS, synthetic_gaps
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.batches import predict_points
from facekp.training.loop import fit
from facekp.training.seeds import set_seeds

SECOND_SOURCE = np.array([block.start >= SOURCE_CUT for block in BLOCKS])  # blocks whose rows have four points


@dataclass
class Part:
    "Faces, and the annotator of each."
    faces: Faces
    annotator: np.ndarray  # int [N], from 0

    def __getitem__(self, rows: Any) -> "Part":
        return Part(self.faces[rows], self.annotator[rows])


@dataclass
class Data:
    "The parts of a study."
    train: Part
    validation: Part
    test: Part
    names: list[str]  # of the annotators
    source: np.ndarray | None = None  # int [annotators], the annotation source of each, if a submission reveals it


# Data

def synthetic_table(count: int, seed: int) -> Data:
    "Return synthetic faces with the gaps and blocks of Kaggle's table, and test faces in the proportions of its blocks."
    table = impose_table(synthetic_faces(count, seed=seed), seed)
    block = np.searchsorted([block.start / TRAINING_ROWS for block in BLOCKS], np.arange(count) / count, side="right") - 1
    rows = replace(table, image_id=np.arange(count).astype(str))
    train, validation = (Part(part, block[part.image_id.astype(int)]) for part in split_by_group(rows, 0.15, seed))
    test_count = round(count * TEST_ROWS / TRAINING_ROWS)
    test = synthetic_faces(test_count, seed=seed, start=1_000_000)
    requested, cut = synthetic_gaps(test_count, seed, test=True)
    rows = np.concatenate([np.random.default_rng([seed, 9]).permutation(cut), cut + np.random.default_rng([seed, 10]).permutation(test_count - cut)])
    place = places_in_table(test_count, cut)[rows]
    truth = np.where(requested[..., None], impose_conventions(test.points, place), np.nan).astype(np.float32)
    number = np.searchsorted([block.start / TRAINING_ROWS for block in BLOCKS], place, side="right") - 1
    return Data(train, validation, Part(replace(test, points=truth, truth=None, name="synthetic, Kaggle's seven blocks"), number),
                [f"block {number + 1}" for number in range(len(BLOCKS))], SECOND_SOURCE.astype(int))


def photographs_of_two(helen_afw: Faces, lfpw: Faces, kaggle: Faces, seed: int) -> Data:
    "Return photographs with 300-W's labels and with Kaggle's; a photograph of LFPW is in one part only."
    lfpw_rest, lfpw_test = split_by_group(lfpw, 0.25, seed)
    lfpw_train, lfpw_validation = split_by_group(lfpw_rest, 0.2, seed)
    helen_train, helen_validation = split_by_group(helen_afw, 0.15, seed)
    parts = []
    for semi_automatic, own in ((concatenate([helen_train, lfpw_train]), lfpw_train), (concatenate([helen_validation, lfpw_validation]), lfpw_validation), (lfpw_test, lfpw_test)):
        by_hand = kaggle[np.isin(kaggle.group, own.group)]
        faces = concatenate([replace(semi_automatic, truth=None), replace(by_hand, truth=None)], name="HELEN, AFW and LFPW, 300-W's and Kaggle's labels")
        parts.append(Part(faces, np.repeat([0, 1], [len(semi_automatic), len(by_hand)])))
    return Data(*parts, names=["300-W", "Kaggle"])


# Networks

def train_annotator_classifier(data: Data, images: int, seed: int) -> keras.Model:
    "Train a small network that predicts the probabilities of the annotators from the image."
    set_seeds(seed)
    layers: list[Any] = [keras.Input((96, 96, 1)), keras.layers.Rescaling(1 / 127.5, -1)]
    for filters in (16, 32, 64, 64):
        layers += [keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(len(data.names), activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    train, validation = data.train, data.validation
    model.fit(train.faces.images[..., None].astype(np.float32), train.annotator, epochs=max(1, images // len(train.faces)), batch_size=32, verbose=0,
              validation_data=(validation.faces.images[..., None].astype(np.float32), validation.annotator),
              callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)])
    return model


def train_variant(variant: str, data: Data, options: argparse.Namespace, seed: int) -> Any:
    "Train a variant of the heatmap network; return its training run."
    train, validation = data.train, data.validation
    if variant == "own":
        train, validation = (part[part.annotator == len(data.names) - 1] for part in (train, validation))
    copies = min(options.augment, -(-options.images // len(train.faces)))
    augmented = augment_faces(replace(train.faces, source=train.annotator.astype(str), truth=None), copies, seed=seed)
    given = replace(validation.faces, source=validation.annotator.astype(str), truth=None)
    set_seeds(seed)
    budget = {"images_shown": options.images, "batch_size": 32, "learning_rate": 2e-3, "seed": seed, "show_progress": False}
    if variant in ("one", "own"):
        return fit(build_heatmap(), augmented, given, **budget)
    head_of = head_numbers(variant, data)
    build = add_offsets if variant == "offsets" else add_heads
    return fit_by_annotator(build(build_heatmap(), int(head_of.max()) + 1), augmented, given, lambda faces: head_of[faces.source.astype(int)], **budget)


def head_numbers(variant: str, data: Data) -> np.ndarray:
    "Return the head of each annotator."
    return data.source if variant == "sources" and data.source is not None else np.arange(len(data.names))


# Scores

def probabilities_of(classifier: keras.Model, data: Data) -> np.ndarray:
    "Return the probability of each annotator for each test face; annotators of another source than the requested values' are ruled out."
    found = classifier.predict(data.test.faces.images[..., None].astype(np.float32), verbose=0).astype(np.float64)
    if data.source is not None:
        found *= data.source[None] == data.source[data.test.annotator][:, None]
    return found / found.sum(axis=1, keepdims=True)


def predict_test_faces(variant: str, model: keras.Model, data: Data, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    "Return the predicted points of the test faces with the annotator predicted, known and averaged over."
    predicted = predict_points(model, data.test.faces.images)
    if variant in ("one", "own"):
        return {"predicted": predicted}
    head_of = head_numbers(variant, data)
    by_head = predicted.reshape(len(predicted), -1, len(KEYPOINTS), 2)[:, head_of]
    stacked = by_head.reshape(len(predicted), -1, 2)
    return {"predicted": choose_by_annotator(stacked, probabilities.argmax(axis=1)), "known": choose_by_annotator(stacked, data.test.annotator),
            "averaged": np.einsum("na,nakc->nkc", probabilities, by_head)}


def run(variant: str, data: Data, probabilities: np.ndarray, options: argparse.Namespace, seed: int) -> Any:
    "Train, score and record a variant."
    training, test = train_variant(variant, data, options, seed), data.test
    predictions = predict_test_faces(variant, training.model, data, probabilities)
    metrics: dict[str, Any] = evaluate_points(predictions["predicted"], test.faces.points, test.faces.group)
    metrics |= {f"annotator_{name}": {"all": rmse(points, test.faces.points), **{
        annotator: rmse(points[rows], test.faces.points[rows]) for number, annotator in enumerate(data.names) for rows in [test.annotator == number]}} for name, points in predictions.items()}
    metrics["annotator_found"] = float((probabilities.argmax(axis=1) == test.annotator).mean())
    squared = np.nanmean(np.square(predictions["predicted"] - test.faces.points), axis=(1, 2))
    description = {"model": "heatmap", "labels": "masked", "augment": options.augment, "profile": "full", "seed": seed,
                   "data": {**describe_data(data.train.faces, data.validation.faces, test.faces), "variant": variant, "annotators": data.names,
                            "n_test_of_annotator": np.bincount(test.annotator).tolist()},
                   "budget": {"images": options.images, "batch_size": 32, "learning_rate": 2e-3, "variant": variant}}
    return record_run(training, metrics, squared, description)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("synthetic", "photographs"))
    parser.add_argument("--helen-afw", type=Path, help="photographs with 300-W's labels")
    parser.add_argument("--lfpw", type=Path, help="LFPW's photographs with 300-W's labels")
    parser.add_argument("--kaggle", type=Path, help="LFPW's photographs with Kaggle's labels, of the same groups")
    parser.add_argument("--faces", type=int, default=TRAINING_ROWS, help="synthetic training faces")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=24_000, help="images shown in each training run")
    parser.add_argument("--augment", type=int, default=12, help="augmented copies per face, limited by the budget of images")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results")
    options = parser.parse_args(arguments)
    if options.part == "synthetic":
        data, variants = synthetic_table(options.faces, seed=0), ("one", "sources", "offsets", "heads")
    elif options.helen_afw and options.lfpw and options.kaggle:
        data = photographs_of_two(*(load_npz(path) for path in (options.helen_afw, options.lfpw, options.kaggle)), seed=0)
        variants = ("one", "own", "offsets", "heads")
    else:
        parser.error("photographs needs --helen-afw, --lfpw and --kaggle")
    folder = options.results / f"annotators_{options.part}"
    for seed in options.seeds:
        waiting = [variant for variant in variants if not (has_study(folder) and f"{variant}-seed{seed}" in read_study(folder).runs.index)]
        if waiting:
            probabilities = probabilities_of(train_annotator_classifier(data, options.images, seed), data)
        for variant in waiting:
            record = run(variant, data, probabilities, options, seed)
            add_runs(folder, {f"{variant}-seed{seed}": record}, data.test.faces.group)
            print(f"{variant:<8} seed {seed}: {record.metrics['rmse']:.3f} px, annotator found {record.metrics['annotator_found']:.0%}, {record.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
