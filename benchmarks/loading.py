"""Measure how long a table of Kaggle's size takes to load: with pandas and a split of every row, with facekp, and again with facekp.

python benchmarks/loading.py [--labels LABELS.csv] [--rows 7049] [--turns 2] [--slow-too] [--data data] [--results results]

Without arguments the table holds the drawn training set, which is drawn on the first run (minutes) and kept in the data folder.
--labels takes the label columns from a table of your own, such as the competition's. All times are from one run on one machine: read the ratios.
Writes benchmarks/loading.json into the results folder.
"""
import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from facekp.data.cache import CACHE_FOLDER
from facekp.data.sources import load_faces
from facekp.errors import UserError
from facekp.files import hash_file, write_json
from facekp.keypoints import COLUMNS


def write_table(path: Path, points: np.ndarray, images: np.ndarray) -> None:
    "Write a training.csv."
    grey = np.array([str(value) for value in range(256)], object)
    with open(path, "w") as file:
        file.write(",".join([*COLUMNS, "Image"]) + "\n")
        file.writelines(",".join("" if np.isnan(value) else f"{value:.9g}" for value in values) + "," + " ".join(grey[image.ravel()]) + "\n"
                        for values, image in zip(points.reshape(len(points), -1).tolist(), images))


def with_pandas(path: Path) -> np.ndarray:
    "Load the pictures as most notebooks do, in the quicker of two common ways."
    frame = pd.read_csv(path)
    return np.stack([np.array(text.split(), dtype=np.uint8) for text in frame["Image"]])


def with_pandas_and_int(path: Path) -> np.ndarray:
    "Load the pictures in the other common way."
    frame = pd.read_csv(path)
    return np.array([list(map(int, text.split())) for text in frame["Image"]], dtype=np.uint8)


def seconds_of(function, *arguments) -> tuple[float, object]:
    "Time one call."
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def measure(path: Path, turns: int, ways: dict) -> dict[str, list[float]]:
    "Time each way of loading; ways take turns, so that a busy moment hits them all."
    seconds = {name: [] for name in (*ways, "facekp, first time", "facekp, from the cache")}
    for _ in range(turns):
        shutil.rmtree(path.parent / CACHE_FOLDER, ignore_errors=True)
        taken, faces = seconds_of(load_faces, path)
        seconds["facekp, first time"].append(taken)
        for _ in range(5):
            taken, again = seconds_of(load_faces, path)
            seconds["facekp, from the cache"].append(taken)
        for name, function in ways.items():
            taken, images = seconds_of(function, path)
            seconds[name].append(taken)
            if not (images.reshape(faces.images.shape) == faces.images).all() or not (again.images == faces.images).all():
                raise SystemExit(f"{name}: other pictures than facekp's")
    return seconds


def main() -> None:
    "Measure, print and write."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, help="a table with Kaggle's 30 label columns; else the drawn faces' own labels")
    parser.add_argument("--rows", type=int, default=7049)
    parser.add_argument("--turns", type=int, default=2, help="how often each way takes its turn")
    parser.add_argument("--slow-too", action="store_true", help="time list(map(int, text.split())) as well, the slower of two common ways")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the drawn faces are kept")
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    faces = load_faces(f"synthetic:{arguments.rows}", data_folder=arguments.data)
    points = faces.points
    if arguments.labels:
        points = pd.read_csv(arguments.labels, usecols=list(COLUMNS))[list(COLUMNS)].to_numpy()[:arguments.rows]
        if len(points) != len(faces):
            raise UserError(f"{arguments.labels}: has {len(points)} rows, expected at least {len(faces)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.csv"
        write_table(path, points, faces.images)
        size, digest = path.stat().st_size, hash_file(path)
        ways = {"pandas, split": with_pandas} | ({"pandas, split and int": with_pandas_and_int} if arguments.slow_too else {})
        seconds = measure(path, arguments.turns, ways)
    best = {name: min(values) for name, values in seconds.items()}
    ratios = {name: best["pandas, split"] / best[name] for name in best}
    print(f"{arguments.rows:,} rows, {size / 1e6:.0f} MB, {os.cpu_count()} cores")
    for name, taken in best.items():
        print(f"{name:25} {taken:8.3f} s   {ratios[name]:7.1f} times as fast as pandas with split")
    labels = "real labels" if arguments.labels else "drawn labels"
    write_json(arguments.results / "benchmarks" / "loading.json", {
        "data": {"name": f"synthetic:{arguments.rows} as training.csv, {labels}", "sha256": digest, "rows": arguments.rows, "bytes": size},
        "seed": 0, "seconds": seconds, "best_seconds": best, "times_as_fast": ratios,
        "protocol": "one run; ways of loading take turns; the file is in the system's file cache for all of them; the best time of each way counts",
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("numpy", "pandas", "facekp")},
        "command": " ".join(["python benchmarks/loading.py", *[Path(word).name if "/" in word else word for word in sys.argv[1:]]])})


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error
