"""Measure on a real label table what synthetic faces cannot show: the errors of imputers, and the 'accuracy' of a constant prediction.

python studies/label_table.py LABELS.csv [--seeds 10] [--results results]

LABELS.csv is the competition's training.csv, with or without its Image column. Writes kaggle_labels/imputers.json and
kaggle_labels/accuracy.json into the results folder and prints both.
"""
import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from facekp.errors import UserError
from facekp.experiments.imputation import score_imputers, score_source_mix
from facekp.experiments.measurement import write_measurement
from facekp.files import hash_file
from facekp.impute import forward_fill
from facekp.keypoints import COLUMNS
from facekp.metrics import keras_accuracy, rmse

HELD_OUT = 400


def read_points(path: Path) -> np.ndarray:
    "Read the 30 label columns of a table as float64 [N,15,2]."
    try:
        table = pd.read_csv(path, usecols=list(COLUMNS))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}; expected a CSV with the competition's 30 label columns") from error
    return table[list(COLUMNS)].to_numpy(np.float64).reshape(-1, len(COLUMNS) // 2, 2)


def summary(values: list[float]) -> dict:
    "Return mean, standard deviation over seeds, and all values, in pixels."
    return {"mean": np.mean(values), "sd": np.std(values, ddof=1) if len(values) > 1 else None, "each": values}


def forward_fill_in_table_order(points: np.ndarray, seed: int) -> float:
    "Return the error of forward fill with rows in the order of the table, in pixels."
    complete = points[np.isfinite(points).all(axis=(1, 2))]
    rows = np.random.default_rng(seed).permutation(len(complete))[:HELD_OUT]
    hidden = [index for index in range(15) if index not in (0, 1, 10, 14)]
    seen = np.array(complete)
    seen[np.ix_(rows, hidden)] = np.nan
    return float(np.sqrt(((forward_fill(seen) - complete)[rows][:, hidden] ** 2).mean()))


def imputers(points: np.ndarray, seeds: list[int]) -> dict:
    "Measure the error of every imputer for several random choices of held-out faces."
    scores = [score_imputers(points, HELD_OUT, seed) for seed in seeds]
    mixed = [score_source_mix(points, HELD_OUT, seed) for seed in seeds]
    return {
        "protocol": f"complete rows of the table, {HELD_OUT} drawn by the seed and held out; of these the 22 values that the second "
                    "labelling source lacks are hidden and filled in from the remaining complete rows; RMSE in px over the hidden values; "
                    "rows in random order for forward fill",
        "rmse": {name: summary([score[name] for score in scores]) for name in scores[0]},
        "ffill_in_table_order": summary([forward_fill_in_table_order(points, seed) for seed in seeds]),
        "source_mix_protocol": "as above, with nose tip and bottom lip of the held-out rows as given (same), moved to where the second "
                               "source puts them (other), and moved with the means of the four points put right (aligned)",
        "source_mix": {name: {meaning: summary([score[name][meaning] for score in mixed]) for meaning in mixed[0][name]} for name in mixed[0]},
    }


def accuracy(points: np.ndarray) -> dict:
    "Measure 'accuracy' and RMSE of predictions that do not depend on the image, on complete rows."
    complete = points[np.isfinite(points).all(axis=(1, 2))]
    mean_face = np.repeat(complete.mean(axis=0)[None], len(complete), axis=0)
    return {
        "protocol": "complete rows of the table; the constant face is their mean",
        "constant_face": {"accuracy": keras_accuracy(mean_face, complete), "rmse": rmse(mean_face, complete)},
        "every_point_20_px_off": {"accuracy": keras_accuracy(complete + 20, complete), "rmse": rmse(complete + 20, complete)},
        "column_means_all_rows_rmse": rmse(np.repeat(np.nanmean(points, axis=0)[None], len(points), axis=0), points),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path, help="training.csv, or its label columns only")
    parser.add_argument("--seeds", type=int, default=10, help="number of random choices of held-out faces")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the records")
    options = parser.parse_args(arguments)
    try:
        points = read_points(options.labels)
        seeds = list(range(options.seeds))
        for name, measure in (("imputers", lambda: imputers(points, seeds)), ("accuracy", lambda: accuracy(points))):
            begin = time.perf_counter()
            measured = measure()
            data = {"name": "kaggle labels", "sha256": hash_file(options.labels), "rows": len(points), "complete_rows": int(np.isfinite(points).all(axis=(1, 2)).sum())}
            path = write_measurement(options.results / "kaggle_labels" / f"{name}.json", {**measured, "seeds": seeds if name == "imputers" else []},
                                     f"python studies/label_table.py {options.labels.name} --seeds {options.seeds}", data, time.perf_counter() - begin)
            print(f"{path}\n{json.dumps(json.loads(path.read_text()), indent=1)}")
    except UserError as error:
        print(f"label_table: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
