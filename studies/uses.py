"""Measure alignment, head pose and expression measures from fifteen predicted points on photographs, against labels and MediaPipe.

    python studies/uses.py --fit HELEN_AFW.npz HELEN_AFW_POSES.npz --measure LFPW.npz LFPW_POSES.npz [--out results/prediction/uses.json]

HELEN_AFW.npz and LFPW.npz contain faces in Kaggle's framing with all 15 keypoints, mapped from 300-W's 68 points; the shipped model must not have been trained on the
second. The pose files come from studies/mediapipe_pose.py. The mean head is fitted on the first pair: its three-dimensional keypoints, rotated by MediaPipe's poses and
projected, have the least squared distance to the labels. It is made symmetric and scaled to an interocular distance of 35 pixels. The script checks that
`facekp.inference.head_pose.MEAN_HEAD` is this head, rounded to one decimal. The second pair is measured: each measure of predicted points is compared with the same measure
of the labels, which are a subset of the 68 points (eye centres: means of them). The record contains numbers only.
"""
import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facekp.data.sources import load_faces
from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces, hash_faces
from facekp.files import hash_file
from facekp.geometry import to_crop
from facekp.inference.alignment import ARCFACE_KEYPOINTS, ARCFACE_SIZE, alignment_crop
from facekp.inference.expression import MEASURES
from facekp.inference.head_pose import MEAN_HEAD, head_pose
from facekp.inference.keypoint_model import load_keypoint_model
from facekp.inference.session import DEFAULT_MODEL
from facekp.keypoints import FLIP_ORDER, IMAGE_SIZE, KEYPOINTS, MEAN_FACE
from facekp.normalization import interocular_distance
from facekp.statistics import bootstrap_statistic, confidence_interval

INTEROCULAR = 35.0  # pixels, interocular distance of the mean head
ANGLES = ("yaw", "pitch", "roll")


def read_pair(faces_path: str, poses_path: str) -> tuple[Faces, np.ndarray]:
    "Return the complete faces that MediaPipe found, and their rotations [N,3,3]."
    faces = load_faces(faces_path)
    with np.load(poses_path) as file:
        rotations = file["rotation"]
    used = np.isfinite(faces.points).all(axis=(1, 2)) & np.isfinite(rotations).all(axis=(1, 2))
    return faces[used], rotations[used]


def angles_of(rotations: np.ndarray) -> np.ndarray:
    "Return yaw, pitch and roll [N,3] in degrees, in the order of head_pose."
    return np.degrees(np.stack([np.arctan2(-rotations[:, 2, 0], rotations[:, 2, 2]), np.arcsin(np.clip(rotations[:, 2, 1], -1, 1)),
                                np.arctan2(-rotations[:, 0, 1], rotations[:, 1, 1])], axis=1))


def fit_mean_head(points: np.ndarray, rotations: np.ndarray, steps: int = 50) -> np.ndarray:
    "Fit the head [15,3] whose projections are nearest to the points, by alternating least squares for scales and head."
    seen, rows = points - points.mean(axis=1, keepdims=True), rotations[:, :2]
    head = np.column_stack([MEAN_FACE - MEAN_FACE[:2].mean(axis=0), np.zeros(len(KEYPOINTS))])
    normal = np.einsum("nij,nik->jk", rows, rows)
    for _ in range(steps):
        projected = np.einsum("nij,kj->nki", rows, head - head.mean(axis=0))
        scales = (projected * seen).sum(axis=(1, 2)) / (projected**2).sum(axis=(1, 2))
        head = np.einsum("nij,nki->kj", rows, seen / scales[:, None, None]) @ np.linalg.inv(normal)
        head = (head - head[:2].mean(axis=0)) * INTEROCULAR / np.linalg.norm(head[0] - head[1])
    return (head + head[FLIP_ORDER] * [-1, 1, 1]) / 2


def interval(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> list[float]:
    "Return the 95% interval of a statistic, by bootstrap over rows."
    return [round(end, 4) for end in confidence_interval(bootstrap_statistic(values, statistic))]


def correlation(pairs: np.ndarray) -> float:
    "Return the correlation of two columns."
    return float(np.corrcoef(pairs.T)[0, 1])


def agreement(found: np.ndarray, reference: np.ndarray) -> dict:
    "Return mean absolute difference, mean difference and correlation of two measurements [N] of the same faces, with intervals."
    difference, pairs = found - reference, np.stack([found, reference], axis=1)
    return {"mean_absolute_difference": float(np.abs(difference).mean()), "mean_absolute_difference_interval": interval(np.abs(difference), np.mean),
            "constant_difference": float(difference.mean()), "correlation": correlation(pairs), "correlation_interval": interval(pairs, correlation),
            "spread": float(reference.std())}


def measure_pose(predicted: np.ndarray, faces: Faces, rotations: np.ndarray) -> list[dict]:
    "Compare the head poses from predicted points and from labels with those of MediaPipe."
    reference = angles_of(rotations)
    rows = []
    for name, points in (("predicted points", predicted), ("labels", faces.points)):
        found = np.array([head_pose(one) for one in points])
        rows += [{"angle": angle, "points": name, **agreement(found[:, column], reference[:, column])} for column, angle in enumerate(ANGLES)]
        for low, high in ((0, 15), (15, 30), (30, 90)):
            turned = (np.abs(reference[:, 0]) >= low) & (np.abs(reference[:, 0]) < high)
            if name == "predicted points" and turned.sum() >= 10:
                rows.append({"angle": f"yaw, turned {low}-{high} degrees", "points": name, "faces": int(turned.sum()), **agreement(found[turned, 0], reference[turned, 0])})
    return rows


def measure_alignment(predicted: np.ndarray, faces: Faces) -> dict:
    "Compare chips aligned by predicted points with chips aligned by labels: displacement of five labelled points, rotation and scale."
    five = [KEYPOINTS.index(name) for name in ARCFACE_KEYPOINTS]
    scale, shifts, turns, sizes = ARCFACE_SIZE / IMAGE_SIZE, [], [], []
    for found, true in zip(predicted, faces.points):
        a, b = alignment_crop(found), alignment_crop(true)
        shifts.append(np.linalg.norm(to_crop(true[five], a) - to_crop(true[five], b), axis=1).mean() * scale)
        turns.append(abs(np.degrees(np.angle(np.exp(1j * (a.angle - b.angle))))))
        sizes.append(abs(a.size / b.size - 1))
    return {"displacement_px_of_112": {"mean": float(np.mean(shifts)), "p95": float(np.percentile(shifts, 95))},
            "rotation_degrees": {"mean": float(np.mean(turns)), "p95": float(np.percentile(turns, 95))},
            "scale_share": {"mean": float(np.mean(sizes)), "p95": float(np.percentile(sizes, 95))}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", nargs=2, required=True, metavar=("FACES", "POSES"))
    parser.add_argument("--measure", nargs=2, required=True, metavar=("FACES", "POSES"))
    parser.add_argument("--out", default="results/prediction/uses.json")
    options = parser.parse_args()
    fit_faces, turned = read_pair(*options.fit)
    head = fit_mean_head(fit_faces.points.astype(float), turned)
    print("mean head:", np.round(head, 1).tolist())
    assert np.abs(head - MEAN_HEAD).max() < 0.06, "facekp.inference.head_pose.MEAN_HEAD is not the head that these faces give"
    faces, rotations = read_pair(*options.measure)
    predicted = load_keypoint_model().predict(faces.images).points
    expression = [{"measure": name, **agreement(measure(predicted), measure(faces.points))} for name, measure in MEASURES.items()]
    error = np.linalg.norm(predicted - faces.points, axis=2).mean(axis=1) / interocular_distance(faces.points)
    record = {
        "mean_head": {"data": Path(options.fit[0]).name, "faces": len(fit_faces)}, "mediapipe": "0.10.14",
        "model": {"name": "default", "sha256": hash_file(DEFAULT_MODEL), **load_keypoint_model().metadata}, "nme": float(error.mean()),
        "pose": measure_pose(predicted, faces, rotations), "expression": expression, "alignment": measure_alignment(predicted, faces)}
    data = {"name": Path(options.measure[0]).name, "sha256": hash_faces(faces), "faces": len(faces), "total": len(load_faces(options.measure[0])),
            "part": "all faces that MediaPipe finds; the model has seen none"}
    command = f"python studies/uses.py --fit {' '.join(Path(name).name for name in options.fit)} --measure {' '.join(Path(name).name for name in options.measure)}"
    write_measurement(options.out, record, command, data)
    for row in record["pose"] + expression:
        print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
    print(record["alignment"], record["nme"])


if __name__ == "__main__":
    main()
