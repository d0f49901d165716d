"""Measure the error and sigma of keypoint models by condition: degraded copies of the same faces, and images that the model should reject.

    python recipes/default/conditions.py --faces TEST_SET.npz --models default.onnx [OTHER.onnx ...] [--faceless FOLDER] --out results/deploy/conditions.json

No model may have been trained on the faces; ship.py --test-set writes the test set of the recipe. Each face is degraded once per condition (degrade.py), with a seed of its own, so all models see the same images.
Points under sunglasses or a mask count too: their error shows how well a model guesses them, and sigma whether it knows that it guesses.
A face is flagged if its mean sigma is larger than that of 95% of the faces as they are. It seems to have a hidden part if several keypoints have a much larger sigma than their median on these faces, `usual_sigma`;
for the shipped model, this median is USUAL_SIGMA in nbs/library/inference/confidence.ipynb. Upside-down faces, negatives (black becomes white) and crops of images without a face (--faceless) should be flagged.
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
from facekp.geometry import Crop, crop_image
from facekp.images import read_image
from facekp.inference.confidence import HIDDEN_POINTS, HIDDEN_RATIO
from facekp.inference.keypoint_model import load_keypoint_model

CROPS, SMALLEST = 40, 48  # crops per image without a face, and the side of the smallest in pixels
PASSED = 0.95  # share of the faces as they are that are not flagged


def degrade_all(faces: Faces, kind: str) -> np.ndarray:
    "Degrade every face in the same way; another kind than those of KINDS leaves the images unchanged."
    return np.stack([degrade(kind, image, points, np.random.default_rng(row)) for row, (image, points) in enumerate(zip(faces.images, faces.points))])


def faceless_crops(folder: Path) -> np.ndarray:
    "Return random square crops of all images of a folder, as large as a face."
    rng, crops = np.random.default_rng(0), []
    for file in sorted(folder.iterdir()):
        image = read_image(file, grey=True)
        height, width = image.shape
        for side in rng.integers(SMALLEST, max(SMALLEST + 1, int(min(height, width) / 1.2)), CROPS):
            crops.append(crop_image(image, Crop((rng.uniform(side / 2, width - side / 2), rng.uniform(side / 2, height - side / 2)), float(side))))
    return np.stack(crops)


def describe(predicted: np.ndarray, sigma: np.ndarray, faces: Faces) -> dict[str, float | list[float]]:
    "Compare errors with the sigma that the model predicts for each point, in pixels per coordinate."
    error = predicted - faces.points
    metrics = evaluate_points(predicted, faces.points, faces.group)
    apart = np.abs(error) / sigma[..., None]
    return {"rmse": metrics["rmse"], "interval": metrics["intervals"]["rmse"], "within_1_sigma": float(np.nanmean(apart < 1)), "within_2_sigma": float(np.nanmean(apart < 2))}


def describe_sigma(sigma: np.ndarray, largest: float, usual: np.ndarray) -> dict[str, float | int]:
    "Return the size of sigma [N,15], and the shares of images that are flagged and of those that seem to have a hidden part."
    hidden = (sigma > HIDDEN_RATIO * usual).sum(axis=1) >= HIDDEN_POINTS
    return {"images": len(sigma), "sigma": float(np.sqrt(np.mean(sigma**2))), "flagged": float(np.mean(sigma.mean(axis=1) > largest)), "hidden_part": float(np.mean(hidden))}


def measure(model, faces: Faces, faceless: np.ndarray | None = None) -> tuple[dict[str, dict], np.ndarray]:
    "Return the measurements of a model by condition, and its usual sigma [15]; images that should be flagged have no error."
    clean = model.predict(faces.images)[1]
    largest, usual = float(np.quantile(clean.mean(axis=1), PASSED)), np.median(clean, axis=0)
    results = {}
    for kind in ("none", *KINDS):
        predicted, sigma = model.predict(degrade_all(faces, kind))
        results[kind] = describe(predicted, sigma, faces) | describe_sigma(sigma, largest, usual)
    rejected = {"negative": 255 - faces.images, "upside_down": np.ascontiguousarray(faces.images[:, ::-1, ::-1]), "no_face": faceless}
    return results | {kind: describe_sigma(model.predict(images)[1], largest, usual) for kind, images in rejected.items() if images is not None}, usual


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FILE.onnx")
    parser.add_argument("--source", help="only faces of this source, such as lfpw_train")
    parser.add_argument("--faceless", type=Path, metavar="FOLDER", help="images without a face")
    parser.add_argument("--out", type=Path, help="write the JSON record to this file")
    options = parser.parse_args()
    faces = load_npz(options.faces)
    faces = faces[np.isfinite(faces.points).all(axis=(1, 2))]
    if options.source:
        faces = faces[faces.source == options.source]
    faceless = faceless_crops(options.faceless) if options.faceless else None
    measured_models = {path.name: measure(load_keypoint_model(path, threads=1), faces, faceless) for path in options.models}
    results = {name: conditions for name, (conditions, _) in measured_models.items()}
    for name, conditions in results.items():
        for kind, measured in conditions.items():
            accuracy = f"RMSE {measured['rmse']:.2f} px, {measured['within_1_sigma']:.0%} of coordinates within one sigma, {measured['within_2_sigma']:.0%} within two, " if "rmse" in measured else ""
            print(f"{name}  {kind:11}  {accuracy}sigma {measured['sigma']:.2f} px, {measured['flagged']:.1%} of {measured['images']} flagged")
    if options.out:
        command = (f"python recipes/default/conditions.py --faces {options.faces.name} --models {' '.join(path.name for path in options.models)}"
                   f"{f' --source {options.source}' if options.source else ''}{' --faceless FOLDER' if options.faceless else ''}")
        write_measurement(options.out, {"what": f"{len(faces)} faces, degraded in each way of recipes/default/degrade.py", "models": {path.name: hash_file(path) for path in options.models},
                                        "faceless_images": len(list(options.faceless.iterdir())) if options.faceless else 0, "conditions": results,
                                        "usual_sigma": {name: usual.astype(float).round(2).tolist() for name, (_, usual) in measured_models.items()}},
                          command, {"name": faces.name, "sha256": hash_faces(faces), "faces": len(faces)})


if __name__ == "__main__":
    main()
