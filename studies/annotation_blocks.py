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

from facekp.eda import eye_coordinates, find_change_points
from facekp.files import write_json
from facekp.keypoints import COLUMNS, KEYPOINTS
from facekp.label_errors import find_suspects

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


def same_photographs(kaggle: dict, other: dict, elsewhere: dict) -> tuple[pd.DataFrame, dict]:
    "Compare two annotators on the same photographs, and one annotator on different photographs."
    rows = [{group: row for row, group in enumerate(part["group"]) if (part["group"] == group).sum() == 1} for part in (kaggle, other)]
    pairs = np.array([(row, rows[1][group]) for group, row in rows[0].items() if group in rows[1]])  # photographs with a single face
    table = pd.DataFrame([{"labels": "kaggle on LFPW", "faces": len(pairs), **medians(kaggle["points"][pairs[:, 0]])},
                          {"labels": "300-W on LFPW", "faces": len(pairs), **medians(other["points"][pairs[:, 1]])},
                          {"labels": "300-W on HELEN and AFW", "faces": len(elsewhere["points"]), **medians(elsewhere["points"])}])
    gap = measures(kaggle["points"][pairs[:, 0]])["lip_gap"] - measures(other["points"][pairs[:, 1]])["lip_gap"]
    gap = gap[np.isfinite(gap)]
    draws = np.median(np.random.default_rng(0).choice(gap, (2000, len(gap))), axis=1)
    return table, {"pairs": len(gap), "lip_gap_difference": float(np.median(gap)), "ci95": np.quantile(draws, [0.025, 0.975]).tolist()}


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
    cuts.round(1).to_csv(FOLDER / "change_points.csv", index=False)
    edges = [0, *(change.row for change in kept), len(points)]
    pd.DataFrame([{"start": start, "stop": stop, **medians(points[start:stop])}
                  for start, stop in zip(edges, edges[1:])]).round(2).to_csv(FOLDER / "blocks.csv", index=False)
    meta = {"schema": 1, "table_sha256": hashlib.sha256(Path(options.table).read_bytes()).hexdigest(), "rows": len(points),
            "margin": 10, "shuffles": 30, "min_rows": 100, "seed": 0, "versions": {"numpy": np.__version__, "pandas": pd.__version__}}
    meta["suspects"] = {f"{len(cuts) + 1} blocks": len(find_suspects(points, cuts)) for cuts in ([2284], edges[1:-1])}
    quartiles = np.quantile(points[np.isfinite(points).all(axis=(1, 2))][:, :, 1], [0.25, 0.75], axis=0)
    meta["complete_sd_y"] = ((quartiles[1] - quartiles[0]) / 1.349).round(3).tolist()  # robust: from the quartiles
    if options.lfpw_kaggle:
        table, meta["same_photographs"] = same_photographs(load(options.lfpw_kaggle), load(options.lfpw_300w), load(options.helen_afw))
        table.round(2).to_csv(FOLDER / "same_photographs.csv", index=False)
    write_json(FOLDER / "meta.json", meta)


if __name__ == "__main__":
    main()
