"""Find the blocks of different annotators in Kaggle's label table, and separate annotation convention from kind of photograph.

python studies/annotation_blocks.py training.csv [--lfpw-kaggle FILE --lfpw-300w FILE --helen-afw FILE]

The Image column of training.csv is not needed. The three .npz files contain faces in the format of `facekp.data.npz`: LFPW photographs with Kaggle's labels,
the same photographs with 300-W's labels (same `group`), and HELEN and AFW with 300-W's labels. Writes results/annotation_blocks/: change_points.csv (every change point
with at least twice the shuffled T²; `kept` marks those with at least ten times), blocks.csv and same_photographs.csv (medians in px, eyes 35 px apart) and meta.json.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from facekp.eda import eye_coordinates, find_change_points, hotelling_t2
from facekp.evaluation import rmse_by_keypoint
from facekp.experiments.measurement import write_measurement
from facekp.keypoints import COLUMNS, KEYPOINTS
from facekp.label_errors import find_suspects
from facekp.metrics import rmse
from facekp.statistics import bootstrap_statistic, confidence_interval

FOLDER = Path(__file__).parents[1] / "results" / "annotation_blocks"


def measures(points: np.ndarray) -> dict[str, np.ndarray]:
    "Return measures of each face relative to the midpoint of its eyes: {name: float [N]}, px, eyes 35 px apart."
    relative = dict(zip(KEYPOINTS, (35 * eye_coordinates(points)).transpose(1, 2, 0)))

    def half_width(name: str) -> np.ndarray:
        return (relative[f"left_{name}"][0] - relative[f"right_{name}"][0]) / 2

    top, bottom = relative["mouth_center_top_lip"][1], relative["mouth_center_bottom_lip"][1]
    return {"inner_eye_corner_x": half_width("eye_inner_corner"), "outer_eye_corner_x": half_width("eye_outer_corner"),
            "outer_brow_end_x": half_width("eyebrow_outer_end"),
            "outer_brow_end_y": (relative["left_eyebrow_outer_end"][1] + relative["right_eyebrow_outer_end"][1]) / 2,
            "nose_tip": relative["nose_tip"][1], "top_lip": top, "bottom_lip": bottom, "lip_gap": bottom - top}


def medians(points: np.ndarray) -> dict[str, float]:
    "Return the median of each measure over the faces that have it; NaN if fewer than half do."
    return {name: float(np.nanmedian(values)) if np.isfinite(values).mean() > 0.5 else np.nan for name, values in measures(points).items()}


def load(path: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {"points": file["points"].astype(float), "group": file["group"]}


def pairs_of(kaggle: dict, other: dict) -> np.ndarray:
    "Return row numbers [P,2] of the photographs in both sets; photographs with several faces are left out."
    rows = [{group: row for row, group in enumerate(part["group"]) if (part["group"] == group).sum() == 1} for part in (kaggle, other)]
    return np.array([(row, rows[1][group]) for group, row in rows[0].items() if group in rows[1]])


def same_photographs(kaggle: dict, other: dict, elsewhere: dict) -> tuple[pd.DataFrame, dict]:
    "Compare two annotators on the same photographs, and one annotator on different photographs."
    pairs = pairs_of(kaggle, other)
    table = pd.DataFrame([{"labels": "kaggle on LFPW", "faces": len(pairs), **medians(kaggle["points"][pairs[:, 0]])},
                          {"labels": "300-W on LFPW", "faces": len(pairs), **medians(other["points"][pairs[:, 1]])},
                          {"labels": "300-W on HELEN and AFW", "faces": len(elsewhere["points"]), **medians(elsewhere["points"])}])
    gap = measures(kaggle["points"][pairs[:, 0]])["lip_gap"] - measures(other["points"][pairs[:, 1]])["lip_gap"]
    gap = gap[np.isfinite(gap)]
    draws = np.median(np.random.default_rng(0).choice(gap, (2000, len(gap))), axis=1)
    return table, {"pairs": len(gap), "lip_gap_difference": float(np.median(gap)), "ci95": np.quantile(draws, [0.025, 0.975]).tolist()}


def align_to(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    "Map each face by the similarity that brings its points closest to those of the target; both complete, [N,15,2] px."
    a, b = (array[..., 0] + 1j * array[..., 1] for array in (points, target))
    a0, b0 = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    factor = (a0.conj() * b0).sum(axis=1, keepdims=True) / (np.abs(a0) ** 2).sum(axis=1, keepdims=True)
    mapped = factor * a0 + b.mean(axis=1, keepdims=True)
    return np.stack([mapped.real, mapped.imag], axis=2)


def disagreement(kaggle: dict, other: dict) -> pd.DataFrame:
    """Measure the distance between two annotators per keypoint on the same photographs, px of Kaggle's images: constant offset, RMSE with it, and without it.

    The faces are aligned by a similarity per photograph, which hides what all points share, so the numbers are lower bounds."""
    pairs = pairs_of(kaggle, other)
    first, second = kaggle["points"][pairs[:, 0]], other["points"][pairs[:, 1]]
    complete = np.isfinite(first).all(axis=(1, 2)) & np.isfinite(second).all(axis=(1, 2))
    difference = first[complete] - align_to(second[complete], first[complete])

    def errors(values: np.ndarray) -> np.ndarray:
        "Return the RMSE of each keypoint, and of all together [16]."
        return np.append(rmse_by_keypoint(values, np.zeros_like(values)), rmse(values, np.zeros_like(values)))

    def errors_without_offset(values: np.ndarray) -> np.ndarray:
        return errors(values - np.median(values, axis=0))

    table = pd.DataFrame({"keypoint": [*KEYPOINTS, "all"], "photographs": len(difference)})
    table[["offset_x", "offset_y"]] = [*np.median(difference, axis=0), [np.nan, np.nan]]
    for names, statistic in ((("rmse", "low", "high"), errors), (("rmse_without_offset", "without_low", "without_high"), errors_without_offset)):
        table[names[0]] = statistic(difference)
        table[list(names[1:])] = [confidence_interval(column) for column in bootstrap_statistic(difference, statistic).T]
    return table


def moved(points: np.ndarray, edges: list[int]) -> pd.DataFrame:
    "Measure at each cut which points move, and by how much: differences of medians in px with 95% bootstrap intervals over rows."
    rows, rng = [], np.random.default_rng(0)
    for start, cut, stop in zip(edges, edges[1:], edges[2:]):
        before, after = measures(points[start:cut]), measures(points[cut:stop])
        for name in before:
            sides = [values[name][np.isfinite(values[name])] for values in (before, after)]
            if min(map(len, sides)) >= 50:
                drawn = [np.median(rng.choice(side, (1000, len(side))), axis=1) for side in sides]
                low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975])
                rows.append({"cut": cut, "measure": name, "moved": np.median(sides[1]) - np.median(sides[0]), "low": low, "high": high})
    return pd.DataFrame(rows)


def place_of_cut(points: np.ndarray, start: int, cut: int, stop: int, draws: int = 200) -> list[int]:
    "Return the 95% interval of a cut's row: both sides resampled in their order, and the largest T² looked for again."
    values, rows = comparable(points[start:stop])
    edge, rng, found = int((rows + start < cut).sum()), np.random.default_rng(0), []
    for _ in range(draws):
        drawn = np.concatenate([np.sort(rng.integers(0, edge, edge)), np.sort(rng.integers(edge, len(rows), len(rows) - edge))])
        best = 50 + int(hotelling_t2(values[drawn])[49:-50].argmax())
        found.append(start + int(rows[drawn[min(best, len(drawn) - 1)]]))
    return np.quantile(found, [0.025, 0.975]).round().astype(int).tolist()


def comparable(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Return the coordinates that nearly all rows have, winsorised at 1%, and the rows that have them, as find_change_points compares them."
    values = 35 * eye_coordinates(points)[:, 2:].reshape(len(points), -1)
    values = values[:, np.isfinite(values).mean(axis=0) > 0.9]
    rows = np.flatnonzero(np.isfinite(values).all(axis=1))
    return np.clip(values[rows], *np.quantile(values[rows], [0.01, 0.99], axis=0)), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    for name in ("--lfpw-kaggle", "--lfpw-300w", "--helen-afw"):
        parser.add_argument(name)
    options = parser.parse_args()
    points = pd.read_csv(options.table, usecols=list(COLUMNS))[list(COLUMNS)].to_numpy(float).reshape(-1, 15, 2)
    kept = find_change_points(points)
    FOLDER.mkdir(parents=True, exist_ok=True)
    # the stricter search first: the lesson quotes its blocks and its T²
    weaker = [change for change in find_change_points(points, margin=2) if change.row not in {cut.row for cut in kept}]
    cuts = pd.DataFrame([(*change, change in kept) for change in sorted(kept + weaker)], columns=["row", "t2", "shuffled", "kept"])
    bounds = [0, *(change.row for change in kept), len(points)]
    places = {cut: place_of_cut(points, start, cut, stop) for start, cut, stop in zip(bounds, bounds[1:], bounds[2:])}
    cuts["low"], cuts["high"] = ([places.get(row, (pd.NA, pd.NA))[end] for row in cuts.row] for end in (0, 1))
    cuts.round(1).to_csv(FOLDER / "change_points.csv", index=False)
    edges = [0, *(change.row for change in kept), len(points)]
    moved(points, edges).round(2).to_csv(FOLDER / "moved.csv", index=False)
    pd.DataFrame([{"start": start, "stop": stop, **medians(points[start:stop])}
                  for start, stop in zip(edges, edges[1:])]).round(2).to_csv(FOLDER / "blocks.csv", index=False)
    data = {"name": "kaggle labels", "sha256": hashlib.sha256(Path(options.table).read_bytes()).hexdigest(), "rows": len(points)}
    meta = {"margin": 10, "shuffles": 30, "min_rows": 100, "seed": 0}
    meta["suspects"] = {f"{len(cuts) + 1} blocks": len(find_suspects(points, cuts)) for cuts in ([2284], edges[1:-1])}
    quartiles = np.quantile(points[np.isfinite(points).all(axis=(1, 2))][:, :, 1], [0.25, 0.75], axis=0)
    meta["complete_sd_y"] = ((quartiles[1] - quartiles[0]) / 1.349).round(3).tolist()  # robust: from the quartiles
    if options.lfpw_kaggle:
        table, meta["same_photographs"] = same_photographs(load(options.lfpw_kaggle), load(options.lfpw_300w), load(options.helen_afw))
        table.round(2).to_csv(FOLDER / "same_photographs.csv", index=False)
        disagreement(load(options.lfpw_kaggle), load(options.lfpw_300w)).round(3).to_csv(FOLDER / "disagreement.csv", index=False)
    write_measurement(FOLDER / "meta.json", meta, f"python studies/annotation_blocks.py {Path(options.table).name}", data)


if __name__ == "__main__":
    main()
