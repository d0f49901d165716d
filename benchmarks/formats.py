"""Compare every export format of a trained network with Keras on real faces, each in its own runtime with one thread.

    python benchmarks/formats.py --model MODEL.keras --faces FACES.npz [--count 200] [--out results/deploy/formats.json]

FACES.npz is split by split_by_group(faces, 0.2, 0): formats are compared on --count faces of the test set, and the int8 formats are calibrated on
500 faces of the rest. Every format runs in its own process, where TensorFlow's thread counts are set to one as well. The formats take turns, so that
other load on the machine affects all equally. Times are the best and the median wall-clock time of a call over all turns.
The record contains numbers only, no images. Needs: make dev
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", OMP_NUM_THREADS="1")  # before TensorFlow starts

import numpy as np

from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.faces import hash_faces
from facekp.files import hash_file
from facekp.metrics import rmse

VARIANTS = {  # name -> format, further options
    "onnx": ("onnx", {"weights": "float16"}), "onnx, float32 weights": ("onnx", {"weights": "float32"}),
    "onnx, int8 weights": ("onnx", {"weights": "int8"}), "onnx-int8": ("onnx-int8", {}),
    "litert": ("litert", {}), "litert-int8": ("litert-int8", {}), "saved_model": ("saved_model", {}),
}


def measure(path: str, images: np.ndarray, seconds: float) -> dict:
    "Load a model, predict all faces, then time one face repeatedly, in milliseconds. Runs in its own process."
    if path.endswith(".keras"):
        from facekp.models.files import load_model

        started = time.perf_counter()
        model = load_model(path)
        load_ms = (time.perf_counter() - started) * 1e3
        predict = lambda images: (model.predict_on_batch(images[..., None]), None)
    else:
        from facekp.export.comparison import open_exported

        started = time.perf_counter()
        predict = open_exported(path, threads=1).predict
        load_ms = (time.perf_counter() - started) * 1e3
    points, times = predict(images)[0], []
    for _ in range(10):
        predict(images[:1])
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        predict(images[:1])
        times.append((time.perf_counter() - started) * 1e3)
    return {"points": points.tolist(), "load_ms": load_ms, "times": times}


def in_own_process(path: Path, images: Path, seconds: float) -> dict:
    "Run `measure` alone."
    done = subprocess.run([sys.executable, __file__, "--measure", str(path), str(images), str(seconds)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{path}: {done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def size_of(path: Path) -> int:
    "Return the size of a file or folder in bytes."
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], np.load(sys.argv[3], allow_pickle=False), float(sys.argv[4]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--faces", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of timing per format and turn")
    parser.add_argument("--out", type=Path, default=Path("results/deploy/formats.json"))
    options = parser.parse_args()
    from facekp.experiments.measurement import write_measurement
    from facekp.export.formats import export_network
    from facekp.models.files import load_model, save_model

    started = time.perf_counter()
    rest, faces = split_by_group(load_faces(options.faces), 0.2, 0)
    rng = np.random.default_rng(0)
    faces = faces[np.sort(rng.permutation(len(faces))[:options.count])]
    calibration_images = rest.images[rng.permutation(len(rest))[:500]]
    model = load_model(options.model)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        np.save(folder / "images.npy", faces.images)
        save_model(model, folder / "net.keras")
        files = {"keras": folder / "net.keras"}
        for name, (format, further) in VARIANTS.items():
            ending = {"onnx": ".onnx", "lite": ".tflite"}.get(format[:4], "")
            files[name] = export_network(model, folder / f"{name.replace(', ', '-').replace(' ', '-')}{ending}", format, calibration_images, **further)
        sizes = {name: size_of(path) for name, path in files.items()}
        turns = [{name: in_own_process(path, folder / "images.npy", options.seconds) for name, path in files.items()} for _ in range(options.turns)]
    expected, rows = np.array(turns[0]["keras"]["points"]), {}
    for name in files:
        points = np.array(turns[0][name]["points"])
        times = np.concatenate([turn[name]["times"] for turn in turns])
        rows[name] = {"bytes": sizes[name], "largest_difference": float(np.abs(points - expected).max()),
                      "mean_difference": float(np.abs(points - expected).mean()), "rmse": rmse(points, faces.points),
                      "median_ms": float(np.median(times)), "best_ms": float(times.min()), "load_ms": min(turn[name]["load_ms"] for turn in turns)}
        rows[name]["error_against_keras"] = rows[name]["rmse"] / rows["keras"]["rmse"] - 1 if name != "keras" else 0.0
    write_measurement(options.out, {"formats": rows, "model": {"name": model.name, "weights": int(model.count_params()), "sha256": hash_file(options.model)}},
                      f"python benchmarks/formats.py --model {options.model.name} --faces {Path(options.faces).name} --count {options.count}",
                      {"name": faces.name, "sha256": hash_faces(faces), "faces": len(faces), "part": "held out by group"}, time.perf_counter() - started)
    print(f"{'format':<24} {'kB':>6} {'largest px':>11} {'RMSE px':>8} {'change':>7} {'median ms':>10} {'best ms':>8} {'load ms':>8}")
    for name, row in rows.items():
        print(f"{name:<24} {row['bytes'] / 1e3:>6.0f} {row['largest_difference']:>11.4f} {row['rmse']:>8.4f} {row['error_against_keras']:>7.2%} "
              f"{row['median_ms']:>10.2f} {row['best_ms']:>8.2f} {row['load_ms']:>8.0f}")


if __name__ == "__main__":
    main()
