"""Compare the shipped model with others on the same held-out real faces, in one run.

    python studies/peers.py --faces FACES.npz [--model MODEL.onnx] [--recipes nouri2014=RUN naimishnet=RUN] [--cache FOLDER] [--out results/deploy/peers.json]

FACES.npz is split by split_by_group(faces, 0.2, 0); the models are scored on the test set. The shipped model was not trained on
the test set of HELEN and AFW; for other files, pass a model that was not trained on theirs as --model. MediaPipe's face_landmark.tflite is read from PyPI's wheel of mediapipe
0.10.14, which is downloaded (`pip download --no-deps`) and never installed. Its input is padded by 16 px. For each of the fifteen keypoints, the best
fitting of its 468 points is chosen on the training set, and a constant offset measured there is removed.
The recipes are .keras files or folders of runs on the training set (`facekp train --model nouri2014 --labels truth --augment 12 --profile full
--data FACES.npz --out RUN`, seven minutes); they are timed as ONNX. Times are per face on one core, with models in turn; the record contains numbers only. Needs: make dev
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", OMP_NUM_THREADS="1")

import cv2
import numpy as np

from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.errors import UserError
from facekp.evaluation import compare_paired, evaluate_points
from facekp.faces import hash_faces
from facekp.inference.keypoint_model import load_keypoint_model
from facekp.inference.session import DEFAULT_MODEL
from facekp.keypoints import IMAGE_SIZE, KEYPOINTS, MEAN_FACE
from facekp.metrics import rmse

WHEEL, FILE = "mediapipe==0.10.14", "mediapipe/modules/face_landmark/face_landmark.tflite"
BORDER, SIDE = 16, 192
RIGHT_EYE = [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246]
LEFT_EYE = [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466]
CANDIDATES = {  # keypoint -> candidate lists of MediaPipe's points; the mean of a list is used
    "left_eye_center": [LEFT_EYE, [263, 362]], "right_eye_center": [RIGHT_EYE, [33, 133]],
    "left_eye_inner_corner": [[362], [398, 382]], "left_eye_outer_corner": [[263], [466, 249]],
    "right_eye_inner_corner": [[133], [173, 155]], "right_eye_outer_corner": [[33], [246, 7]],
    "left_eyebrow_inner_end": [[336], [285], [336, 285], [336, 296]], "left_eyebrow_outer_end": [[300], [276], [300, 276], [383]],
    "right_eyebrow_inner_end": [[107], [55], [107, 55], [107, 66]], "right_eyebrow_outer_end": [[70], [46], [70, 46], [156]],
    "nose_tip": [[1], [4], [1, 4], [1, 2]], "mouth_left_corner": [[291], [308], [291, 308]], "mouth_right_corner": [[61], [78], [61, 78]],
    "mouth_center_top_lip": [[0], [11], [0, 11], [12], [13]], "mouth_center_bottom_lip": [[17], [16], [15], [16, 17], [14]],
}


def fetch_mediapipe(cache: Path) -> bytes:
    "Read MediaPipe's model file from the wheel in the cache; download the wheel if it is missing."
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob("mediapipe-0.10.14-*.whl")):
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", "3.11",
                        "--dest", str(cache), WHEEL], check=True)
    with zipfile.ZipFile(next(cache.glob("mediapipe-0.10.14-*.whl"))) as wheel:
        return wheel.read(FILE)


def open_mediapipe(content: bytes) -> Callable:
    "Return a function from faces [N,96,96] to all 468 points [N,468,2], in pixels of the face."
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    takes, gives = interpreter.get_input_details()[0]["index"], max(interpreter.get_output_details(), key=lambda output: np.prod(output["shape"]))["index"]
    scale = SIDE / (IMAGE_SIZE + 2 * BORDER)

    def predict(images: np.ndarray) -> np.ndarray:
        points = []
        for image in images:
            padded = cv2.copyMakeBorder(image, *[BORDER] * 4, cv2.BORDER_REPLICATE)
            large = cv2.resize(padded, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
            interpreter.set_tensor(takes, np.repeat(large[None, ..., None].astype(np.float32) / 255, 3, axis=3))
            interpreter.invoke()
            points.append(interpreter.get_tensor(gives).reshape(468, 3)[:, :2].copy())
        return (np.array(points) + 0.5) / scale - 0.5 - BORDER

    return predict


def open_points(model: str | Path) -> Callable:
    "Return a function from faces [N,96,96] to the fifteen keypoints, with ONNX Runtime on one core."
    opened = load_keypoint_model(model, threads=1)
    return lambda images: opened.predict(images)[0]


def take_points(mesh: Callable, chosen: list, offsets: np.ndarray) -> Callable:
    "Return a function from faces to the fifteen keypoints, computed from MediaPipe's points."
    def predict(images: np.ndarray) -> np.ndarray:
        found = mesh(images)
        return np.stack([found[:, rows].mean(axis=1) for rows in chosen], axis=1) + offsets

    return predict


def map_points(mesh: np.ndarray, points: np.ndarray) -> tuple[list, np.ndarray]:
    "Choose the best fitting candidate for each keypoint on training faces; return it with its constant offset [15,2]."
    chosen, offsets = [], []
    for k, keypoint in enumerate(KEYPOINTS):
        off = [np.nanmean(points[:, k] - mesh[:, candidate].mean(axis=1), axis=0) for candidate in CANDIDATES[keypoint]]
        errors = [np.nanmean((mesh[:, candidate].mean(axis=1) + o - points[:, k]) ** 2) for candidate, o in zip(CANDIDATES[keypoint], off)]
        best = int(np.argmin(errors))
        chosen.append(CANDIDATES[keypoint][best])
        offsets.append(off[best])
    return chosen, np.array(offsets)


def time_in_turns(models: dict, image: np.ndarray, turns: int = 100, faces: int = 5) -> dict:
    "Return median and best milliseconds per face, with models in turn; the first face after a change of model is not timed, because caches are cold."
    times = {name: [] for name in models}
    for _ in range(turns):
        for name, predict in models.items():
            for face in range(faces):
                started = time.perf_counter()
                predict(image)
                if face > 0:
                    times[name].append((time.perf_counter() - started) * 1e3)
    return {name: {"median_ms": float(np.median(values)), "best_ms": float(np.min(values))} for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True)
    parser.add_argument("--model", type=Path, help="score this .onnx file instead of the shipped model")
    parser.add_argument("--recipes", nargs="*", default=[], metavar="NAME=RUN")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "facekp" / "peers")
    parser.add_argument("--out", type=Path, default=Path("results/deploy/peers.json"))
    options = parser.parse_args()
    train, test = split_by_group(load_faces(options.faces), 0.2, 0)
    models, sizes, loads, notes = {}, {}, {}, {}

    def add(name: str, load: Callable, size: int) -> None:
        started = time.perf_counter()
        models[name], sizes[name] = load(), size
        loads[name] = (time.perf_counter() - started) * 1e3

    own = options.model or DEFAULT_MODEL
    add("facekp default", lambda: open_points(own), own.stat().st_size)
    notes["facekp default"] = {"held_out": options.model is not None} | {key: value for key, value in load_keypoint_model(own).metadata.items() if key != "calibration"}
    content = fetch_mediapipe(options.cache)
    add("MediaPipe face_landmark", lambda: open_mediapipe(content), len(content))
    mesh = models["MediaPipe face_landmark"]
    chosen, offsets = map_points(mesh(train.images), train.points)
    models["MediaPipe face_landmark"] = take_points(mesh, chosen, offsets)
    notes["MediaPipe face_landmark"] = {"wheel": WHEEL, "file": FILE, "sha256": hashlib.sha256(content).hexdigest(), "points": dict(zip(KEYPOINTS, chosen)),
                                        "offsets": {k: np.round(o, 2).tolist() for k, o in zip(KEYPOINTS, offsets)}}
    with tempfile.TemporaryDirectory() as folder:
        for recipe in options.recipes:
            name, _, run = recipe.partition("=")
            if not run:
                raise UserError(f"--recipes {recipe}: expected NAME=RUN")
            from facekp.experiments.record import read_record
            from facekp.export.formats import export_network
            from facekp.models.files import load_model

            path = export_network(load_model(run), Path(folder) / f"{name}.onnx", weights="float32")
            run_record = read_record(Path(run) / "record.json") if Path(run).is_dir() else None
            notes[name] = run_record and {"labels": run_record.labels, "augment": run_record.augment, "images_shown": run_record.images_shown, "seed": run_record.seed, "seconds": round(run_record.seconds),
                                    **{key: value for key, value in run_record.data.items() if key.startswith("n_") or key == "gaps"}}
            add(name, lambda path=path: open_points(path), path.stat().st_size)
        mean = np.nanmean(train.points, axis=0)
        models["mean face"], sizes["mean face"], loads["mean face"] = lambda images: np.tile(mean, (len(images), 1, 1)), MEAN_FACE.nbytes, 0.0
        times = time_in_turns({name: predict for name, predict in models.items() if name != "mean face"}, test.images[:1])
        predicted = {name: predict(test.images).astype(np.float32) for name, predict in models.items()}
    rows = {}
    for name, points in predicted.items():
        scores = evaluate_points(points, test.points, test.group)
        by_source = {str(source): rmse(points[test.source == source], test.points[test.source == source]) for source in np.unique(test.source)}
        rows[name] = {"rmse": scores["rmse"], "interval": scores["intervals"]["rmse"], "by_source": by_source, "keypoints": scores["per_point"],
                      "bytes": sizes[name], "load_ms": loads[name], **times.get(name, {"median_ms": 0.0, "best_ms": 0.0}), "notes": notes.get(name) or {}}
        if name != "facekp default":
            rows[name]["against_default"] = compare_paired(points, predicted["facekp default"], test.points, test.group)
    from facekp.experiments.measurement import write_measurement

    recipes = " ".join(recipe.partition("=")[0] + "=RUN" for recipe in options.recipes)
    write_measurement(options.out, {"models": rows}, f"python studies/peers.py --faces {Path(options.faces).name}{' --model HELD_OUT.onnx' if options.model else ''}{f' --recipes {recipes}' if recipes else ''}",
                      {"name": test.name, "sha256": hash_faces(test), "faces": len(test), "part": "held out by group", "train_faces": len(train)})
    print(f"{len(test)} held-out faces of {test.name}\n{'model':<24} {'RMSE px':>8} {'95% interval':>13} {'kB':>7} {'median ms':>10} {'best ms':>8} {'load ms':>8}")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["rmse"]):
        low, high = row["interval"]
        print(f"{name:<24} {row['rmse']:>8.3f} {f'{low:.2f}-{high:.2f}':>13} {row['bytes'] / 1e3:>7.1f} {row['median_ms']:>10.2f} {row['best_ms']:>8.2f} "
              f"{row['load_ms']:>8.1f}")


if __name__ == "__main__":
    main()
