"""Measure how the two annotation sources of Kaggle's label table differ, and a bound on the precision of labels.

python studies/source_conventions.py --labels training.csv [--out results/source_conventions/meta.json]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from facekp.annotation_sources import find_source_cut
from facekp.conventions import LIP_TO_LIP, NOSE_TO_LIP, to_second_convention
from facekp.eda import eye_coordinates
from facekp.experiments.measurement import write_measurement
from facekp.files import hash_file
from facekp.keypoints import COLUMNS, KEYPOINTS
from facekp.label_errors import find_suspects

NOSE, TOP_LIP, BOTTOM_LIP = (KEYPOINTS.index(name) for name in ("nose_tip", "mouth_center_top_lip", "mouth_center_bottom_lip"))


def robust_deviation(values: np.ndarray) -> float:
    "Return a standard deviation from medians, which is robust to a few wrong labels."
    return float(1.4826 * np.nanmedian(np.abs(values - np.nanmedian(values))))


def describe(points: np.ndarray, usual: np.ndarray) -> dict:
    "Return mean positions and variation of a source's eyes, nose and lip; the horizontal measures exclude unusual rows."
    left, right = points[:, 0], points[:, 1]
    across, seen = left - right, eye_coordinates(points)
    distance = np.linalg.norm(across, axis=1)
    nose, lip = (seen[usual & np.isfinite(seen[:, [NOSE, BOTTOM_LIP]]).all(axis=(1, 2)), index] for index in (NOSE, BOTTOM_LIP))
    return {
        "rows": len(points), "usual_rows": int(usual.sum()),
        "eyes_middle_y": float(np.nanmean((left + right)[:, 1]) / 2), "eye_distance": float(np.nanmean(distance)),
        "nose_below_eyes": float(np.nanmean(seen[:, NOSE, 1])), "bottom_lip_below_eyes": float(np.nanmean(seen[:, BOTTOM_LIP, 1])),
        "eye_distance_deviation": robust_deviation(distance),
        "tilt_deviation_degrees": robust_deviation(np.degrees(np.arctan2(across[:, 1], across[:, 0]))),
        "nose_sideways_deviation": float(nose[:, 0].std()),
        "nose_and_lip_sideways_correlation": float(np.corrcoef(nose[:, 0], lip[:, 0])[0, 1])}


def unexplained(points: np.ndarray) -> dict:
    "Return the residual of each coordinate after linear regression on the other 14 points, as robust standard deviation in pixels."
    values = points[np.isfinite(points).all(axis=(1, 2))].reshape(-1, 30)
    left = {}
    for index, keypoint in enumerate(KEYPOINTS):
        own = [2 * index, 2 * index + 1]
        others = np.delete(values, own, axis=1)
        rest = values[:, own] - LinearRegression().fit(others, values[:, own]).predict(others)
        left[keypoint] = [robust_deviation(column) for column in rest.T]
    return left


def measure(table: Path) -> dict:
    "Measure both sources of a table."
    points = pd.read_csv(table, usecols=list(COLUMNS))[list(COLUMNS)].to_numpy(float).reshape(-1, 15, 2)
    cut = find_source_cut(points)
    first, second = points[:cut], points[cut:]
    usual = ~np.isin(np.arange(len(points)), [suspect["row"] for suspect in find_suspects(points, [cut])])
    incomplete = ~np.isfinite(first).all(axis=(1, 2))
    lips = first[:, [TOP_LIP, BOTTOM_LIP], 1]
    both = np.isfinite(lips).all(axis=1)
    return {"cut": cut,
            "moves": {"nose_to_lip": NOSE_TO_LIP, "lip_to_lip": LIP_TO_LIP},
            "first": describe(first, usual[:cut]), "second": describe(second, usual[cut:]),
            "first_as_second": describe(to_second_convention(first), usual[:cut]),
            "incomplete_rows_of_first": int(incomplete.sum()), "of_them_in_its_last_third": int(incomplete[-(-2 * cut // 3):].sum()),
            "unexplained": unexplained(first), "lips_labelled": int(both.sum()), "lips_swapped": int((lips[both, 1] < lips[both, 0]).sum()), "rows": len(points)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--labels", type=Path, required=True, help="a CSV with the 30 columns of Kaggle's training.csv")
    parser.add_argument("--out", type=Path, default=Path("results/source_conventions/meta.json"))
    options = parser.parse_args()
    measured = measure(options.labels)
    data = {"name": "kaggle labels", "rows": measured.pop("rows"), "sha256": hash_file(options.labels)}
    print(write_measurement(options.out, measured, f"python studies/source_conventions.py --labels {options.labels.name}", data).read_text())


if __name__ == "__main__":
    main()
