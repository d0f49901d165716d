"""Measure how long a table of Kaggle's size takes to load, and compare three parsers of it.

python benchmarks/loading.py [--labels LABELS.csv] [--rows 7049] [--turns 2] [--slow-too] [--data data] [--results results]

Loading: pandas with a split of every row, facekp, and facekp's cache. Parsing, each parser in its own process (seconds, peak memory, lines of code):
facekp's parser, the same with numpy.fromstring for each image, and pandas.read_csv with numpy.fromstring. All three report invalid rows of a table.

Without arguments, the table is the synthetic training set, which is rendered on the first run (minutes) and stored in the data folder.
--labels takes the label columns from a table of your own, such as the competition's. All times are from one run on one machine: read the ratios.
Peak memory is read from /proc, so the script needs Linux. Writes benchmarks/loading.json into the results folder.
"""
import argparse
import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from facekp.data import kaggle_table
from facekp.data.cache import CACHE_FOLDER
from facekp.data.sources import load_faces
from facekp.errors import UserError
from facekp.experiments.measurement import write_measurement
from facekp.files import hash_file
from facekp.keypoints import COLUMNS


def write_table(path: Path, points: np.ndarray, images: np.ndarray) -> None:
    "Write a training.csv."
    grey = np.array([str(value) for value in range(256)], object)
    with open(path, "w") as file:
        file.write(",".join([*COLUMNS, "Image"]) + "\n")
        file.writelines(",".join("" if np.isnan(value) else f"{value:.9g}" for value in values) + "," + " ".join(grey[image.ravel()]) + "\n"
                        for values, image in zip(points.reshape(len(points), -1).tolist(), images))


def with_pandas(path: Path) -> np.ndarray:
    "Load the images as most notebooks do, with the faster of two common expressions."
    frame = pd.read_csv(path)
    return np.stack([np.array(text.split(), dtype=np.uint8) for text in frame["Image"]])


def with_pandas_and_int(path: Path) -> np.ndarray:
    "Load the images with the slower of two common expressions."
    frame = pd.read_csv(path)
    return np.array([list(map(int, text.split())) for text in frame["Image"]], dtype=np.uint8)


def seconds_of(function, *arguments) -> tuple[float, object]:
    "Time one call."
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def measure(path: Path, turns: int, ways: dict) -> dict[str, list[float]]:
    "Time each loading method; methods take turns, so that other load affects all of them."
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
                raise SystemExit(f"{name}: images differ from those of facekp")
    return seconds


def parse_digits(text: bytes) -> np.ndarray | None:
    "Parse an image with numpy.fromstring; return None unless it consists of 9,216 numbers from 0 to 255, written with digits and spaces only."
    if text.translate(None, b"0123456789 "):
        return None
    values = np.fromstring(text, np.int64, sep=" ")
    return values.astype(np.uint8) if values.size == kaggle_table.IMAGE_VALUES and values.max() <= 255 else None


def parse_each_image(texts: list[bytes], first_row: int, problems: list[str], pool: object) -> np.ndarray:
    "Parse images one by one; images with other characters are passed to facekp's slower parser, which reports errors."
    parsed = [parse_digits(text) for text in texts]
    return np.stack([image if image is not None else kaggle_table._parse_with_care([text], first_row + row, problems)[0]
                     for row, (text, image) in enumerate(zip(texts, parsed))])


def read_facekp(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    "Read a table with facekp's parser."
    with open(path, "rb") as file:
        return kaggle_table.read_table(file, COLUMNS, path.name)


def read_fromstring(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    "Read a table with facekp's parser, with numpy.fromstring for the images."
    kaggle_table._parse_images = parse_each_image
    return read_facekp(path)


def read_pandas(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    "Read a table with pandas.read_csv and numpy.fromstring; use facekp's row-by-row parser for irregular tables."
    try:
        frame = pd.read_csv(path, usecols=[*COLUMNS, "Image"], dtype=dict.fromkeys(COLUMNS, float))
        images = [parse_digits(text.encode()) for text in frame["Image"]]
    except (ValueError, AttributeError):
        return read_fromstring(path)
    if any(image is None for image in images):
        return read_fromstring(path)
    return frame[list(COLUMNS)].to_numpy(), np.stack(images).reshape(-1, 96, 96), []


DIAGNOSIS = ("_parse_one_image", "_parse_with_care", "_read_header", "_blocks", "_split_line", "_read_numbers", "_as_number", "read_table")
PARSERS = {  # name -> reader, and the functions that it needs in addition to DIAGNOSIS
    "facekp": (read_facekp, [kaggle_table._numbers_of_triples, kaggle_table._parse_block, kaggle_table._parse_images]),
    "facekp, numpy.fromstring": (read_fromstring, [parse_digits, parse_each_image]),
    "pandas.read_csv, numpy.fromstring": (read_pandas, [parse_digits, read_pandas]),
}


def code_lines(functions: list) -> int:
    "Count the lines of functions without comments, docstrings and line breaks within statements."
    count = 0
    for function in functions:
        node = ast.parse(inspect.getsource(function)).body[0]
        node.body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        count += len(ast.unparse(node).splitlines())
    return count


def parse_alone(name: str, path: Path) -> None:
    "Parse a table in this process; print seconds, CPU seconds, peak memory and hashes of the result as JSON."
    read, cpu = PARSERS[name][0], time.process_time()
    seconds, (numbers, images, problems) = seconds_of(read, path)
    cpu = time.process_time() - cpu
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak, "problems": len(problems),
                      "read": [float(np.nansum(numbers.astype(np.float32), dtype=np.float64)), int(images.sum(dtype=np.int64)), list(images.shape)]}))


def measure_parsers(path: Path, turns: int) -> dict[str, dict[str, object]]:
    "Measure each parser in a new process per turn; parsers take turns."
    taken = {name: [] for name in PARSERS}
    for _ in range(turns):
        for name, runs in taken.items():
            done = subprocess.run([sys.executable, __file__, "--parser", name, str(path)], check=True, stdout=subprocess.PIPE, text=True)
            runs.append(json.loads(done.stdout))
    results = {tuple(map(str, run["read"])) for runs in taken.values() for run in runs}
    if len(results) > 1 or any(run["problems"] for runs in taken.values() for run in runs):
        raise SystemExit(f"the parsers read different tables: {results}")
    kept = [getattr(kaggle_table, name) for name in DIAGNOSIS]
    return {name: {"seconds": [run["seconds"] for run in runs], "cpu_seconds": [run["cpu_seconds"] for run in runs],
                   "peak_mb": [round(run["peak_mb"]) for run in runs],
                   "code_lines": code_lines(PARSERS[name][1]), "code_lines_with_diagnosis": code_lines([*PARSERS[name][1], *kept])}
            for name, runs in taken.items()}


def print_results(seconds: dict[str, list[float]], parsers: dict[str, dict[str, object]]) -> None:
    "Print the best time of each loading method, and each parser's time, memory and lines of code."
    for name, values in seconds.items():
        print(f"{name:35} {min(values):8.3f} s   {min(seconds['pandas, split']) / min(values):7.1f} times as fast as pandas with split")
    for name, found in parsers.items():
        print(f"{name:35} {min(found['seconds']):8.3f} s, {min(found['cpu_seconds']):.3f} s of CPU, peak {max(found['peak_mb'])} MB, "
              f"{found['code_lines']} lines, with diagnosis {found['code_lines_with_diagnosis']}")


def write_record(path: Path, data: dict, seconds: dict[str, list[float]], parsers: dict[str, dict[str, object]]) -> None:
    "Write the measurements."
    best = {name: min(values) for name, values in seconds.items()}
    write_measurement(path, {
        "seed": 0, "seconds_of_each": seconds, "best_seconds": best,
        "times_as_fast": {name: best["pandas, split"] / best[name] for name in best}, "parsers": parsers,
        "protocol": "one run; ways of loading take turns; the file is in the system's file cache for all of them; the best time of each way counts; "
                    "parsers: a process per parser and turn, peak resident memory of the process, code lines without comments, docstrings and line breaks"},
        " ".join(["python benchmarks/loading.py", *[Path(word).name if "/" in word else word for word in sys.argv[1:]]]), data)


def main() -> None:
    "Measure, print and write the record."
    if sys.argv[1:2] == ["--parser"]:
        parse_alone(sys.argv[2], Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, help="a table with Kaggle's 30 label columns; default: the labels of the synthetic faces")
    parser.add_argument("--rows", type=int, default=7049)
    parser.add_argument("--turns", type=int, default=2, help="number of measurements per method")
    parser.add_argument("--slow-too", action="store_true", help="time list(map(int, text.split())) as well, the slower of two common ways")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the synthetic faces")
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
        parsers = measure_parsers(path, arguments.turns)
    print(f"{arguments.rows:,} rows, {size / 1e6:.0f} MB, {os.cpu_count()} cores")
    print_results(seconds, parsers)
    labels = "real labels" if arguments.labels else "synthetic labels"
    data = {"name": f"synthetic:{arguments.rows} as training.csv, {labels}", "sha256": digest, "rows": arguments.rows, "bytes": size}
    write_record(arguments.results / "benchmarks" / "loading.json", data, seconds, parsers)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error
