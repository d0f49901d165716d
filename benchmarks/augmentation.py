"""Compare the speed of facekp's batch augmentation with the same steps in albumentations.

python benchmarks/augmentation.py [--faces 200] [--copies 12] [--repeats 7] [--save results/benchmarks/augmentation.json]

Measurements are paired: every repeat runs each variant once, and the median of the ratios per repeat is printed, so that other load on the
machine affects all variants equally. Times are wall-clock times.
"""
import argparse
import os
import time
from pathlib import Path

import cv2
import numpy as np

from facekp.augment import apply_recipe, plain_recipe
from facekp.augment_bulk import augment_faces
from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces
from facekp.synthetic.shape import sample_shapes


def smooth_faces(count: int) -> Faces:
    "Return smooth random images with realistic keypoints: fast to make, and sufficient for timing."
    rng = np.random.default_rng(0)
    images = np.stack([cv2.GaussianBlur(rng.integers(0, 256, (96, 96)).astype(np.uint8), (0, 0), 2) for _ in range(count)])
    names = np.arange(count).astype(str)
    return Faces(images=images, points=sample_shapes(count, rng).astype(np.float32), group=names, source=names, image_id=names)


def by_albumentations(faces: Faces, copies: int) -> None:
    "Augment the images one by one in a plain loop."
    recipe = plain_recipe()
    images = np.empty((len(faces) * copies, 96, 96), np.uint8)
    points = np.empty((len(faces) * copies, 15, 2), np.float32)
    for number in range(len(images)):
        images[number], points[number] = apply_recipe(recipe, faces.images[number % len(faces)], faces.points[number % len(faces)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=200)
    parser.add_argument("--copies", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--save", type=Path, help="also write a JSON record to this file")
    options = parser.parse_args()
    faces = smooth_faces(options.faces)
    ways = {
        "albumentations": lambda: by_albumentations(faces, options.copies),
        "facekp, one worker": lambda: augment_faces(faces, options.copies, workers=1),
        "facekp, two workers": lambda: augment_faces(faces, options.copies, workers=2),
    }
    seconds = {name: [] for name in ways}
    for way in ways.values():
        way()  # untimed run, so that imports and caches do not count
    for _ in range(options.repeats):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    times = {name: np.array(values) for name, values in seconds.items()}
    total = options.faces * options.copies
    for name, values in times.items():
        print(f"{name:20} {total / np.median(values):9,.0f} copies/s")
    ratios = {
        "one worker / albumentations": np.median(times["albumentations"] / times["facekp, one worker"]),
        "two workers / albumentations": np.median(times["albumentations"] / times["facekp, two workers"]),
        "two workers / one worker": np.median(times["facekp, one worker"] / times["facekp, two workers"]),
    }
    for name, ratio in ratios.items():
        print(f"{name:28} {ratio:6.2f}")
    if options.save:
        write_measurement(options.save, {
            "what": "copies/s of augmented 96x96 faces: mirror, shift, rotate, blur, brightness, noise, with 15 points",
            "copies_per_second": {name: total / np.median(values) for name, values in times.items()}, "ratios": ratios,
            "seconds_of_each": seconds, "faces": options.faces, "copies": options.copies, "repeats": options.repeats, "load_average_at_the_end": round(os.getloadavg()[0], 1),
        }, f"python benchmarks/augmentation.py --faces {options.faces} --copies {options.copies} --repeats {options.repeats}")


if __name__ == "__main__":
    main()
