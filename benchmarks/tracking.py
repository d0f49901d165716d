"""Measure tracking on simulated videos of synthetic faces at 640x480: jitter at rest, error in motion, ids across gaps, time per frame.

    python benchmarks/tracking.py [--faces 6] [--out results/prediction/tracking.json]
    python benchmarks/tracking.py --cuts FACES.npz [--faces 60] --out results/prediction/cuts.json

Each video shows one synthetic face whose position, size and rotation in every frame are known, with sensor noise (standard deviation 3 of 255). The truth is therefore exact up to
a constant, the model's bias of each keypoint, which is removed (the mean of the unfiltered predictions, in pixels of the face, over the video). The error
is the mean distance of the keypoints from these positions, as a share of the interocular distance; jitter is the standard deviation of a coordinate at rest, in pixels of the video.
Motions: sway (0.5 Hz), nod with rotation, approach (size), walk (200 pixels per second, stop). Time is that of the tracker alone, without reading and drawing.

--cuts counts ids in videos that cut from one real face to another, in front of the same wall or another one, and in videos without a cut. It also measures how far the points of the first frame of the second shot are from
those of a search in that frame alone.
"""
import argparse
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np

import facekp
from facekp.data.sources import load_faces
from facekp.experiments.measurement import write_measurement
from facekp.faces import hash_faces
from facekp.files import hash_file
from facekp.geometry import Crop, to_crop, to_image
from facekp.inference.landmarker import FaceLandmarker
from facekp.inference.session import DEFAULT_MODEL
from facekp.inference.tracking import FaceTracker
from facekp.keypoints import IMAGE_SIZE
from facekp.synthetic.head import estimate_pose
from facekp.synthetic.renderer import synthetic_faces

WIDTH, HEIGHT, RATE, NOISE, FACE = 640, 480, 30, 3.0, 200.0  # pixels, frames per second, of 255, pixels of a face's crop
SECONDS = 4


def rest(seconds: float) -> Crop:
    return Crop((320.3, 240.4), FACE)


def sway(seconds: float) -> Crop:
    return Crop((320 + 40 * np.sin(2 * np.pi * 0.5 * seconds), 240 + 12 * np.sin(2 * np.pi * 0.37 * seconds)), FACE)


def nod(seconds: float) -> Crop:
    return Crop((320.0, 240 + 25 * np.sin(2 * np.pi * 0.8 * seconds)), FACE, 0.15 * np.sin(2 * np.pi * 0.6 * seconds))


def approach(seconds: float) -> Crop:
    return Crop((320.0, 240.0), FACE * (1 + 0.35 * np.sin(2 * np.pi * 0.25 * seconds)))


def walk(seconds: float) -> Crop:
    "Return positions: at rest for a second, then 200 pixels per second for 1.5 seconds, then at rest."
    return Crop((170 + 200 * float(np.clip(seconds - 1, 0, 1.5)), 240.0), FACE)


MOTIONS: dict[str, Callable[[float], Crop]] = {"rest": rest, "sway": sway, "nod": nod, "approach": approach, "walk": walk}


def background(seed: int = 1) -> np.ndarray:
    "Return a grey wall with soft spots [H,W]."
    spots = np.random.default_rng(seed).normal(0, 1, (HEIGHT // 8, WIDTH // 8)).astype(np.float32)
    return 120 + 60 * cv2.GaussianBlur(cv2.resize(spots, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), (0, 0), 12)


def frames_of(face: np.ndarray, place: Callable[[float], Crop], seed: int, wall_seed: int = 1) -> Iterator[tuple[float, np.ndarray, Crop]]:
    "Return times, frames [H,W,3] and the positions of the face."
    rng, wall = np.random.default_rng(seed), background(wall_seed)
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] - (IMAGE_SIZE - 1) / 2
    mask = np.clip((47 - np.hypot(rows * 0.98, columns)) / 5, 0, 1).astype(np.float32)
    corners = np.float32([[0, 0], [95, 0], [0, 95]])
    for number in range(SECONDS * RATE):
        seconds = number / RATE
        crop = place(seconds)
        matrix = cv2.getAffineTransform(corners, to_image(corners, crop).astype(np.float32))
        over, alpha = (cv2.warpAffine(layer.astype(np.float32), matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC) for layer in (face, mask))
        frame = wall * (1 - alpha) + over * alpha
        yield seconds, np.clip(frame[..., None] + rng.normal(0, NOISE, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8), crop


def follow(landmarker: FaceLandmarker, video: list, smoothing: bool) -> tuple[np.ndarray, np.ndarray, set[int]]:
    "Return keypoints in pixels of the face [N,15,2] (NaN if the face was lost), milliseconds [N] and ids."
    tracker, points, times, ids = FaceTracker(landmarker, smoothing=smoothing), [], [], set()
    for seconds, frame, crop in video:
        started, used = time.perf_counter(), time.process_time()
        faces = tracker.next(frame, seconds)
        times.append((1000 * (time.perf_counter() - started), 1000 * (time.process_time() - used)))
        ids |= {face.track_id for face in faces}
        points.append(to_crop(faces[0].points, crop) if faces else np.full((15, 2), np.nan))
    return np.array(points), np.array(times), ids


def measure(landmarker: FaceLandmarker, faces, motion: str) -> dict:
    "Return the measurements of a motion over all faces."
    errors, jitters, times, tracks, lost = {True: [], False: []}, {True: [], False: []}, [], [], 0
    for number in range(len(faces)):
        video = list(frames_of(faces.images[number], MOTIONS[motion], number))
        between = np.linalg.norm(faces.points[number, 0] - faces.points[number, 1])
        bias = None
        for smoothing in (False, True):
            points, spent, ids = follow(landmarker, video, smoothing)
            bias = np.nanmean(points, axis=0) if bias is None else bias
            errors[smoothing].append(np.linalg.norm(points - bias, axis=2)[10:] / between)
            jitters[smoothing].append(np.nanstd(points[30:], axis=0).mean() * FACE / IMAGE_SIZE)
            if smoothing:
                times.append(spent)
                tracks.append(len(ids))
                lost += int(np.isnan(points[:, 0, 0]).sum())
    row = {"motion": motion, "frames": len(faces) * SECONDS * RATE, "frames_without_face": lost, "most_ids_per_face": max(tracks),
           "error_percent": 100 * float(np.nanmean(errors[True])), "error_percent_unfiltered": 100 * float(np.nanmean(errors[False])),
           "error_percent_p99": 100 * float(np.nanpercentile(errors[True], 99)), **{f"{kind}_{name}": float(statistic(np.concatenate(times)[:, column])) for column, kind in enumerate(("ms", "processor_ms")) for name, statistic in (("median", np.median), ("mean", np.mean))}}
    return row | ({"jitter_px": float(np.mean(jitters[True])), "jitter_px_unfiltered": float(np.mean(jitters[False]))} if motion == "rest" else {})


def measure_gaps(landmarker: FaceLandmarker, faces) -> list[dict]:
    "Return whether a swaying face keeps its id through black frames, and after how many frames it is found again."
    rows = []
    for gap in (1, 5, 10, 20):
        kept, late = [], []
        for number in range(len(faces)):
            tracker, ids = FaceTracker(landmarker), []
            for index, (seconds, frame, _) in enumerate(frames_of(faces.images[number], sway, number)):
                hidden = 40 <= index < 40 + gap
                ids.append([face.track_id for face in tracker.next(np.zeros_like(frame) if hidden else frame, seconds)])
            after = ids[40 + gap:]
            kept.append({one for found in ids for one in found} == {1})
            late.append(next((index for index, found in enumerate(after) if found), len(after)))
        rows.append({"black_frames": gap, "id_kept": sum(kept), "faces": len(faces), "frames_until_found_mean": float(np.mean(late)), "frames_until_found_most": max(late)})
    return rows


def measure_cuts(landmarker: FaceLandmarker, faces, frames: int = 12) -> list[dict]:
    "Return how many pairs of faces get two ids at a cut, and how many single faces keep one id."
    rows = []
    for kind, other_face, other_wall in (("to another face, another wall", 1, 2), ("to another face, same wall", 1, 1), ("no cut", 0, 1)):
        changed, distances = 0, []
        for number in range(len(faces)):
            shots = [islice(frames_of(faces.images[(number + shift) % len(faces)], sway, number, wall), begin, begin + frames)
                     for shift, wall, begin in ((0, 1, 0), (other_face, other_wall, frames))]
            tracker, ids = FaceTracker(landmarker, smoothing=False), []
            for index, (seconds, frame, _) in enumerate(chain(*shots)):
                found = tracker.next(frame, seconds)
                ids.append({face.track_id for face in found})
                if index == frames and found and (alone := landmarker.find_faces(frame)):
                    distances.append(np.linalg.norm(found[0].points - alone[0].points, axis=1).mean() / np.linalg.norm(alone[0].points[0] - alone[0].points[1]))
            changed += not set.union(*ids[:frames]) & set.union(*ids[frames:])
        rows.append({"cut": kind, "videos": len(faces), "new_id": changed, "distance_percent_mean": 100 * float(np.mean(distances)), "distance_percent_most": 100 * float(np.max(distances))})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cuts", type=Path, metavar="FACES")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.cuts:
        cut_record(options)
        return
    drawn = synthetic_faces(60, seed=3, workers=1)
    faces = drawn[np.argsort([abs(estimate_pose(points).yaw) for points in drawn.points])[:options.faces]]
    landmarker = facekp.load(threads=options.threads)
    record = {"threads": options.threads, "model": {"name": "default", "sha256": hash_file(DEFAULT_MODEL)}, "motions": []}
    data = {"name": f"{options.faces} synthetic faces, {SECONDS} s at {RATE} frames per second, {WIDTH}x{HEIGHT}, noise {NOISE:g}", "sha256": hash_faces(faces)}
    for motion in MOTIONS:
        record["motions"].append(measure(landmarker, faces, motion))
        print({key: round(value, 3) if isinstance(value, float) else value for key, value in record["motions"][-1].items()}, flush=True)
    record["gaps"] = measure_gaps(landmarker, faces)
    for row in record["gaps"]:
        print(row)
    if options.out:
        write_measurement(options.out, record, f"python benchmarks/tracking.py --faces {options.faces}", data)


def cut_record(options: argparse.Namespace) -> None:
    "Measure cuts and write their record."
    known, landmarker = load_faces(options.cuts), facekp.load(threads=options.threads)
    known = known[np.flatnonzero(np.isfinite(known.points).all(axis=(1, 2)))]
    faces = known[np.random.default_rng(0).permutation(len(known))[:options.faces]]
    record = {"what": "ids at a cut from one real face to another at the same position of a video, frames of 640x480", "cuts": measure_cuts(landmarker, faces)}
    if options.out:
        write_measurement(options.out, record, f"python benchmarks/tracking.py --cuts {options.cuts.name} --faces {options.faces}", {"name": options.cuts.name, "sha256": hash_file(options.cuts)})


if __name__ == "__main__":
    main()
