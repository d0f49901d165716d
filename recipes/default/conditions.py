"""Measure the error and sigma of keypoint models on degraded copies of the same faces, by condition.

    python recipes/default/conditions.py --faces TEST_SET.npz --models default.onnx [OTHER.onnx ...] --out results/deploy/conditions.json

No model may have been trained on the faces; ship.py --test-set writes the test set of the recipe. Each face is degraded once per condition (degrade.py), with a seed of its own, so all models see the same images.
Points under sunglasses or a mask count too: their error shows how well a model guesses them, and sigma whether it knows that it guesses.
"""

import argparse
from pathlib import Path

import numpy as np
from degrade import KINDS, degrade

from facekp.data.npz import load_npz
from facekp.evaluation import evaluate_points
from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces, hash_faces
from facekp.files import hash_file
from facekp.inference.keypoint_model import load_keypoint_model


def degrade_all(faces: Faces, kind: str) -> np.ndarray:
    "Degrade every face in the same way; another kind than those of KINDS leaves the images unchanged."
    return np.stack([degrade(kind, image, points, np.random.default_rng(row)) for row, (image, points) in enumerate(zip(faces.images, faces.points))])


def describe(predicted: np.ndarray, sigma: np.ndarray, faces: Faces) -> dict[str, float | list[float]]:
    "Compare errors with the sigma that the model predicts for each point, in pixels per coordinate."
    error = predicted - faces.points
    metrics = evaluate_points(predicted, faces.points, faces.group)
    apart = np.abs(error) / sigma[..., None]
    return {"rmse": metrics["rmse"], "interval": metrics["intervals"]["rmse"], "sigma": float(np.sqrt(np.nanmean(sigma**2))),
            "within_1_sigma": float(np.nanmean(apart < 1)), "within_2_sigma": float(np.nanmean(apart < 2))}


def measure(models: list[Path], faces: Faces) -> dict[str, dict]:
    "Return the measurements by model and condition."
    loaded, results = {path.name: load_keypoint_model(path, threads=1) for path in models}, {path.name: {} for path in models}
    for kind in ("none", *KINDS):
        images = degrade_all(faces, kind)
        for name, model in loaded.items():
            results[name][kind] = describe(*model.predict(images), faces)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FILE.onnx")
    parser.add_argument("--source", help="only faces of this source, such as lfpw_train")
    parser.add_argument("--out", type=Path, help="write the JSON record to this file")
    options = parser.parse_args()
    faces = load_npz(options.faces)
    faces = faces[np.isfinite(faces.points).all(axis=(1, 2))]
    if options.source:
        faces = faces[faces.source == options.source]
    results = measure(options.models, faces)
    for name, conditions in results.items():
        for kind, measured in conditions.items():
            print(f"{name}  {kind:10}  RMSE {measured['rmse']:.2f} px, sigma {measured['sigma']:.2f} px, {measured['within_1_sigma']:.0%} of coordinates within one sigma, {measured['within_2_sigma']:.0%} within two")
    if options.out:
        command = f"python recipes/default/conditions.py --faces {options.faces.name} --models {' '.join(path.name for path in options.models)}{f' --source {options.source}' if options.source else ''}"
        write_measurement(options.out, {"what": f"{len(faces)} faces, degraded in each way of recipes/default/degrade.py", "models": {path.name: hash_file(path) for path in options.models}, "conditions": results},
                          command, {"name": faces.name, "sha256": hash_faces(faces), "faces": len(faces)})


if __name__ == "__main__":
    main()
