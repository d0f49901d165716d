"""Train the model that facekp ships, again and from nothing.

python benchmarks/default_model.py --faces helen_afw_96.npz --more youtube_faces_96.npz --out runs/default [--save results/deploy/default.json] [--everything]

1. Draw faces. Ask MediaPipe's face_landmark.tflite (see peers.py) for its 468 points of every face and its mirror image, and learn by ridge regression to translate these into
   the 15 points of `--faces`, each photograph's by the marks of others. 2. Measure by these translated answers how the marks of `--more` and of the drawings differ from those of
   `--faces`, and take the difference out. 3. Mix marks and translated answers: what two judges of different habits agree on is nearer to the truth than either. 4. Train the small net
   on augmented copies of all three: photographs, frames, drawings. 5. Go on for a while with copies that are not mirrored: the marks of `--faces` lie a fraction of a pixel to the
   right, those of mirrored copies as much to the left, and between the two the net can't follow either. 6. Measure once on the groups of `--faces` that were kept out.
With `--everything` the photographs kept out are learned from as well, by the same steps, and nothing is measured: these weights ship. A run that was stopped goes on where it was.
`--without` leaves a part out, for the ablation, which is measured on the faces that chose the best weights. Needs: pip install 'facekp[deploy]', and PyPI for MediaPipe's wheel.
"""
import argparse
import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import joblib
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict

from facekp.augment import augment_faces, mirror
from facekp.cnn import build_compact
from facekp.core import FLIP_ORDER, IMAGE_SIZE, KEYPOINTS, Faces, concatenate, set_seeds, sha256_of_file, write_json
from facekp.data import load_faces, save_npz, split_by_group
from facekp.draw import draw_faces
from facekp.metrics import evaluate_points
from facekp.train import Training, describe_data, describe_machine, describe_versions, fit, masked_mae, masked_mse, predict_points, save_model
from peers import WHEEL, fetch_mediapipe, open_mediapipe

PARTS = ("answers", "more", "drawn", "strong", "bent", "mae", "last")
MIDDLE = (IMAGE_SIZE - 1) / 2
GRID = np.stack(np.meshgrid(*[np.arange(IMAGE_SIZE, dtype=np.float32)] * 2), axis=-1)
BEND = 2.0  # px, the most that the handles of a copy are pulled about
SHARES = {"photographs": 0.4, "frames": 0.5}  # of the translated answers in the marks that the net learns; of drawings the marks are exact
STIFFNESS, FOLDS = 50.0, 8  # of the translation: the ridge's alpha for pixels, and how many parts of the photographs are translated by what the others taught
DOUBTFUL = 0.02  # the share of frames whose mark and translated answer are furthest apart: left out
COPIES = {"photographs": 97_000, "frames": 58_000, "drawings": 36_000}  # augmented copies in all
LAST = {"images": 100_000, "learning_rate": 5e-4, "copies": 0.5}  # the training at the end, on copies that are not mirrored; as many of COPIES
CHUNK = 2_000  # copies that are made in one go
NOISE = np.random.default_rng(0).standard_normal(2**20, np.float32)  # what the grain of the copies is cut out of


def change(image: np.ndarray, points: np.ndarray, others: np.ndarray, rng: np.random.Generator, bend: float, mirrored: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    "One strongly augmented copy: moved, turned, scaled, stretched, bent, mirrored or not, covered in part, blurred or coarsened, lit otherwise, noisy."
    if rng.random() < mirrored:
        image, points = mirror(image, points)
    angle, scale, stretch = np.deg2rad(rng.normal(0, 12)), np.exp(rng.normal(0, 0.08)), np.exp(rng.normal(0, 0.03))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([stretch, 1 / stretch])
    offset = MIDDLE - turn @ [MIDDLE, MIDDLE] + rng.normal(0, 3, 2)
    copy, points = bend_and_move(image, points, turn, offset, rng.uniform(0, bend) if bend else 0, rng)
    if rng.random() < 0.3:
        cover(copy, others[rng.integers(len(others))], rng)
    kind = rng.random()
    if kind < 0.35:
        copy = cv2.GaussianBlur(copy, (0, 0), rng.uniform(0.3, 1.4))
    elif kind < 0.55:
        side = int(rng.uniform(28, 80))
        copy = cv2.resize(cv2.resize(copy, (side, side), interpolation=cv2.INTER_AREA), (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR)
    curve = 255 * (np.arange(256) / 255) ** np.exp(rng.normal(0, 0.25))
    curve = np.float32((curve - 128) * np.exp(rng.normal(0, 0.2)) + 128 + rng.normal(0, 20))
    at = rng.integers(len(NOISE) - copy.size)
    grain = np.float32(rng.uniform(0, 10)) * NOISE[at:at + copy.size].reshape(copy.shape)
    return cv2.add(cv2.LUT(copy, curve), grain, dtype=cv2.CV_8U), points


def bend_and_move(image: np.ndarray, points: np.ndarray, turn: np.ndarray, offset: np.ndarray, bend: float, rng: np.random.Generator):
    "The picture and its points under x -> turn x + offset, after 5x5 handles of the picture were pulled about by a normal error of `bend` px: another face of the same person."
    pulled = cv2.resize(rng.normal(0, bend, (5, 5, 2)).astype(np.float32), (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_CUBIC)
    back = np.linalg.inv(turn)
    seen_from = GRID @ back.T.astype(np.float32) + (pulled - np.float32(back @ offset))
    border = cv2.BORDER_REPLICATE if rng.random() < 0.7 else cv2.BORDER_CONSTANT
    copy = cv2.remap(image, seen_from, None, cv2.INTER_LINEAR, borderMode=border, borderValue=float(rng.integers(256)))
    moved = points @ turn.T + offset
    for _ in range(4):  # a point x comes to lie at y where x = turn^-1 (y - offset) + pulled(y)
        at = np.clip(np.nan_to_num(moved), 0, IMAGE_SIZE - 1).astype(np.float32)
        moved = (points - cv2.remap(pulled, at[:, None], None, cv2.INTER_LINEAR)[:, 0]) @ turn.T + offset
    return copy, moved.astype(np.float32)


def cover(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> None:
    "Put a patch of another picture, or of one grey, in front of a part of the face."
    width, height = rng.integers(10, 40, 2)
    left, top = rng.integers(0, IMAGE_SIZE - width), rng.integers(0, IMAGE_SIZE - height)
    patch = other[top:top + height, left:left + width] if rng.random() < 0.5 else np.full((height, width), rng.integers(256), np.uint8)
    image[top:top + height, left:left + width] = patch


def copy_chunk(faces: Faces, rows: np.ndarray, seed: int, bend: float, mirrored: float) -> tuple[np.ndarray, np.ndarray]:
    "Strongly augmented copies of some of the faces: pictures and points."
    cv2.setNumThreads(1)  # pictures this small are not worth a second thread
    rng = np.random.default_rng(seed)
    changed = [change(faces.images[row], faces.points[row], faces.images, rng, bend, mirrored) for row in rows]
    return np.stack([image for image, _ in changed]), np.stack([points for _, points in changed])


def strong_copies(faces: Faces, count: int, seed: int, bend: float = BEND, mirrored: float = 0.5) -> Faces:
    "So many strongly augmented copies, every face as often as any other (or once more), made on all cores."
    passes = [np.random.default_rng([seed, turn]).permutation(len(faces)) for turn in range(-(-count // len(faces)))]
    rows = np.concatenate(passes)[:count]
    chunks = [rows[start:start + CHUNK] for start in range(0, count, CHUNK)]
    made = joblib.Parallel(n_jobs=-1, idle_worker_timeout=5)(joblib.delayed(copy_chunk)(faces, chunk, 1_000 * seed + number, bend, mirrored) for number, chunk in enumerate(chunks))
    images, points = (np.concatenate([part[which] for part in made]) for which in (0, 1))
    return replace(faces[rows], images=images, points=points, truth=None)


def mean_answer(model, images: np.ndarray) -> np.ndarray:
    "The mean of the answers for pictures and for their mirror images."
    answers = predict_points(model, np.ascontiguousarray(images[:, :, ::-1]))[:, FLIP_ORDER]
    answers[..., 0] = IMAGE_SIZE - 1 - answers[..., 0]
    return (predict_points(model, images) + answers) / 2


def mesh_features(mesh, images: np.ndarray) -> np.ndarray:
    "What the translation starts from: MediaPipe's points of pictures and of their mirror images, in pixels of the picture [N,1872]."
    straight, mirrored = mesh(images), mesh(np.ascontiguousarray(images[:, :, ::-1]))
    mirrored[..., 0] = IMAGE_SIZE - 1 - mirrored[..., 0]
    return np.clip(np.concatenate([straight, mirrored], axis=1), -20, IMAGE_SIZE + 20).reshape(len(images), -1)  # a face not found gives points far away


def translate(faces: Faces, features: np.ndarray) -> tuple[Ridge, np.ndarray]:
    "The translation into the marks of these faces, and its answers [N,15,2] for them: each photograph's from what other photographs taught."
    marks = faces.points.reshape(len(faces), -1)
    answers = cross_val_predict(Ridge(STIFFNESS), features, marks, groups=faces.group, cv=GroupKFold(FOLDS))
    return Ridge(STIFFNESS).fit(features, marks), answers.reshape(-1, len(KEYPOINTS), 2)


def align(faces: Faces, answers: np.ndarray) -> Faces:
    "Faces with the median difference of each keypoint between their marks and the translated answers taken out."
    return replace(faces, points=(faces.points + np.nanmedian(answers - faces.points, axis=0)).astype(np.float32), truth=None)


def mix(faces: Faces, answers: np.ndarray, share: float) -> Faces:
    "Faces whose marks are in part those of the translated answers."
    return replace(faces, points=((1 - share) * faces.points + share * answers).astype(np.float32), truth=None)


def far_apart(faces: Faces, answers: np.ndarray) -> np.ndarray:
    "How far marks and translated answers of each face are from each other, in pixels (RMSE)."
    return np.sqrt(np.nanmean((faces.points - answers) ** 2, axis=(1, 2)))


def collect(options, photographs: Faces, more: Faces, drawn: Faces, mesh) -> tuple[dict[str, Faces], Ridge]:
    "All that there is to learn from, marked in the way of the photographs, before it is copied; and the translation."
    features = mesh_features(mesh, photographs.images)
    translation, answers = translate(photographs, features)
    shares = dict.fromkeys(SHARES, 0.0) if "answers" in options.without else SHARES
    parts = {"photographs": mix(photographs, answers, shares["photographs"])}
    if "more" not in options.without:
        answers = translation.predict(mesh_features(mesh, more.images)).reshape(-1, len(KEYPOINTS), 2)
        aligned = align(more, answers)
        distance = far_apart(aligned, answers)
        parts["frames"] = mix(aligned, answers, shares["frames"])[distance <= np.quantile(distance, 1 - DOUBTFUL)]
    if "drawn" not in options.without:
        parts["drawings"] = align(drawn, translation.predict(mesh_features(mesh, drawn.images)).reshape(-1, len(KEYPOINTS), 2))
    return parts, translation


def copies_of(options, parts: dict[str, Faces], seed: int, share: float = 1.0, mirrored: float = 0.5) -> Faces:
    "Augmented copies of all parts."
    bend = 0.0 if "bent" in options.without else BEND
    counts = {name: round(COPIES[name] * options.copies * share) for name in parts}
    if "strong" in options.without:
        copied = [augment_faces(part, max(1, counts[name] // len(part)), seed)[:counts[name]] for name, part in parts.items()]
    else:
        copied = [strong_copies(part, counts[name], seed + place, bend, mirrored) for place, (name, part) in enumerate(parts.items())]
    return concatenate(copied)


def train_twice(options, parts: dict[str, Faces], validation: Faces, name: str) -> list[tuple[str, Training]]:
    "The training, and the one at the end with copies that are not mirrored; each by its name."
    learn = partial(fit, validation=validation, seed=options.seed, patience=10**6, loss=masked_mse if "mae" in options.without else masked_mae, resume=True)
    set_seeds(options.seed)
    learned = copies_of(options, parts, options.seed + 1)
    print(f"{name}: {', '.join(f'{len(part)} {kind}' for kind, part in parts.items())} to learn from, {len(learned)} copies of them", flush=True)
    stages = [("the training", learn(build_compact(), learned, images_shown=options.images, learning_rate=options.learning_rate, run_folder=options.out / name,
                                     faces_an_epoch=min(20_000, len(learned))))]
    if "last" not in options.without:
        del learned
        learned = copies_of(options, parts, options.seed + 11, LAST["copies"], mirrored=0.0)
        stages.append(("the end of it, not mirrored", learn(stages[0][1].model, learned, images_shown=LAST["images"], learning_rate=LAST["learning_rate"],
                                                            run_folder=options.out / f"{name}-last", faces_an_epoch=min(10_000, len(learned)))))
    return stages


def describe_by(faces: Faces, predicted: np.ndarray) -> dict:
    "The error by source, by head turn and by brightness, with intervals."
    between = faces.points[:, 0] - faces.points[:, 1]
    turn = np.abs(np.sum((faces.points[:, 10] - faces.points[:, :2].mean(axis=1)) * between, axis=1)) / np.sum(between**2, axis=1)
    grey = faces.images.mean(axis=(1, 2))
    kinds = {"source": {str(name): faces.source == name for name in np.unique(faces.source)},
             "turn": {"facing (nose within 5% of the eyes' distance from their middle)": turn < 0.05, "turned a little (5-15%)": (turn >= 0.05) & (turn < 0.15),
                      "turned (over 15%)": turn >= 0.15},
             "brightness": {"dark (mean grey under 90)": grey < 90, "middling (90-140)": (grey >= 90) & (grey < 140), "bright (over 140)": grey >= 140}}
    described = {}
    for kind, parts in kinds.items():
        described[kind] = {}
        for name, rows in parts.items():
            if rows.any():
                metrics = evaluate_points(predicted[rows], faces.points[rows], faces.group[rows])
                described[kind][name] = {"rmse": metrics["rmse"], "interval": metrics["intervals"]["rmse"], "n_faces": int(rows.sum())}
    return described


def describe_translation(translation: Ridge, mesh, content: bytes, validation: Faces, test: Faces) -> dict:
    "What MediaPipe is, and how far its translated answers alone are off."
    rmse = {}
    for name, faces in (("validation", validation), ("kept_out", test)):
        answers = translation.predict(mesh_features(mesh, faces.images)).reshape(-1, len(KEYPOINTS), 2)
        rmse[name] = evaluate_points(answers.astype(np.float32), faces.points, faces.group)["rmse"]
    return {"wheel": WHEEL, "sha256": hashlib.sha256(content).hexdigest(), "rmse": rmse}


def read_options() -> argparse.Namespace:
    "What the command says."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", required=True, help="photographs with points: trained on, and measured on the groups kept out")
    parser.add_argument("--more", required=True, help="more faces with marks of another kind, trained on only")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "facekp" / "peers", help="where MediaPipe's wheel is kept")
    parser.add_argument("--drawn", type=int, default=6_000, help="faces to draw")
    parser.add_argument("--images", type=int, default=800_000, help="images shown")
    parser.add_argument("--copies", type=float, default=1.0, help="augmented copies, as a multiple of " + ", ".join(f"{count:,} {name}" for name, count in COPIES.items()))
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--without", nargs="*", default=[], choices=PARTS, help="parts to leave out")
    parser.add_argument("--everything", action="store_true", help="learn from the faces kept out as well; measures nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="also write the JSON record there")
    return parser.parse_args()


def draw(options) -> Faces:
    "The drawn faces of the run."
    file = options.out / "drawn.npz"
    if not file.exists():
        save_npz(draw_faces(options.drawn, seed=0), file)
    return load_faces(file)


def add_stages(record_file: Path, stages: list[dict]) -> None:
    "The record of the twin that was measured gets the stages of the one that ships."
    record = json.loads(record_file.read_text(encoding="utf-8"))
    record["stages"] = [stage for stage in record["stages"] if "ships" not in stage["stage"]] + stages
    record["seconds_in_all"] = sum(stage["seconds"] for stage in record["stages"])
    write_json(record_file, record)


def main() -> None:
    options = read_options()
    options.out.mkdir(parents=True, exist_ok=True)
    faces, more = load_faces(options.faces), load_faces(options.more)
    train, test = split_by_group(faces, 0.2, 0)
    train, validation = split_by_group(train, 0.15, 0)
    content = fetch_mediapipe(options.cache)
    mesh = open_mediapipe(content)
    drawn = draw(options)
    name = "-".join(["everything" if options.everything else "default", *options.without, f"seed{options.seed}"])
    parts, translation = collect(options, faces if options.everything else train, more, drawn, mesh)
    trainings = train_twice(options, parts, validation, name)
    model = trainings[-1][1].model
    save_model(model, options.out / f"{name}.keras")
    which = "all photographs, ships" if options.everything else "measured here"
    stages = [{"stage": f"{stage} ({which})", "images_shown": training.images_shown, "seconds": round(training.seconds)} for stage, training in trainings]
    write_json(options.out / f"{name}-stages.json", stages)
    if options.everything:
        if options.save:
            add_stages(options.save, stages)
        return
    judged = validation if options.without else test  # an ablation chooses, so it may not look at what was kept out
    predicted, mirrored = predict_points(model, judged.images), mean_answer(model, judged.images)
    copies = sum(round(COPIES[part] * options.copies) for part in parts)
    history = [{**entry, "stage": number} for number, (_, training) in enumerate(trainings, 1) for entry in training.history]
    arguments = [f"--faces {Path(options.faces).name} --more {Path(options.more).name} --drawn {options.drawn} --images {options.images}",
                 f"--copies {options.copies:g} --learning-rate {options.learning_rate:g} --seed {options.seed} --out runs/default", *(["--without", *options.without] if options.without else [])]
    record = {"model": "default" if not options.without else name, "labels": "complete", "augment": round(copies / sum(map(len, parts.values())), 1), "profile": "full",
              "seed": options.seed, "without": options.without,
              "data": {**describe_data(train, validation, judged), "measured_on": "validation" if options.without else "kept out",
                       "files": {Path(file).name: sha256_of_file(file) for file in (options.faces, options.more)},
                       "n_more": len(parts.get("frames", [])), "n_drawn": len(parts.get("drawings", [])), "n_with_copies": copies,
                       "split": "split_by_group(faces, 0.2, 0), then split_by_group(rest, 0.15, 0): whole photographs, near copies on one side"},
              "budget": {"images": options.images, "learning_rate": options.learning_rate, "bend": BEND, "shares": SHARES, "last": LAST}, "weights": int(model.count_params()),
              "epochs": sum(training.epochs for _, training in trainings), "images_shown": sum(stage["images_shown"] for stage in stages),
              "seconds": sum(training.seconds for _, training in trainings),
              "metrics": evaluate_points(predicted, judged.points, judged.group), "mirrored": evaluate_points(mirrored, judged.points, judged.group),
              "by": describe_by(judged, predicted), "validation_rmse": min(entry["validation_rmse"] for entry in trainings[-1][1].history), "history": history,
              "machine": describe_machine(), "versions": describe_versions(), "mediapipe": describe_translation(translation, mesh, content, validation, judged),
              "stages": stages, "seconds_in_all": sum(stage["seconds"] for stage in stages), "command": " ".join(["python benchmarks/default_model.py", *arguments])}
    write_json(options.save or options.out / f"{name}.json", record)
    print(f"{name}: {record['metrics']['rmse']:.3f} px on {len(judged)} photographs, mirrored answers averaged in {record['mirrored']['rmse']:.3f} px, {record['seconds']:.0f} s")
    for source, part in record["by"]["source"].items():
        print(f"  {source}: {part['rmse']:.3f} px ({part['n_faces']} faces)")


if __name__ == "__main__":
    main()
