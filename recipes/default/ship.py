"""Export a trained heatmap network as the shipped model, which predicts points and a calibrated sigma for each.

    python recipes/default/ship.py --model MODEL.keras --calibrate PHOTOGRAPHS.npz [PHOTOGRAPHS.npz] --data "training data" --license "terms" \\
        [--version 1] [--weights int8] [--eight-bits] [--out facekp/weights/default.onnx]

Sigma is calibrated on the test set of train.py, which the model was not trained on; activations are calibrated on 500 of the other photographs.
The width w of the peak in each heatmap is converted to an expected error per coordinate, sigma = sqrt(a + b w2). For each keypoint, a and b maximise the
likelihood of the errors under a normal distribution. results/deploy/calibration.json contains a, b, and predicted and actual errors by decile, from
five-fold cross-validation by group. Needs: make dev
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from train import split_photographs

from facekp.data.npz import save_npz
from facekp.evaluation import evaluate_points
from facekp.experiments.measurement import write_measurement
from facekp.export.comparison import open_exported
from facekp.export.formats import export_network
from facekp.faces import concatenate, hash_faces
from facekp.files import hash_file
from facekp.inference.keypoint_model import load_keypoint_model
from facekp.inference.session import DEFAULT_MODEL
from facekp.keypoints import KEYPOINTS
from facekp.models.files import load_model, save_model
from facekp.training.batches import predict_points

FOLDS, COMMON_WEIGHT = 5, 40  # folds of the cross-validation; weight of the common a and b in those of each keypoint, in faces


def negative_log_likelihood(numbers: np.ndarray, squared_width: np.ndarray, squared_error: np.ndarray) -> float:
    "Return the negative log-likelihood per coordinate; numbers are log a and log b."
    variance = np.exp(numbers[0]) + np.exp(numbers[1]) * squared_width
    return float(np.mean(np.log(variance) + squared_error / variance) / 2)


def fit_one(squared_width: np.ndarray, squared_error: np.ndarray, start: np.ndarray, common_weight: float = 0.0) -> np.ndarray:
    "Fit log a and log b, regularised towards `start` with the weight of common_weight faces."
    known = np.isfinite(squared_error)
    width, error = squared_width[known], squared_error[known]

    def loss(numbers: np.ndarray) -> float:
        return negative_log_likelihood(numbers, width, error) * len(error) + common_weight * np.sum((numbers - start) ** 2)

    return minimize(loss, start, method="L-BFGS-B", bounds=[(np.log(1e-3), np.log(100.0)), (np.log(1e-4), np.log(100.0))]).x


def calibrate(width: np.ndarray, squared_error: np.ndarray, own: bool = True) -> np.ndarray:
    "Fit a and b [15,2] to widths and squared errors [N,15]."
    capped = np.minimum(squared_error, np.nanquantile(squared_error, 0.995))  # limits the influence of a few wrong labels
    common = fit_one(width.ravel() ** 2, capped.ravel(), np.log([0.5, 0.3]))
    if not own:
        return np.tile(np.exp(common), (len(KEYPOINTS), 1))
    return np.exp([fit_one(width[:, k] ** 2, capped[:, k], common, COMMON_WEIGHT) for k in range(len(KEYPOINTS))])


def sigma_of(width: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    "Return sigma as the exported model computes it."
    return np.sqrt(np.maximum(numbers[:, 0] + numbers[:, 1] * width**2, 0.01))


def cross_validated(width: np.ndarray, squared_error: np.ndarray, group: np.ndarray, own: bool) -> np.ndarray:
    "Return sigma [N,15], each computed with a and b from the other folds."
    names, place = np.unique(group, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names))[place] % FOLDS
    sigma = np.zeros_like(width)
    for number in range(FOLDS):
        sigma[part == number] = sigma_of(width[part == number], calibrate(width[part != number], squared_error[part != number], own))
    return sigma


def calibration_errors(sigma: np.ndarray, squared_error: np.ndarray) -> dict:
    "Compare predicted with actual errors, by decile and by keypoint, and return the log-likelihood."
    known = np.isfinite(squared_error)
    order = np.argsort(sigma[known])
    tenths = [{"predicted": float(np.sqrt(np.mean(sigma[known][rows] ** 2))), "real": float(np.sqrt(np.mean(squared_error[known][rows]))),
               "points": len(rows)} for rows in np.array_split(order, 10)]
    by_point = {keypoint: {"predicted": float(np.sqrt(np.mean(sigma[known[:, k], k] ** 2))), "real": float(np.sqrt(np.mean(squared_error[known[:, k], k])))}
                for k, keypoint in enumerate(KEYPOINTS)}
    return {"tenths": tenths, "keypoints": by_point, "log_likelihood": -float(np.mean(np.log(sigma[known] ** 2) + squared_error[known] / sigma[known] ** 2) / 2)}


def find_calibration(model, faces, weights: str) -> dict:
    "Score the network on faces that it was not trained on, and fit a and b for each keypoint."
    with tempfile.TemporaryDirectory() as folder:
        points, width = open_exported(export_network(model, Path(folder) / "bare.onnx", "onnx", weights=weights)).predict(faces.images)
    error = points - faces.points
    squared = np.mean(error**2, axis=-1)
    known = np.isfinite(squared)
    kinds = {own: calibration_errors(cross_validated(width, squared, faces.group, own), squared) for own in (False, True)}
    own = kinds[True]["log_likelihood"] >= kinds[False]["log_likelihood"]
    numbers = calibrate(width, squared, own)
    constant = np.sqrt(np.mean(squared[known]))
    sigma = cross_validated(width, squared, faces.group, own)
    apart = np.abs(error[known]) / sigma[known][:, None]
    return {"a": numbers[:, 0].tolist(), "b": numbers[:, 1].tolist(), "each_keypoint_its_own": bool(own), **kinds[own],
            "log_likelihood_common": kinds[False]["log_likelihood"], "log_likelihood_constant": -float(np.log(constant) + 0.5),
            "within_1_sigma": float(np.mean(apart < 1)), "within_2_sigma": float(np.mean(apart < 2)),
            "rank_correlation": float(np.corrcoef(np.argsort(np.argsort(sigma[known])), np.argsort(np.argsort(squared[known])))[0, 1]),
            "faces": len(faces), "data": {"name": faces.name, "sha256": hash_faces(faces), "faces": len(faces)}}


def write_release_file(model, path: Path) -> None:
    "Write the network as a compressed .keras file, its weights rounded to float16, which halves the size."
    weights = model.get_weights()
    model.set_weights([array.astype(np.float16).astype(np.float32) for array in weights])
    save_model(model, path, compress=True)
    model.set_weights(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--calibrate", required=True, nargs="+", type=Path, metavar="PHOTOGRAPHS.npz", help="the files of --photographs of train.py")
    parser.add_argument("--version", default="1")
    parser.add_argument("--data", required=True, help="description of the training data, for the metadata")
    parser.add_argument("--license", required=True, help="terms of the weights, for the metadata")
    parser.add_argument("--notes", default="", help="additional line for the metadata")
    parser.add_argument("--weights", default="float16", choices=("float32", "float16", "int8"))
    parser.add_argument("--eight-bits", action="store_true", help="also compute in 8 bits, except for the heatmaps")
    parser.add_argument("--out", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--keras", type=Path, metavar="FILE.keras", help="also write the network for Keras: the release file recipes/default/default.keras")
    parser.add_argument("--test-set", type=Path, metavar="FILE.npz", help="also write the test set, on which studies/ and benchmarks/ measure the model")
    parser.add_argument("--record", type=Path, default=Path("results/deploy/calibration.json"))
    options = parser.parse_args()
    model, started = load_model(options.model), time.perf_counter()
    train, validation, faces = split_photographs(options.calibrate)
    calibration = find_calibration(model, faces, options.weights) | {"model_sha256": hash_file(options.model)}
    if options.test_set:
        save_npz(faces, options.test_set)
    rest = concatenate([train, validation])
    int8_images = rest.images[np.random.default_rng(0).permutation(len(rest))[:500]]
    notes = {"name": "default", "version": options.version, "data": options.data, "license": options.license, "notes": options.notes,
             "architecture": model.name, "source_sha256": hash_file(options.model), "weights": "8 bits" if options.eight_bits else options.weights,
             "calibration": json.dumps({"a": np.round(calibration["a"], 4).tolist(), "b": np.round(calibration["b"], 4).tolist(),
                                        "formula": "sigma = sqrt(max(a + b width^2, 0.01))", "faces": calibration["faces"], "data": calibration["data"]["name"]})}
    export_network(model, options.out, "onnx-int8" if options.eight_bits else "onnx", int8_images if options.eight_bits else None, weights=options.weights,
                   calibration=(calibration["a"], calibration["b"]), notes={key: value for key, value in notes.items() if value})
    if options.keras:
        write_release_file(model, options.keras)
    shipped = load_keypoint_model(options.out, threads=1)
    print(json.dumps({key: value for key, value in shipped.metadata.items() if key != "calibration"}, indent=1))
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.3f} MB")
    expected = predict_points(model, faces.images)
    predicted, sigma = shipped.predict(faces.images)
    scores, kept = evaluate_points(predicted, faces.points, faces.group), evaluate_points(expected, faces.points, faces.group)
    calibration |= {"rmse": scores["rmse"], "rmse_interval": scores["intervals"]["rmse"], "rmse_keras": kept["rmse"], "bytes": options.out.stat().st_size,
                    "largest_difference": float(np.abs(predicted - expected).max())}
    data = calibration.pop("data")
    write_measurement(options.record, calibration, f"python recipes/default/ship.py --model {options.model.name} --calibrate {' '.join(file.name for file in options.calibrate)}{' --eight-bits' * options.eight_bits}", data,
                      time.perf_counter() - started)
    for tenth in calibration["tenths"]:
        print(f"  sigma {tenth['predicted']:.2f} px: actual error {tenth['real']:.2f} px")
    print(f"{scores['rmse']:.4f} px on {len(faces)} faces ({kept['rmse']:.4f} in Keras), sigma {sigma.mean():.2f} px in the mean, "
          f"{calibration['within_1_sigma']:.0%} of coordinates within one sigma, {calibration['within_2_sigma']:.0%} within two; wrote {options.record}")


if __name__ == "__main__":
    main()
