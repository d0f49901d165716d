"""Measure prediction on real faces: tolerance to errors of the crop, share of faces found, speed and memory.

    python benchmarks/prediction.py --data FACES.npz --photo PHOTO --out results/prediction/prediction.json [--faces 200]

FACES.npz contains faces in Kaggle's framing that the model was not trained on; PHOTO is an image with one face (scikit-image's astronaut.png was used).
Times are CPU times of one thread, so that other load on the machine matters less. The record contains numbers only, no images.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import facekp
from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.experiments.measurement import read_measurement, write_measurement
from facekp.faces import hash_faces
from facekp.files import hash_file
from facekp.geometry import Crop, crop_image, face_crop, to_image
from facekp.images import read_image
from facekp.inference.session import DEFAULT_MODEL
from facekp.keypoints import IMAGE_SIZE
from facekp.metrics import rmse

MIDDLE = (IMAGE_SIZE - 1) / 2
CHANGES = {"shift": (0, 2, 4, 8, 12, 16, 24), "scale": (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5), "roll": (0, 5, 10, 15, 20, 30, 45)}


def changed_frames(kind: str, amount: float, count: int, rng: np.random.Generator) -> list[Crop]:
    "Return crops of faces in Kaggle's framing, disturbed by an amount in a random direction."
    crops = np.tile([MIDDLE, MIDDLE, IMAGE_SIZE, 0.0], (count, 1))
    if kind == "shift":
        angle = rng.uniform(0, 2 * np.pi, count)
        crops[:, :2] += amount * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    elif kind == "scale":
        crops[:, 2] *= amount
    else:
        crops[:, 3] = np.radians(amount) * rng.choice([-1, 1], count)
    return [Crop((x, y), size, angle) for x, y, size, angle in crops.tolist()]


def passes_from(model, images: np.ndarray, crops: list[Crop], passes: int = 3) -> list[np.ndarray]:
    "Return the predicted points after each pass."
    after = []
    for _ in range(passes):
        cuts = np.stack([crop_image(image, crop) for image, crop in zip(images, crops)])
        points = [to_image(inside, crop) for inside, crop in zip(model.predict(cuts)[0], crops)]
        crops = [face_crop(place) for place in points]
        after.append(np.array(points))
    return after


def measure_framing(model, faces) -> dict:
    "Measure the error against shift, scale and roll of the crop, after one, two and three passes."
    rng, result = np.random.default_rng(0), {"as_given": rmse(model.predict(faces.images)[0], faces.points)}
    for kind, amounts in CHANGES.items():
        rows = [[rmse(points, faces.points) for points in passes_from(model, faces.images, changed_frames(kind, amount, len(faces), rng))]
                for amount in amounts]
        result[kind] = {"amount": list(amounts), **{f"pass_{n + 1}": [row[n] for row in rows] for n in range(3)}}
    return result


def measure_detection(detector, faces) -> dict:
    "Detect each face in a larger image with continued edges; return the share of faces found and their error."
    result = {}
    for width in (20, 28, 40, 64, 96, 192, 400):
        found, points, truth, confidence, uncertain = 0, [], [], [], 0
        for image, label in zip(faces.images, faces.points):
            scale = width / IMAGE_SIZE
            small = cv2.resize(image, (width, width), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
            border = int(width * 0.6)
            padded = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_REPLICATE)
            prediction = detector.predict(padded)
            if prediction.faces:
                found += 1
                points.append(((prediction[0].points + 0.5 - border) / scale) - 0.5)
                truth.append(label)
                confidence.append(prediction[0].confidence)
                uncertain += bool(prediction[0].flags)
        errors = np.array([rmse(predicted[None], label[None]) for predicted, label in zip(points, truth)])
        result[str(width)] = {"found": found / len(faces), "rmse": rmse(np.array(points), np.array(truth)) if points else None,
                              "median_face_rmse": float(np.median(errors)) if points else None,
                              "faces_beyond_5_px": float((errors > 5).mean()) if points else None,
                              "confidence_5_50": np.percentile(confidence, [5, 50]).tolist() if points else None,
                              "uncertain": uncertain / max(found, 1)}
    return result


def cold_start(photo: Path) -> dict:
    "Measure a new process from its start to the first result, in seconds of wall-clock and CPU time."
    code = ("import time, json, sys; started = time.time(); import facekp; answer = facekp.load().predict(sys.argv[1]); "
            "print(json.dumps([len(answer), 'tensorflow' in sys.modules, time.process_time()]))")
    clock, processor = [], []
    for _ in range(5):
        started = time.perf_counter()
        count, tensorflow, seconds = json.loads(subprocess.run([sys.executable, "-c", code, str(photo)], check=True, capture_output=True, text=True).stdout)
        clock.append(time.perf_counter() - started)
        processor.append(seconds)
        assert count == 1 and not tensorflow
    return {"seconds_clock_best": min(clock), "seconds_processor_best": min(processor)}


def measure_speed(photo: Path, repeats: int = 40) -> dict:
    "Measure images per second of CPU time on one thread, with files read from disk, for several sizes of the photo."
    detector, result = facekp.load(threads=1), {}
    image = Image.fromarray(read_image(photo))
    with tempfile.TemporaryDirectory() as folder:
        for side in (128, 160, 256, 512, 1024, 2048):
            path = Path(folder) / f"{side}.jpg"
            image.resize((side, side), Image.Resampling.LANCZOS).save(path, quality=92)
            assert len(detector.predict(path)) == 1, f"{side}: the face is not found"
            times = []
            for _ in range(max(5, repeats * 256 // max(side, 256))):
                started = time.process_time()
                detector.predict(path)
                times.append(time.process_time() - started)
            result[str(side)] = {"pictures_a_second": 1 / float(np.median(times)), "best": 1 / min(times)}
        images = np.random.default_rng(0).integers(0, 256, (256, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        started = time.process_time()
        detector.model.predict(images)
        result["framed_faces_a_second"] = 256 / (time.process_time() - started)
    return result


def measure_memory(photo: Path, count: int) -> dict:
    "Measure the peak memory of the process after 100 images and after all."
    detector = facekp.load(threads=1)
    image = np.asarray(Image.fromarray(read_image(photo)).resize((128, 128)))
    for index in range(count):
        detector.predict(np.roll(image, index % 7, axis=1))
        if index == 99:
            early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pictures": count, "mb_after_100": early, "mb_after_all": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model for framing and detection; for faces that the shipped model was trained on, a model trained without the test set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=200)
    parser.add_argument("--memory-pictures", type=int, default=10_000)
    parser.add_argument("--parts", nargs="+", default=["framing", "detection", "cold_start", "speed", "memory"])
    options = parser.parse_args()
    faces = split_by_group(load_faces(options.data), 0.2, 0)[1]
    faces = faces[np.random.default_rng(0).permutation(len(faces))[:options.faces]]
    detector = facekp.load(options.model, threads=1)
    jobs = {"framing": lambda: measure_framing(detector.model, faces), "detection": lambda: measure_detection(detector, faces),
            "cold_start": lambda: cold_start(options.photo), "speed": lambda: measure_speed(options.photo),
            "memory": lambda: measure_memory(options.photo, options.memory_pictures)}
    before = read_measurement(options.out) if options.out.exists() else {}
    record = {**{part: before[part] for part in jobs if part in before}, "photo": options.photo.name, "model": {"name": "default", "sha256": hash_file(options.model), **detector.model.metadata}}
    data = {"name": Path(options.data).name, "sha256": hash_faces(faces), "faces": len(faces), "part": "kept out by group"}
    command = (f"python benchmarks/prediction.py --data {Path(options.data).name} --photo {options.photo.name} --faces {options.faces}"
               + (" --model HELD_OUT.onnx" if options.model != DEFAULT_MODEL else ""))
    for part in options.parts:
        started = time.perf_counter()
        record[part] = jobs[part]()
        record[part]["seconds"] = round(time.perf_counter() - started, 1)
        write_measurement(options.out, record, command, data)
        print(part, json.dumps(record[part])[:1500], flush=True)


if __name__ == "__main__":
    main()
