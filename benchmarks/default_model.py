"""Train the model that facekp ships, again and from nothing.

python benchmarks/default_model.py --faces helen_afw_96.npz --more youtube_faces_96.npz --out runs/default [--save results/deploy/default.json]

1. Draw faces and train on them alone. 2. Measure by that net, which knows no photograph, how the marks of `--more` and of the drawings differ from those of `--faces`, and take the difference out.
3. Go on with augmented copies of all three: photographs most often, then frames, then drawings. 4. Measure once on the groups of `--faces` that were kept out.
A run that was stopped goes on where it was. `--without` leaves a part out, for the ablation, which is measured on the faces that chose the best weights; `--everything` goes on training with the faces that were kept out, and measures nothing.
"""
import argparse
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from facekp.augment import augment_faces, mirror
from facekp.cnn import build_compact
from facekp.core import FLIP_ORDER, IMAGE_SIZE, Faces, concatenate, set_seeds, sha256_of_file, write_json
from facekp.data import load_faces, save_npz, split_by_group
from facekp.draw import draw_faces
from facekp.metrics import evaluate_points
from facekp.train import describe_data, describe_machine, describe_versions, fit, load_model, masked_mae, masked_mse, predict_points, save_model

PARTS = ("drawn-start", "drawn", "more", "alignment", "strong", "mae")
MIDDLE = (IMAGE_SIZE - 1) / 2
NOISE = np.random.default_rng(0).standard_normal(2**20, np.float32)  # what the grain of the copies is cut out of


def change(image: np.ndarray, points: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "One strongly augmented copy: moved, turned, scaled, stretched, mirrored, covered in part, blurred or coarsened, lit otherwise, noisy."
    if rng.random() < 0.5:
        image, points = mirror(image, points)
    angle, scale, stretch = np.deg2rad(rng.normal(0, 12)), np.exp(rng.normal(0, 0.08)), np.exp(rng.normal(0, 0.03))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([stretch, 1 / stretch])
    offset = MIDDLE - turn @ [MIDDLE, MIDDLE] + rng.normal(0, 3, 2)
    border = cv2.BORDER_REPLICATE if rng.random() < 0.7 else cv2.BORDER_CONSTANT
    copy = cv2.warpAffine(image, np.column_stack([turn, offset]), (IMAGE_SIZE, IMAGE_SIZE), flags=cv2.INTER_LINEAR, borderMode=border,
                          borderValue=float(rng.integers(256)))
    if rng.random() < 0.25:
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
    return cv2.add(cv2.LUT(copy, curve), grain, dtype=cv2.CV_8U), (points @ turn.T + offset).astype(np.float32)


def cover(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> None:
    "Put a patch of another picture, or of one grey, in front of a part of the face."
    width, height = rng.integers(10, 40, 2)
    left, top = rng.integers(0, IMAGE_SIZE - width), rng.integers(0, IMAGE_SIZE - height)
    patch = other[top:top + height, left:left + width] if rng.random() < 0.5 else np.full((height, width), rng.integers(256), np.uint8)
    image[top:top + height, left:left + width] = patch


def strong_copies(faces: Faces, copies: int, seed: int) -> Faces:
    "The faces and strongly augmented copies of each."
    rng = np.random.default_rng(seed)
    cv2.setNumThreads(1)  # pictures this small are not worth a second thread
    changed = [change(faces.images[row], faces.points[row], faces.images, rng) for row in np.tile(np.arange(len(faces)), copies)]
    more = replace(concatenate([faces] * copies), images=np.stack([image for image, _ in changed]), points=np.stack([points for _, points in changed]), truth=None)
    return concatenate([replace(faces, truth=None), more])


def mean_answer(model, images: np.ndarray) -> np.ndarray:
    "The mean of the answers for pictures and for their mirror images."
    answers = predict_points(model, np.ascontiguousarray(images[:, :, ::-1]))[:, FLIP_ORDER]
    answers[..., 0] = IMAGE_SIZE - 1 - answers[..., 0]
    return (predict_points(model, images) + answers) / 2


def align(faces: Faces, reference: Faces, model) -> Faces:
    "Faces with the mean difference a keypoint between their marks and those of the reference taken out, as a net sees it that learned from neither."
    difference = [np.nanmedian(mean_answer(model, part.images) - part.points, axis=0) for part in (faces, reference)]
    return replace(faces, points=(faces.points + difference[0] - difference[1]).astype(np.float32))


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


def start(options, out: Path):
    "A net that has learned from drawn faces, and these faces."
    drawn_file, net_file = out / "drawn.npz", out / "drawn.keras"
    if not drawn_file.exists():
        save_npz(draw_faces(options.drawn, seed=0), drawn_file)
    drawn = load_faces(drawn_file)
    if not net_file.exists():
        set_seeds(options.seed)
        held_out = len(drawn) // 21
        model = build_compact()
        fit(model, augment_faces(drawn[held_out:], copies=1, seed=options.seed), drawn[:held_out], images_shown=options.drawn_images, learning_rate=3e-3,
            seed=options.seed, run_folder=out / "drawn", resume=True)
        save_model(model, net_file)
    return load_model(net_file), drawn


def collect(options, train: Faces, more: Faces, drawn: Faces) -> Faces:
    "What the second training learns from."
    copy = (lambda faces, copies, seed: augment_faces(faces, copies, seed)) if "strong" in options.without else strong_copies
    parts = [copy(train, options.copies, options.seed + 1)]
    if "more" not in options.without:
        parts.append(copy(more, max(1, options.copies // 15), options.seed + 2))
    if "drawn" not in options.without:
        parts.append(copy(drawn, 1, options.seed + 3))
    return concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", required=True, help="photographs with points: trained on, and measured on the groups kept out")
    parser.add_argument("--more", required=True, help="more faces with marks of another kind, trained on only")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--drawn", type=int, default=14_700, help="faces to draw")
    parser.add_argument("--drawn-images", type=int, default=240_000, help="images shown in the first training")
    parser.add_argument("--images", type=int, default=600_000, help="images shown in the second training")
    parser.add_argument("--copies", type=int, default=60, help="augmented copies of each photograph; of --more a fifteenth as many, of a third of the drawings one")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--without", nargs="*", default=[], choices=PARTS, help="parts to leave out")
    parser.add_argument("--everything", action="store_true", help="go on from the run's model with the faces kept out as well; measures nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="also write the JSON record there")
    options = parser.parse_args()
    started = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    faces, more = load_faces(options.faces), load_faces(options.more)
    train, test = split_by_group(faces, 0.2, 0)
    train, validation = split_by_group(train, 0.15, 0)
    model, drawn = start(options, options.out)
    drawn = drawn[:len(drawn) // 3]
    if "alignment" not in options.without:
        more, drawn = align(more, train, model), align(drawn, train, model)
    if "drawn-start" in options.without:
        set_seeds(options.seed)
        model = build_compact()
    name = "-".join(["everything" if options.everything else "default", *options.without, f"seed{options.seed}"])
    if options.everything:
        model, train = load_model(options.out / f"default-seed{options.seed}.keras"), faces
    learned = collect(options, train, more, drawn)
    print(f"{name}: {len(train)} photographs to learn from, {len(validation)} to choose by, {len(test)} kept out; with copies {len(learned)}", flush=True)
    training = fit(model, learned, validation, images_shown=options.images, learning_rate=options.learning_rate, seed=options.seed, patience=10**6,
                   loss=masked_mse if "mae" in options.without else masked_mae, run_folder=options.out / name, resume=True,
                   faces_an_epoch=min(20_000, max(2_000, options.images // 10)))
    save_model(model, options.out / f"{name}.keras")
    if options.everything:
        return
    if options.without:
        test = validation  # an ablation chooses, so it may not look at what was kept out
    predicted, mirrored = predict_points(model, test.images), mean_answer(model, test.images)
    arguments = [f"--faces {Path(options.faces).name} --more {Path(options.more).name} --drawn {options.drawn} --drawn-images {options.drawn_images}",
                 f"--images {options.images} --copies {options.copies} --learning-rate {options.learning_rate:g} --seed {options.seed}"]
    record = {"model": "default" if not options.without else name, "labels": "complete", "augment": options.copies, "profile": "full", "seed": options.seed,
              "without": options.without, "data": {**describe_data(train, validation, test), "measured_on": "validation" if options.without else "kept out", "files": {Path(file).name: sha256_of_file(file) for file in (options.faces, options.more)},
                                                   "n_more": len(more), "n_drawn": len(drawn), "n_with_copies": len(learned),
                                                   "split": "split_by_group(faces, 0.2, 0), then split_by_group(rest, 0.15, 0): whole photographs, near copies on one side"},
              "budget": {"images": options.images, "drawn_images": options.drawn_images, "learning_rate": options.learning_rate}, "weights": int(model.count_params()),
              "epochs": training.epochs, "images_shown": training.images_shown, "seconds": training.seconds, "seconds_in_all": time.perf_counter() - started,
              "metrics": evaluate_points(predicted, test.points, test.group), "mirrored": evaluate_points(mirrored, test.points, test.group),
              "by": describe_by(test, predicted), "validation_rmse": min(entry["validation_rmse"] for entry in training.history), "history": training.history,
              "machine": describe_machine(), "versions": describe_versions(),
              "command": " ".join(["python benchmarks/default_model.py", *arguments, *(["--without", *options.without] if options.without else [])])}
    write_json(options.save or options.out / f"{name}.json", record)
    print(f"{name}: {record['metrics']['rmse']:.3f} px on {len(test)} photographs, mirrored answers averaged in {record['mirrored']['rmse']:.3f} px, "
          f"{training.seconds:.0f} s")
    for source, part in record["by"]["source"].items():
        print(f"  {source}: {part['rmse']:.3f} px ({part['n_faces']} faces)")


if __name__ == "__main__":
    main()
