"""Compare prediction on whole photographs with MediaPipe and dlib in one run: faces found, error, false detections, milliseconds.

    python studies/photos.py --photos FOLDER [--faceless FOLDER] --out results/prediction/photos.json
    python studies/photos.py --composed FACES.npz --backgrounds FOLDER [--faceless FOLDER] --out results/prediction/photos_composed.json
    python studies/photos.py --synthetic --out results/prediction/photos_synthetic.json

--photos FOLDER contains your own photographs, each with the 68 landmarks of its faces in .pts files (300-W, HELEN). --composed enlarges real 96x96 faces that the model was not trained on and blends
them into images without faces; --synthetic does so with synthetic faces. Each record states which of the three was used. MediaPipe runs in a separate environment
(--mediapipe PYTHON, with mediapipe 0.10.14), and so does dlib (--dlib PYTHON --dlib-model shape_predictor_68_face_landmarks.dat). Without the model, dlib's frontal face detector is measured
alone: it returns boxes without keypoints. dlib receives the image in its original size. Methods that are not given are left out. Every method receives the same
decoded array, one after the other for each image, so that other load on the machine affects all equally: compare the ratios. No image is kept.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

FOUND = 0.30  # of the interocular distance: a face is found up to this mean error
BOX_FOUND = 0.5  # of the interocular distance: for a method without keypoints, a face is found up to this distance between the centre of a box and the mean of the true points
LEFT_EYE = [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466]
RIGHT_EYE = [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246]
MESH = [LEFT_EYE, RIGHT_EYE, [362], [263], [133], [33], [336, 285], [300, 276], [107, 55], [70, 46], [1, 4], [291], [61], [0], [17]]  # MediaPipe's for our 15 points


# ---------------------------------------------------------------- methods; this part needs numpy and OpenCV only

def open_mediapipe(attention: bool):
    "Return a function from an image to points [F,15,2]."
    import mediapipe

    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=40, refine_landmarks=attention)

    def find(image: np.ndarray) -> list:
        size = np.array(image.shape[1::-1])
        faces = [np.array([[landmark.x, landmark.y] for landmark in face.landmark]) * size - 0.5 for face in mesh.process(image).multi_face_landmarks or []]
        return [[np.mean(face[rows], axis=0).tolist() for rows in MESH] for face in faces]

    return find


def open_dlib(model: str):
    "Return a function from an image to points [F,68,2], which the caller converts to 15, or to the centres of boxes [F,1,2] without a model."
    import dlib

    detector = dlib.get_frontal_face_detector()
    if not model:
        return lambda image: [[[(box.left() + box.right()) / 2, (box.top() + box.bottom()) / 2]] for box in detector(image, 0)]
    predictor = dlib.shape_predictor(model)
    return lambda image: [[[part.x, part.y] for part in predictor(image, box).parts()] for box in detector(image, 0)]


def work(method: str, model: str) -> None:
    "Print points and times as JSON for each path on standard input."
    find = open_dlib(model) if method.startswith("dlib") else open_mediapipe(method.endswith("attention"))
    for line in sys.stdin:
        image = cv2.cvtColor(cv2.imread(line.strip()), cv2.COLOR_BGR2RGB)
        started, processor = time.perf_counter(), time.process_time()
        points = find(image)
        print(json.dumps({"points": points, "ms": 1e3 * (time.perf_counter() - started), "cpu_ms": 1e3 * (time.process_time() - processor)}), flush=True)


class Worker:
    "A method in a separate process."

    def __init__(self, python: str, method: str, model: str = ""):
        self.process = subprocess.Popen([python, __file__, "--worker", method, "--dlib-model", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)

    def __call__(self, path: Path, image: np.ndarray) -> dict:
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        result = json.loads(self.process.stdout.readline())
        points = np.array(result["points"], float)
        if points.ndim == 3 and points.shape[1] == 68:
            from facekp.conventions import from_68_points

            points = np.stack([from_68_points(face) for face in points])
        points = points if points.ndim == 3 else np.zeros((0, 15, 2))
        return {**result, "points": points, "flagged": np.zeros(len(points), bool)}


class Facekp:
    "facekp in this process."

    def __init__(self, **options):
        import facekp

        self.landmarker = facekp.load(**options)

    def __call__(self, path: Path, image: np.ndarray) -> dict:
        started, processor = time.perf_counter(), time.process_time()
        faces = self.landmarker.find_faces(image)
        times = {"ms": 1e3 * (time.perf_counter() - started), "cpu_ms": 1e3 * (time.process_time() - processor)}
        return {**times, "points": np.array([face.points for face in faces]).reshape(-1, 15, 2), "flagged": np.array([bool(face.flags) for face in faces], bool)}


# ---------------------------------------------------------------- images

def photographs(folder: Path) -> Iterator[tuple[str, Path, np.ndarray]]:
    "Return the photographs of a folder with the 15 points of their faces, from .pts files named photo.pts or photo_1.pts."
    from facekp.conventions import from_68_points
    from facekp.data.w300 import read_pts

    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        point_files = sorted([*path.parent.glob(f"{path.stem}.pts"), *path.parent.glob(f"{path.stem}_[0-9]*.pts")])
        if point_files:
            yield "photographs", path, np.stack([from_68_points(read_pts(file)) for file in point_files])


def composed(faces, backgrounds: list[np.ndarray], folder: Path, portraits: int, sheets: int) -> Iterator[tuple[str, Path, np.ndarray]]:
    "Write images of 10 megapixels with one face each, and collages of 30 faces, to a folder."
    sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "default"))
    from confidence import blend, random_crop

    rng, rows = np.random.default_rng(0), np.arange(len(faces))
    for number in range(portraits):
        scene, row = random_crop(backgrounds, rng, 3888, 2592), rng.choice(rows)
        points = blend(scene, faces.images[row], faces.points[row].astype(float), int(rng.uniform(370, 1500)), rng.normal(0, 6), rng)
        yield "one face, 10 megapixels", save(folder / f"one{number}.bmp", scene), points[None]
    for interocular in (67, 34, 17, 11):
        for number in range(sheets):
            side = round(interocular / 34.6 * 96)
            tiles, points = [], []
            for row in rng.permutation(rows)[:30]:
                tile = random_crop(backgrounds, rng, round(1.5 * side) + 1, round(1.5 * side) + 1)
                points.append(blend(tile, faces.images[row], faces.points[row].astype(float), side, 0.0, rng) + np.array(divmod(len(tiles), 6))[::-1] * len(tile))
                tiles.append(tile)
            sheet = np.concatenate([np.concatenate(tiles[start:start + 6], axis=1) for start in range(0, 30, 6)])
            yield f"collages, {interocular} px between the eyes", save(folder / f"sheet{interocular}_{number}.bmp", sheet), np.stack(points)


def faceless(backgrounds: list[np.ndarray], folder: Path, count: int) -> Iterator[tuple[str, Path, np.ndarray]]:
    "Return pieces of images without faces."
    sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "default"))
    from confidence import random_crop

    rng = np.random.default_rng(1)
    for number in range(count):
        yield "no face", save(folder / f"no{number}.bmp", random_crop(backgrounds, rng, 1200, 900)), np.zeros((0, 15, 2))


def save(path: Path, image: np.ndarray) -> Path:
    "Write an image without loss; BMP is decoded fastest."
    cv2.imwrite(str(path), image[..., ::-1])
    return path


# ---------------------------------------------------------------- measuring

def score_faces(result: dict, truth: np.ndarray) -> dict:
    "Return the error of each true face as a share of the interocular distance, false detections, false detections without a flag, and times."
    from facekp.metrics import interocular_distance

    found, limit = result["points"], BOX_FOUND / FOUND if result["points"].shape[1] == 1 else 1
    compared = truth.mean(axis=1, keepdims=True) if limit != 1 else truth
    distances = np.linalg.norm(found[None] - compared[:, None], axis=-1).mean(axis=-1).reshape(len(truth), len(found))
    errors = distances / limit / interocular_distance(truth)[:, None] if len(truth) else distances
    false = ~(errors < FOUND).any(axis=0) if len(truth) else np.ones(len(found), bool)
    return {"errors": errors.min(axis=1, initial=np.inf), "false": int(false.sum()), "unflagged": int((false & ~result["flagged"]).sum()), "boxes": limit != 1,
            "ms": result["ms"], "cpu_ms": result["cpu_ms"]}


def summarise(rows: dict[str, list[dict]]) -> dict[str, dict]:
    "Return one row per method; the error is over faces that all methods found, if there are any."
    errors = {name: np.concatenate([row["errors"] for row in found]) for name, found in rows.items()}
    boxes = {name for name, found in rows.items() if any(row["boxes"] for row in found)}
    common = np.all([values < FOUND for name, values in errors.items() if name not in boxes], axis=0)
    table = {}
    for name, found in rows.items():
        seen = errors[name] < FOUND
        table[name] = {"found": int(seen.sum()), "faces": len(seen), "nme_own_percent": None if name in boxes else percent(errors[name][seen]), "nme_common_percent": None if name in boxes else percent(errors[name][common]),
                       "common": int(common.sum()), "false": sum(row["false"] for row in found), "false_unflagged": sum(row["unflagged"] for row in found),
                       **{f"{kind}_median": round(float(np.median([row[kind] for row in found])), 1) for kind in ("ms", "cpu_ms")}}
    return table


def percent(values: np.ndarray) -> float | None:
    "Return the mean in percent."
    return round(100 * float(values.mean()), 2) if len(values) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--composed", type=Path)
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--backgrounds", type=Path, help="images without faces, into which faces are blended")
    parser.add_argument("--faceless", type=Path, help="other images without faces, for false detections")
    parser.add_argument("--count", type=int, default=40, help="composed images with one face")
    parser.add_argument("--sheets", type=int, default=4, help="collages of 30 faces for each size")
    parser.add_argument("--pieces", type=int, default=150, help="crops of images without faces")
    parser.add_argument("--mediapipe", metavar="PYTHON")
    parser.add_argument("--dlib", metavar="PYTHON")
    parser.add_argument("--dlib-model", default="")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.dlib_model)
    else:
        measure(options)


def labelled_images(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path, np.ndarray]]:
    "Return all images of a run: kind, file, true points."
    from facekp.data.sources import load_faces
    from facekp.images import IMAGE_ENDINGS, read_image
    from facekp.synthetic.renderer import synthetic_faces

    def read_all(place: Path | None) -> list[np.ndarray]:
        files = sorted(path for path in place.iterdir() if path.suffix.lower() in IMAGE_ENDINGS) if place else []
        return [read_image(path) for path in files] or [np.full((600, 800, 3), shade, np.uint8) for shade in (60, 130, 200)]

    if options.photos:
        yield from photographs(options.photos)
    if options.composed or options.synthetic:
        faces = load_faces(options.composed) if options.composed else synthetic_faces(300, seed=11)
        whole = np.flatnonzero(np.isfinite(faces.points).all(axis=(1, 2)))
        yield from composed(faces[whole], read_all(options.backgrounds), folder, options.count, options.sheets)
    if options.faceless:
        yield from faceless(read_all(options.faceless), folder, options.pieces)


def measure(options: argparse.Namespace) -> None:
    "Measure all methods on all images, print the table and write the record."
    from facekp.experiments.measurement import write_measurement
    from facekp.files import hash_file
    from facekp.images import read_image

    methods = {"facekp": Facekp(), "facekp, min_face_size=0.1": Facekp(min_face_size=0.1)}
    if options.mediapipe:
        methods |= {name: Worker(options.mediapipe, name) for name in ("MediaPipe FaceMesh", "MediaPipe FaceMesh with attention")}
    if options.dlib:
        name = "dlib" if options.dlib_model else "dlib, frontal face detector only"
        methods[name] = Worker(options.dlib, name, options.dlib_model)
    rows: dict[str, dict[str, list[dict]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, path, truth in labelled_images(options, Path(folder)):
            image = read_image(path)
            for name, method in methods.items():
                if kind not in rows:
                    method(path, image)  # the first call of a kind includes set-up and does not count
                rows.setdefault(kind, {}).setdefault(name, [])
            for name, method in methods.items():
                rows[kind][name].append(score_faces(method(path, image), truth))
            if Path(folder) in path.parents:
                path.unlink()
    source = "photographs" if options.photos else "real 96x96 faces, enlarged and blended into images without faces" if options.composed else "synthetic faces"
    record = {"what": f"prediction on whole images ({source}), methods in turn", "tables": {kind: summarise(table) for kind, table in rows.items()},
              "found_from": f"mean error under {FOUND} of the interocular distance (for a method without keypoints: the centre of a box within {BOX_FOUND} of it from the mean of the true points)",
              "pictures": {kind: len(next(iter(table.values()))) for kind, table in rows.items()},
              "note": "MediaPipe's points are mapped to the 15 without an offset for its convention; facekp uses up to two threads, cpu_ms counts both; dlib receives the image in its original size"}
    for kind, table in record["tables"].items():
        print(f"\n{kind}")
        for name, row in table.items():
            print(f"  {name:36}", *(f"{key} {value}" for key, value in row.items()), sep="  ")
    if options.out:
        data = {"name": Path(options.composed).name, "sha256": hash_file(options.composed)} if options.composed else None
        write_measurement(options.out, record, "python studies/photos.py " + " ".join(Path(word).name if "/" in word else word for word in sys.argv[1:]), data)


if __name__ == "__main__":
    main()
