"""Fit the confidence of found faces: a logistic regression on what the landmarker measures, with a reliability diagram.

    python recipes/default/confidence.py --data TEST_SET.npz --backgrounds FOLDER --passes 3 --out results/prediction/confidence.json

The keypoint model must not have been trained on the faces; ship.py --test-set writes the test set of the recipe. In each pass, each is blended into a crop of an image without faces from FOLDER, many of them degraded (sunglasses, blur, roll, half hidden, dark, noise,
small); crops without a face and photographic negatives are added. The regression is fitted on half of the groups and tested on the other half. The printed weights go into
nbs/library/inference/confidence.ipynb; a second run then measures them on the test half. No image is kept.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from degrade import degrade
from sklearn.linear_model import LogisticRegression

import facekp
import facekp.inference.landmarker as landmarker_module
from facekp.data.sources import load_faces
from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces
from facekp.files import hash_file
from facekp.images import IMAGE_ENDINGS, read_image
from facekp.inference.confidence import CONFIDENCE_WEIGHTS, RIGHT_ERROR, face_confidence
from facekp.keypoints import IMAGE_SIZE
from facekp.metrics import interocular_distance

MASK = cv2.GaussianBlur(cv2.ellipse(np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32), (48, 48), (44, 47), 0, 0, 360, 1, -1), (0, 0), 2.5)
SKIN = np.array([1.12, 0.97, 0.88], np.float32)  # tint for grey faces
DEGRADATIONS = {"none": 0.34, "sunglasses": 0.1, "blur": 0.12, "roll": 0.16, "hidden": 0.08, "dark": 0.05, "noise": 0.07, "small": 0.08}


def random_crop(backgrounds: list[np.ndarray], rng: np.random.Generator, width: int = 640, height: int = 480) -> np.ndarray:
    "Return a random crop of an image without faces, at any scale."
    background = backgrounds[rng.integers(len(backgrounds))]
    scale = min(background.shape[0] / height, background.shape[1] / width) * rng.uniform(0.35, 1)
    breadth, tall = int(width * scale), int(height * scale)
    x, y = rng.integers(0, background.shape[1] - breadth + 1), rng.integers(0, background.shape[0] - tall + 1)
    part = background[y:y + tall, x:x + breadth, :]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)


def blend(scene: np.ndarray, image: np.ndarray, points: np.ndarray, size: int, angle: float, rng: np.random.Generator) -> np.ndarray:
    "Blend a face into a scene; return its points there."
    turn = cv2.getRotationMatrix2D((47.5, 47.5), angle, 1)
    face = cv2.warpAffine(image[..., None] * SKIN, turn, (IMAGE_SIZE, IMAGE_SIZE), borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(MASK, turn, (IMAGE_SIZE, IMAGE_SIZE))
    face, mask = (cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA if size < IMAGE_SIZE else cv2.INTER_LINEAR) for one in (face, mask))
    x, y = rng.integers(0, scene.shape[1] - size), rng.integers(0, scene.shape[0] - size)
    part = scene[y:y + size, x:x + size]
    part[:] = np.clip(face * mask[..., None] + part * (1 - mask[..., None]), 0, 255)
    return ((points @ turn[:, :2].T + turn[:, 2]) + 0.5) * size / IMAGE_SIZE - 0.5 + [x, y]


def scenes(faces: Faces, backgrounds: list[np.ndarray], rng: np.random.Generator):
    "Yield scene, points or None, and kind: every face once, and half as many scenes without a face."
    for image, points in zip(faces.images, faces.points):
        kind = str(rng.choice(list(DEGRADATIONS), p=list(DEGRADATIONS.values())))
        scene = random_crop(backgrounds, rng)
        size = int(rng.integers(22, 44) if kind == "small" else np.exp(rng.uniform(np.log(48), np.log(380))))
        known = points.astype(float)
        degraded = degrade(kind, image, np.nan_to_num(known), rng)
        truth = blend(scene, degraded, known, size, rng.uniform(0, 360) if kind == "roll" else rng.normal(0, 8), rng)
        yield scene, truth, kind
        if rng.random() < 0.12:
            yield 255 - scene, truth, "negative"
        if rng.random() < 0.5:
            yield random_crop(backgrounds, rng), None, "no face"


def collect(faces: Faces, backgrounds: list[np.ndarray], seed: int) -> tuple[list[dict], list[list]]:
    "Return a row for each found face (measurements, whether it is correct, kind), and for each scene its kind, errors and confidences."
    measured = {}

    def record(measurements: dict) -> float:
        "Return the confidence, made unique, as the key of the measurements, which a Face does not keep."
        confidence = face_confidence(measurements) * (1 - 1e-9 * len(measured))
        measured[confidence] = measurements
        return confidence

    landmarker, rows, per_scene = facekp.load(min_confidence=0.0), [], []
    landmarker_module.face_confidence = record
    for scene, truth, kind in scenes(faces, backgrounds, np.random.default_rng(seed)):
        found, errors = landmarker.find_faces(scene), []
        for face in found:
            error = np.inf if truth is None else float(np.nanmean(np.linalg.norm(face.points - truth, axis=1)) / interocular_distance(truth[None])[0])
            errors.append(error)
            rows.append({**measured[face.confidence], "right": error < RIGHT_ERROR, "kind": kind, "error": error})
        per_scene.append([kind, truth is not None, errors, [face.confidence for face in found]])
        measured.clear()
    landmarker_module.face_confidence = face_confidence
    return rows, per_scene


def table(rows: list[dict], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    "Return the measurements [N,4] and whether each face is correct [N]."
    return np.array([[row[name] for name in names] for row in rows]), np.array([row["right"] for row in rows])


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[dict]:
    "Return how often faces with a confidence are correct."
    edges = np.array([0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0001])
    inside = [(confidence >= low) & (confidence < high) for low, high in zip(edges, edges[1:])]
    return [{"from": round(float(low), 2), "faces": int(one.sum()), "confidence": round(float(confidence[one].mean()), 3),
             "right": round(float(right[one].mean()), 3)} for low, one in zip(edges, inside) if one.any()]


def summary(per_scene: list[list]) -> dict:
    "Return per kind of scene: scenes, faces found (error under 0.30, confidence 0.5), wrong faces, and wrong faces of confidence 0.8 or more, which are not flagged."
    result = {}
    for kind in dict.fromkeys(scene[0] for scene in per_scene):
        some = [scene for scene in per_scene if scene[0] == kind]
        faces = [(error, confidence) for scene in some for error, confidence in zip(*scene[2:])]
        result[kind] = {"scenes": len(some), "found": sum(any(e < 0.3 and c >= 0.5 for e, c in zip(*scene[2:])) for scene in some),
                        "wrong": sum(e >= 0.3 and c >= 0.5 for e, c in faces), "wrong_unflagged": sum(e >= 0.3 and c >= 0.8 for e, c in faces)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--backgrounds", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=1600, help="of all sets together")
    parser.add_argument("--passes", type=int, default=1, help="scenes of each face, with other degradations and backgrounds")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    files = sorted(path for path in options.backgrounds.iterdir() if path.suffix.lower() in IMAGE_ENDINGS)
    backgrounds, rng, sets = [read_image(path) for path in files], np.random.default_rng(0), [load_faces(path) for path in options.data]
    rows, scenes_of = {"fit": [], "test": []}, {"fit": [], "test": []}
    for number, faces in enumerate(sets):
        chosen = faces[rng.permutation(len(faces))[:options.faces // len(sets)]]
        odd = np.array([number_of % 2 for number_of in np.unique(chosen.group, return_inverse=True)[1]], bool)
        for name, part, shown in (("fit", ~odd, backgrounds[::2]), ("test", odd, backgrounds[1::2])):  # other faces and other backgrounds
            for turn in range(options.passes):
                found, seen = collect(chosen[np.flatnonzero(part)], shown, seed=number + 1_000 * turn)
                rows[name] += found
                scenes_of[name] += seen
    names = [name for name in CONFIDENCE_WEIGHTS if name != "bias"]
    values, right = table(rows["fit"], names)
    model = LogisticRegression(C=10.0, max_iter=2000).fit(values, right)
    weights = {"bias": round(float(model.intercept_[0]), 4), **dict(zip(names, np.round(model.coef_[0], 4).tolist()))}
    values, right = table(rows["test"], names)
    confidence = 1 / (1 + np.exp(-(values @ np.array([CONFIDENCE_WEIGHTS[name] for name in names]) + CONFIDENCE_WEIGHTS["bias"])))
    usual = np.median([np.expm1(row["shift"]) for row in rows["fit"] if row["right"]])
    record = {"what": f"logistic regression: is the mean error of a found face at most {RIGHT_ERROR} of the interocular distance; real faces blended into images without faces",
              "faces": {"fit": len(rows["fit"]), "test": len(rows["test"])}, "backgrounds": len(backgrounds), "weights": CONFIDENCE_WEIGHTS, "weights_fitted_again": weights, "usual_shift_px": round(float(usual), 3),
              "brier_test": round(float(np.mean((confidence - right) ** 2)), 4), "reliability_test": reliability(confidence, right),
              "by_kind_test": summary(scenes_of["test"])}
    names = [Path(path).name for path in options.data]
    write_measurement(options.out, record, f"python recipes/default/confidence.py --data {' '.join(names)} --backgrounds FOLDER --faces {options.faces} --passes {options.passes}",
                      {"name": "+".join(names), "sha256": {name: hash_file(path) for name, path in zip(names, options.data)}})
    for name in ("weights_fitted_again", "brier_test", "reliability_test", "by_kind_test", "usual_shift_px"):
        print(name, *(record[name] if isinstance(record[name], list) else [record[name]]), sep="\n  ")


if __name__ == "__main__":
    main()
