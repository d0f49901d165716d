"""Measure the effect of forward fill on Kaggle's label table in its original order.

python studies/forward_fill.py training.csv writes results/forward_fill/meta.json. The Image column of training.csv is not needed.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from facekp.conventions import FOUR_KEYPOINTS
from facekp.experiments.measurement import write_measurement
from facekp.files import hash_file
from facekp.keypoints import COLUMNS, KEYPOINTS

RECORD = Path(__file__).parents[1] / "results" / "forward_fill" / "meta.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    table = parser.parse_args().table
    values = pd.read_csv(table, usecols=list(COLUMNS))[list(COLUMNS)].to_numpy(float)
    missing = np.isnan(values)
    donors = np.maximum.accumulate(np.where(missing, -1, np.arange(len(values))[:, None]), axis=0)
    hidden = np.repeat(~np.isin(KEYPOINTS, FOUR_KEYPOINTS), 2)
    received = [donors[missing[:, column], column] for column in np.flatnonzero(hidden)]
    donor = int(np.bincount(np.concatenate(received)).argmax())
    complete = values[~missing.any(axis=1)][:, hidden]
    rmse = np.array([np.sqrt(((complete - face) ** 2).mean()) for face in complete])
    counts = {int((rows == donor).sum()) for rows in received}
    assert len(counts) == 1, "the donor fills the same rows in all eleven keypoints"
    shares = [float((rows == donor).mean()) for rows in received]
    write_measurement(RECORD, {"donor": donor, "rows": counts.pop(), "share": [min(shares), max(shares)],
                               "rmse": float(np.sqrt(((complete - values[donor, hidden]) ** 2).mean())), "lowest": float(rmse.min()), "median": float(np.median(rmse)),
                               "highest": float(rmse.max()), "protocol": "the donor's values of eleven keypoints against those of all complete rows, RMSE in px"},
                      f"python studies/forward_fill.py {Path(table).name}", {"name": "kaggle labels", "sha256": hash_file(table), "rows": len(values)})


if __name__ == "__main__":
    main()
