"""Measure the duplicate search on real faces: whether it finds altered copies, and whether it mistakes two persons for one.

python studies/near_duplicates.py FACES.npz... [--results results]

Each file needs groups (persons or photos). A copy is shifted by up to two pixels in x and y, its contrast is changed by up to 20% and its
brightness by up to 25, and it is compressed as JPEG of quality 20-90. Writes near_duplicates/meta.json into the results folder.
"""
import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from facekp.data.duplicates import near_duplicates
from facekp.data.sources import load_faces
from facekp.errors import UserError
from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces, hash_faces


def disturb(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "Return an altered copy of an image."
    shift = np.float32([[1, 0, rng.uniform(-2, 2)], [0, 1, rng.uniform(-2, 2)]])
    moved = cv2.warpAffine(image, shift, image.shape, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    lit = np.clip(moved * rng.uniform(0.8, 1.2) + rng.uniform(-25, 25), 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", lit, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 91))])[1], cv2.IMREAD_GRAYSCALE)


def measure(faces: Faces, seed: int) -> dict:
    "Search one set for duplicates, then the first face of each group together with an altered copy."
    start = time.perf_counter()
    labels = near_duplicates(faces.images)
    seconds = time.perf_counter() - start
    clusters = [np.flatnonzero(labels == label) for label in np.flatnonzero(np.bincount(labels) > 1)]
    across = [rows for rows in clusters if len(set(faces.group[rows])) > 1]
    single = faces.images[np.unique(faces.group, return_index=True)[1]]
    rng = np.random.default_rng(seed)
    both = near_duplicates(np.concatenate([single, np.stack([disturb(image, rng) for image in single])]))
    found = both[:len(single)] == both[len(single):]
    sizes = np.bincount(both)
    pairs = int((sizes * (sizes - 1) // 2).sum())
    return {"data": {"name": faces.name, "sha256": hash_faces(faces), "faces": len(faces), "groups": len(set(faces.group))}, "seconds": seconds,
            "bundles_of_copies": len(clusters), "faces_in_them": sum(map(len, clusters)), "bundles_across_groups": len(across),
            "across_groups": [[str(name) for name in faces.image_id[rows]] for rows in across],
            "disturbed": {"copies": len(single), "found": int(found.sum()), "pairs_called_copies": pairs,
                          "recall": found.mean(), "precision": found.sum() / pairs}}


def main() -> None:
    "Measure, print and write the record."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    measured = [measure(load_faces(name), arguments.seed) for name in arguments.faces]
    for result in measured:
        found = result["disturbed"]
        print(f"{result['data']['name']}: {result['data']['faces']:,} faces in {result['data']['groups']:,} groups, {result['seconds']:.1f} s; "
              f"{result['bundles_of_copies']} bundles of copies, {result['bundles_across_groups']} of them across groups {result['across_groups']}; "
              f"disturbed copies: recall {found['recall']:.3f}, precision {found['precision']:.3f}")
    sets = [result["data"] for result in measured]
    write_measurement(arguments.results / "near_duplicates" / "meta.json", {
        "sets": measured, "seed": arguments.seed, "protocol": " ".join(__doc__.split("\n\n")[2].split()).split(" Writes")[0]},
        " ".join(["python studies/near_duplicates.py", *[Path(word).name if "/" in word else word for word in sys.argv[1:]]]),
        {"name": "+".join(data["name"] for data in sets), "sha256": {data["name"]: data["sha256"] for data in sets}})


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error
