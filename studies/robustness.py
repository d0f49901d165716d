"""Count faces found and flagged in degraded copies of the same scenes, compared with MediaPipe: sunglasses, strong blur, roll, half-hidden and turned faces, and scenes without a face.

    python studies/robustness.py --faces FACES.npz --backgrounds FOLDER [--mediapipe PYTHON] [--out results/prediction/robustness.json]

Real 96x96 faces that the model was not trained on are enlarged and blended into images without faces of 1200x900, one each; the copies differ only in the degradation. Turned faces are the most turned of the
set by the head pose of their labels. MediaPipe 0.10.14 runs in a separate environment. Counts do not depend on the load of the machine; no time is recorded.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from facekp.data.sources import load_faces
from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces
from facekp.files import hash_file
from facekp.images import IMAGE_ENDINGS, read_image
from facekp.inference.head_pose import head_pose
from photos import FOUND, Facekp, Worker, save, score_faces

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "default"))
from confidence import blend, random_crop
from degrade import degrade

WIDTH, HEIGHT = 1200, 900  # pixels of a scene
SIDES = 220, 420  # pixels, range of the size of a face's crop
BLUR = 4.0  # pixels of the 96x96 crop: standard deviation of the strong blur
TURNED = 30  # degrees of yaw from which a face counts as turned


def strong_blur(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), BLUR)


def degrade_by(kind: str) -> Callable:
    return lambda image, points, rng: degrade(kind, image, points, rng)


DEGRADATIONS: dict[str, Callable] = {"unspoiled": degrade_by("none"), "sunglasses": degrade_by("sunglasses"), "strong blur": strong_blur, "half hidden": degrade_by("hidden")}
TURNS = {"roll 90": (cv2.ROTATE_90_CLOCKWISE, lambda points: np.stack([HEIGHT - 1 - points[:, 1], points[:, 0]], axis=1)),
         "roll 180": (cv2.ROTATE_180, lambda points: np.array([WIDTH - 1, HEIGHT - 1]) - points)}


def scene(faces: Faces, row: int, backgrounds: list[np.ndarray], degrade_face: Callable) -> tuple[np.ndarray, np.ndarray]:
    "Return a scene and the points of its face; the same row gives the same position in the same image."
    rng, degrade_rng = np.random.default_rng(row), np.random.default_rng(row)
    image, points = random_crop(backgrounds, rng, WIDTH, HEIGHT), faces.points[row].astype(float)
    return image, blend(image, degrade_face(faces.images[row], points, degrade_rng), points, int(rng.uniform(*SIDES)), rng.normal(0, 6), rng)


def scenes(faces: Faces, backgrounds: list[np.ndarray], count: int, empty: int):
    "Yield kind, scene and points [F,15,2]."
    rows = np.random.default_rng(0).permutation(len(faces))[:count]
    for kind, degrade_face in DEGRADATIONS.items():
        yield from ((kind, *scene(faces, int(row), backgrounds, degrade_face)) for row in rows)
    for kind, (turn, move) in TURNS.items():
        for row in rows:
            image, points = scene(faces, int(row), backgrounds, DEGRADATIONS["unspoiled"])
            yield kind, cv2.rotate(image, turn), move(points)
    yaw = np.array([abs(head_pose(points).yaw) for points in faces.points])
    for row in [row for row in np.argsort(-yaw)[:count] if yaw[row] >= TURNED]:
        yield f"turned {TURNED} degrees or more", *scene(faces, int(row), backgrounds, DEGRADATIONS["unspoiled"])
    rng = np.random.default_rng(1)
    for _ in range(empty):
        yield "no face", random_crop(backgrounds, rng, WIDTH, HEIGHT), np.zeros((0, 2))


def row_of(results: list[tuple[dict, np.ndarray]]) -> dict:
    "Return the counts of a kind: faces found, found faces with a flag, false detections, and false detections without a flag."
    row = {"scenes": len(results), "found": 0, "found_flagged": 0, "false": 0, "false_unflagged": 0}
    for result, truth in results:
        scores = score_faces(result, truth[None] if len(truth) else np.zeros((0, 15, 2)))
        row["false"] += scores["false"]
        row["false_unflagged"] += scores["unflagged"]
        if len(truth) and scores["errors"][0] < FOUND:
            nearest = np.linalg.norm(result["points"] - truth, axis=-1).mean(axis=-1).argmin()
            row["found"] += 1
            row["found_flagged"] += int(result["flagged"][nearest])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--backgrounds", type=Path, required=True)
    parser.add_argument("--mediapipe", metavar="PYTHON")
    parser.add_argument("--count", type=int, default=60, help="scenes of each kind")
    parser.add_argument("--empty", type=int, default=150, help="scenes without a face")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    files = sorted(path for path in options.backgrounds.iterdir() if path.suffix.lower() in IMAGE_ENDINGS)
    backgrounds, faces = [read_image(path) for path in files], load_faces(options.faces)
    faces = faces[np.flatnonzero(np.isfinite(faces.points).all(axis=(1, 2)))]
    methods = {"facekp": Facekp()} | ({"MediaPipe FaceMesh": Worker(options.mediapipe, "MediaPipe FaceMesh")} if options.mediapipe else {})
    results: dict[str, dict[str, list]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, image, truth in scenes(faces, backgrounds, options.count, options.empty):
            path = save(Path(folder) / "scene.bmp", image)
            for name, method in methods.items():
                results.setdefault(kind, {}).setdefault(name, []).append((method(path, image), truth))
    record = {"what": "faces found and flagged in degraded copies of scenes of 1200x900 with one real face, enlarged and blended into images without faces",
              "tables": {kind: {name: row_of(found) for name, found in table.items()} for kind, table in results.items()}, "backgrounds": len(backgrounds),
              "found_from": f"mean error under {FOUND} of the interocular distance",
              "spoils": {"sunglasses": "dark ellipses over the eyes and a bar", "strong blur": f"Gaussian, standard deviation of {BLUR} pixels of the 96x96 crop",
                         "half hidden": "left, right, lower or upper half of the crop in uniform grey", "roll 90": "the whole scene", "roll 180": "the whole scene"}}
    for kind, table in record["tables"].items():
        print(kind, *table.items(), sep="\n  ")
    if options.out:
        command = "python studies/robustness.py " + " ".join(Path(word).name if "/" in word else word for word in sys.argv[1:])
        write_measurement(options.out, record, command, {"name": options.faces.name, "sha256": hash_file(options.faces)})


if __name__ == "__main__":
    main()
