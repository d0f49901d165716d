"""Measure how much of the error on the validation set other predictions remove: averages over crops, MediaPipe, and both together.

    python recipes/default/limits.py --photographs helen_afw_96.npz lfpw_train_96.npz --out runs/default [--second-labels kaggle_lfpw_96.npz] [--save results/deploy/limits.json]

Takes the model of a finished run (train.py --out) before its final stage, which has not seen the validation set, and its MediaPipe predictions. Averaging removes errors that differ between crops or between models;
the rest is common to both models, or is disagreement with the annotators.

How much the labels themselves are off is estimated from the mean squared differences between three sets of points. If their errors are independent, each difference is the sum of two errors (the "three-cornered hat" of
clock comparisons), so all three follow. Network, MediaPipe and labels are not independent: the network was trained on labels blended with MediaPipe's predictions, and both models fail in similar ways. This makes the
estimate for the labels too large. Network, labels and second labels are: --second-labels are those of other annotators for some of the same photographs. Their faces were cropped anew, with a frame that was itself fitted to
the labels, so the images are registered first, and shift, rotation and scale of each face are left out of all three differences. The test set is not used.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from train import fit_ridge, horizontal_bias, mediapipe_for, predict_with_mirror, split_photographs

from facekp.data.sources import load_faces
from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces, hash_faces
from facekp.keypoints import IMAGE_SIZE, KEYPOINTS
from facekp.metrics import rmse
from facekp.models.files import load_model
from facekp.training.batches import predict_points

CROPS = 12  # random similarity transforms of each face, each with its mirror image
ROTATION, SCALE, SHIFT = 8.0, 0.08, 2.0  # degrees, share and pixels, at most
MATCHED = 0.98  # smallest correlation of two registered images of a photograph
RESAMPLES = 2_000  # of the photographs, for the intervals
BROWS = [KEYPOINTS.index(name) for name in KEYPOINTS if "eyebrow" in name]


def mean_over_crops(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, crops: int = CROPS, seed: int = 0) -> np.ndarray:
    "Return the mean of the predictions [N,15,2] for randomly rotated, scaled and shifted crops, each transformed back."
    rng, total = np.random.default_rng(seed), np.zeros((len(images), len(KEYPOINTS), 2))
    middle = (IMAGE_SIZE - 1) / 2
    for _ in range(crops):
        transform = cv2.getRotationMatrix2D((middle, middle), rng.uniform(-ROTATION, ROTATION), 1 + rng.uniform(-SCALE, SCALE))
        transform[:, 2] += rng.uniform(-SHIFT, SHIFT, 2)
        moved = np.stack([cv2.warpAffine(image, transform, (IMAGE_SIZE, IMAGE_SIZE), borderMode=cv2.BORDER_REPLICATE) for image in images])
        back = cv2.invertAffineTransform(transform)
        total += predict(moved) @ back[:, :2].T + back[:, 2]
    return total / crops


def describe(predictions: dict[str, np.ndarray], faces: Faces) -> list[dict]:
    "Return the RMSE of each kind of prediction: on all faces, by source, and on the ends of the brows and the other keypoints."
    brows = np.isin(np.arange(len(KEYPOINTS)), BROWS)[:, None]
    rows = []
    for name, points in predictions.items():
        row = {"prediction": name, "rmse": rmse(points, faces.points)}
        row |= {str(source): rmse(points[faces.source == source], faces.points[faces.source == source]) for source in np.unique(faces.source)}
        rows.append(row | {"brow_ends": rmse(points, np.where(brows, faces.points, np.nan)), "other_keypoints": rmse(points, np.where(brows, np.nan, faces.points))})
    return rows


def split_error(network: np.ndarray, mediapipe: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    "Return the RMS differences between network, MediaPipe and labels [N,15,2], and the errors of the three that follow if they are independent, in pixels."
    network_squared, mediapipe_squared, between_squared = (float(np.nanmean((one - other) ** 2)) for one, other in ((network, labels), (mediapipe, labels), (network, mediapipe)))
    own = {"labels": network_squared + mediapipe_squared - between_squared, "network": network_squared + between_squared - mediapipe_squared, "mediapipe": mediapipe_squared + between_squared - network_squared}
    return {"network_against_labels": network_squared**0.5, "mediapipe_against_labels": mediapipe_squared**0.5, "network_against_mediapipe": between_squared**0.5,
            **{f"error_of_{name}": max(0.0, value / 2) ** 0.5 for name, value in own.items()}}


def register_labels(faces: Faces, other: Faces, rows: np.ndarray) -> np.ndarray:
    "Return labels of another crop of each photograph in the pixels of its face [N,15,2]; `rows` are the rows of `other`, and faces that cannot be registered are NaN."
    registered = np.full(faces.points.shape, np.nan)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 300, 1e-6)
    for place, row in enumerate(rows):
        try:
            correlation, transform = cv2.findTransformECC(np.float32(faces.images[place]), np.float32(other.images[row]), np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, criteria, None, 5)
        except cv2.error:  # the search did not converge
            continue
        if correlation >= MATCHED:
            back = cv2.invertAffineTransform(transform)
            registered[place] = other.points[row] @ back[:, :2].T + back[:, 2]
    return registered


def without_similarity(differences: np.ndarray, shape: np.ndarray) -> np.ndarray:
    "Remove the shift, rotation and change of scale of the mean shape [15,2] from the differences of each face [N,15,2], and the mean over all faces."
    middle = shape - shape.mean(axis=0)
    moves = np.stack([np.tile([1.0, 0.0], len(shape)), np.tile([0.0, 1.0], len(shape)), middle.ravel(), np.column_stack([-middle[:, 1], middle[:, 0]]).ravel()], axis=1)
    basis = np.linalg.qr(moves)[0]
    flat = differences.reshape(len(differences), -1)
    rest = flat - flat @ basis @ basis.T
    return rest - rest.mean(axis=0)


def split_by_annotator(predicted: np.ndarray, labels: np.ndarray, second: np.ndarray, seed: int = 0) -> dict:
    "Return the RMS differences between predictions, labels and second labels [N,15,2], and the errors that follow for them, with 95% intervals over photographs, in pixels."
    degrees = 2 * labels.shape[1] - 4  # coordinates less those of a similarity transform
    squared = [(without_similarity(one - other, labels.mean(axis=0)) ** 2).sum(axis=1) / degrees for one, other in ((predicted, labels), (second, labels), (predicted, second))]

    def errors_of(rows: np.ndarray) -> np.ndarray:
        to_labels, between_labels, to_second = (part[rows].mean() for part in squared)
        return np.sqrt(np.maximum(0, [to_labels + between_labels - to_second, to_labels + to_second - between_labels, between_labels + to_second - to_labels]) / 2)

    rng = np.random.default_rng(seed)
    resampled = np.array([errors_of(rng.integers(len(labels), size=len(labels))) for _ in range(RESAMPLES)])
    result = {"faces": len(labels), **{name: float(part.mean() ** 0.5) for name, part in zip(("model_against_labels", "second_labels_against_labels", "model_against_second_labels"), squared)}}
    for name, error, interval in zip(("labels", "model", "second_labels"), errors_of(np.arange(len(labels))), np.percentile(resampled, [2.5, 97.5], axis=0).T):
        result |= {f"error_of_{name}": float(error), f"interval_of_{name}": interval.tolist()}
    return result


def second_annotators(options, validation: Faces, predictions: dict[str, np.ndarray]) -> list[dict]:
    "Return `split_by_annotator` for each model, on the validation photographs that --second-labels contains too."
    with np.load(options.second_labels, allow_pickle=False) as saved, np.load(options.photographs[-1], allow_pickle=False) as source:
        row_of = {name: row for row, name in enumerate(saved["lfpw"])}
        names = [source["image_id"][int(row)] if file == options.photographs[-1].name else "" for file, row in (image_id.rsplit(":", 1) for image_id in validation.image_id)]
    shared = np.array([place for place, name in enumerate(names) if name in row_of])
    faces = validation[shared]
    second = register_labels(faces, load_faces(options.second_labels), np.array([row_of[names[place]] for place in shared]))
    kept = np.isfinite(second).all(axis=(1, 2))
    return [{"model": name, **split_by_annotator(points[shared][kept], faces.points[kept], second[kept])} for name, points in predictions.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", required=True, type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--model", default="unblended-seed0.keras", help="file in this folder: the model before the final stage")
    parser.add_argument("--second-labels", type=Path, metavar="FILE.npz", help="labels of other annotators for photographs of the last file; `lfpw` contains their `image_id` there")
    parser.add_argument("--save", type=Path, default=Path("results/deploy/limits.json"))
    parser.set_defaults(portraits=None, web=None, frames=None, mediapipe="runs/mediapipe/bin/python")  # as in train.py, for mediapipe_for
    options = parser.parse_args()
    started = time.perf_counter()
    train, validation, _ = split_photographs(options.photographs)
    model = load_model(options.out / options.model)
    features = mediapipe_for(options, train)
    offset, (ridge, _) = horizontal_bias(train, features), fit_ridge(train, features)
    mediapipe = ridge.predict(mediapipe_for(options, validation)).reshape(-1, len(KEYPOINTS), 2)
    averaged = mean_over_crops(lambda images: predict_with_mirror(model, images), validation.images) + offset
    predictions = {"network": predict_points(model, validation.images) + offset, "network, mean with the mirror image": predict_with_mirror(model, validation.images) + offset,
                   f"network, mean of {CROPS} crops and their mirror images": averaged, "MediaPipe and ridge regression": mediapipe,
                   f"mean of both (network: {CROPS} crops, weight 0.75)": 0.75 * averaged + 0.25 * mediapipe}
    network = predictions["network, mean with the mirror image"]
    errors = [{"source": str(source), **split_error(network[rows], mediapipe[rows], validation.points[rows])} for source in np.unique(validation.source) for rows in [validation.source == source]]
    annotators = second_annotators(options, validation, {"network": network, "MediaPipe and ridge regression": mediapipe}) if options.second_labels else []
    rows = describe({name: points.astype(np.float32) for name, points in predictions.items()}, validation)
    write_measurement(options.save, {"what": "RMSE on the validation set, in pixels", "predictions": rows, "errors": errors, "annotators": annotators},
                      f"python recipes/default/limits.py --photographs {' '.join(file.name for file in options.photographs)} --out runs/default --model {options.model}{f' --second-labels {options.second_labels.name}' if options.second_labels else ''}",
                      {"name": " and ".join(file.name for file in options.photographs), "sha256": hash_faces(validation), "part": "validation set of train.py", "faces": len(validation)}, time.perf_counter() - started)
    for row in [*rows, *errors, *annotators]:
        print(", ".join(f"{key} {value:.3f}" if isinstance(value, float) else str(value) for key, value in row.items()))


if __name__ == "__main__":
    main()
