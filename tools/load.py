"""Measure whether memory stays constant: stream many synthetic faces through the input pipeline of training, and predict a folder of many images.

    python tools/load.py [--part stream folder] [--faces 1000000] [--pictures 10000] [--out results/reliability/load.json]

Rendering a face takes about 6 ms. Therefore 1% of the faces are rendered, and augmentation makes a hundred faces of each, block by block, so that
every image of the stream is different; --copies 0 renders all. One image of the folder is damaged. Each part of the record is written as soon as it is
complete. Memory is that of this process in MB (Linux).
"""

import argparse
import csv
import hashlib
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from parts import load_average, write_part
from PIL import Image

from facekp.augment_bulk import augment_faces
from facekp.inference.landmarker import FaceLandmarker
from facekp.inference.outputs import predict_files
from facekp.synthetic.renderer import stream_synthetic_faces, synthetic_faces
from facekp.training.batches import FaceBatches

ROOT = Path(__file__).resolve().parent.parent
WHAT = "memory of the process while faces are streamed through the input of training, and while a folder with a broken image is predicted"


def memory_mb() -> float:
    "Return the resident memory of this process in MB."
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024, 1)


def memory_use(memory: list[float]) -> dict:
    "Return the memory after a tenth of the work, at the end, and its maximum."
    settled = memory[max(1, len(memory) // 10) - 1:]
    return {"memory_after_a_tenth_mb": settled[0], "memory_at_the_end_mb": settled[-1], "most_mb": max(settled), "growth_mb": round(settled[-1] - settled[0], 1)}


def stream(count: int, copies: int, block: int = 64, batch_size: int = 64) -> dict:
    "Render, augment and batch faces, then discard them."
    started, seen, labelled, batches, memory, digest, step = time.perf_counter(), 0, 0, 0, [], hashlib.sha256(), 0
    for faces in stream_synthetic_faces(seed=11, batch=block):
        if seen >= count:
            break
        many = augment_faces(faces, copies, seed=step) if copies else faces
        step += 1
        for images, points in FaceBatches(many.images, many.points, batch_size, seed=step):
            taken = min(len(points), count - seen)
            seen, batches, labelled = seen + taken, batches + (taken > 0), labelled + int(np.isfinite(points[:taken]).all(axis=2).sum())
            digest.update(np.ascontiguousarray(images[:taken]))
        memory.append(memory_mb())
        if step % 10 == 0:
            print(f"{seen:,} faces, {memory[-1]:.0f} MB, {seen / (time.perf_counter() - started):.0f} a second", file=sys.stderr, flush=True)
    return {"faces": seen, "drawn": step * block, "copies": copies, "batches": batches, "points": labelled, "sha256_of_pictures": digest.hexdigest(),
            "faces_a_second": round(seen / (time.perf_counter() - started)), **memory_use(memory)}


class Watched(FaceLandmarker):
    "The landmarker, with the memory of the process measured at regular intervals."

    def predict(self, image):
        self.done = getattr(self, "done", 0) + 1
        if (self.done - 1) % self.every == 0:
            self.memory.append(memory_mb())
        return super().predict(image)


def predict_folder(count: int, broken_at: int | None = None) -> dict:
    "Predict a folder of images of which one is truncated."
    broken_at = count // 3 if broken_at is None else broken_at
    faces = synthetic_faces(min(count, 200), seed=12)
    with tempfile.TemporaryDirectory() as folder:
        pictures, out = Path(folder, "in"), Path(folder, "out")
        pictures.mkdir()
        for number in range(count):
            wide = np.pad(faces.images[number % len(faces)], 40, mode="edge")
            path = pictures / f"{number:06d}.jpg"
            Image.fromarray(np.roll(wide, number // len(faces) % 7, axis=1)).save(path, quality=90)
            if number == broken_at:
                path.write_bytes(path.read_bytes()[:800])
        detector = Watched()
        detector.memory, detector.every = [], max(1, count // 100)
        started = time.perf_counter()
        broken = predict_files(detector, [pictures], out, "csv", show_progress=False)
        pace = round(count / (time.perf_counter() - started))
        rows = list(csv.DictReader((out / "predictions.csv").open(encoding="utf-8")))
    return {"pictures": count, "broken": len(broken), "message": broken[0].replace(f"{folder}/", "") if broken else "", "pictures_in_the_table": len({row["file"] for row in rows}),
            "with_a_face": len({row["file"] for row in rows if row["face"]}), "lost": count - len(broken) - len({row["file"] for row in rows}),
            "pictures_a_second": pace, **memory_use(detector.memory)}


PARTS = {"stream": lambda options: stream(options.faces, options.copies), "folder": lambda options: predict_folder(options.pictures)}


def main() -> None:
    "Measure the parts and write the record after each."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--copies", type=int, default=99)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reliability" / "load.json")
    options = parser.parse_args()
    amounts = {"stream": f"--faces {options.faces} --copies {options.copies}", "folder": f"--pictures {options.pictures}"}
    for name in options.part:
        busy, started = load_average(), time.perf_counter()
        found = PARTS[name](options)
        print(name, write_part(options.out, WHAT, name, found, time.perf_counter() - started, busy, f"python tools/load.py --part {name} {amounts[name]}"), flush=True)


if __name__ == "__main__":
    main()
