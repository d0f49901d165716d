"""Measure how much of the error on the validation set other predictions remove: averages over crops, MediaPipe, and both together.

    python recipes/default/limits.py --photographs helen_afw_96.npz lfpw_train_96.npz --out runs/default [--save results/deploy/limits.json]

Takes the model of a finished run (train.py --out) before its final stage, which has not seen the validation set, and its MediaPipe predictions. Averaging removes errors that differ between crops or between models;
the rest is common to both models, or is disagreement with the annotators.

How much the labels themselves are off is estimated from three mean squared differences: network and labels, MediaPipe and labels, network and MediaPipe. If the three errors are independent, each difference is the sum of
two of them (the "three-cornered hat" of clock comparisons), so all three follow. They are not quite independent: the network was trained on labels blended with MediaPipe's predictions, and both models fail on the same hard
images. Both facts make the estimate for the labels too large. With --independent, another network is used as well, trained without MediaPipe (train.py --without mediapipe). The test set is not used.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from train import fit_ridge, horizontal_bias, mediapipe_for, predict_with_mirror, split_photographs

from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces, hash_faces
from facekp.keypoints import IMAGE_SIZE, KEYPOINTS
from facekp.metrics import rmse
from facekp.models.files import load_model
from facekp.training.batches import predict_points

CROPS = 12  # random similarity transforms of each face, each with its mirror image
ROTATION, SCALE, SHIFT = 8.0, 0.08, 2.0  # degrees, share and pixels, at most
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", required=True, type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--model", default="again-seed0.keras", help="file in this folder: the model before the final stage")
    parser.add_argument("--independent", type=Path, metavar="MODEL.keras", help="a network trained without MediaPipe predictions, before its final stage")
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
    networks = {"network": predictions["network, mean with the mirror image"]}
    if options.independent:
        networks["network trained without MediaPipe"] = predict_with_mirror(load_model(options.independent), validation.images) + offset
    errors = [{"source": str(source), "model": name, **split_error(points[rows], mediapipe[rows], validation.points[rows])}
              for source in np.unique(validation.source) for rows in [validation.source == source] for name, points in networks.items()]
    rows = describe({name: points.astype(np.float32) for name, points in predictions.items()}, validation)
    write_measurement(options.save, {"what": "RMSE on the validation set, in pixels", "predictions": rows, "errors": errors},
                      f"python recipes/default/limits.py --photographs {' '.join(file.name for file in options.photographs)} --out runs/default{' --independent MODEL.keras' if options.independent else ''}",
                      {"name": " and ".join(file.name for file in options.photographs), "sha256": hash_faces(validation), "part": "validation set of train.py", "faces": len(validation)}, time.perf_counter() - started)
    for row in [*rows, *errors]:
        print(", ".join(f"{key} {value:.3f}" if isinstance(value, float) else str(value) for key, value in row.items()))


if __name__ == "__main__":
    main()
