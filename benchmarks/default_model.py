"""Train the model that facekp ships, again and from nothing.

python benchmarks/default_model.py --faces helen_afw_96.npz --more youtube_faces_96.npz --imagenet mobilenet_v2_notop.weights.h5 --out runs/default \\
    [--save results/deploy/default.json]

1. Draw faces and train on them alone. 2. Measure by that net, which knows no photograph, how the marks of `--more` and of the drawings differ from those of `--faces`, and take the difference out.
3. Train a larger net, MobileNetV2 with ImageNet's weights, on augmented copies of all three: photographs most often, then frames, then drawings. It is too slow to ship, and teaches.
4. Go on with the small net: its copies are bent as well, and their marks are the mean of the marks given and the teacher's answers. 5. Measure once on the groups of `--faces` that were kept out.
A run that was stopped goes on where it was. `--without` leaves a part out, for the ablation, which is measured on the faces that chose the best weights; `--everything` goes on training with the faces that were kept out, and measures nothing.
"""
import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import keras
import numpy as np

from facekp.augment import augment_faces, mirror
from facekp.cnn import PlacePrior, SoftArgmax, build_compact
from facekp.core import FLIP_ORDER, IMAGE_SIZE, KEYPOINTS, Faces, concatenate, set_seeds, sha256_of_file, write_json
from facekp.data import load_faces, save_npz, split_by_group
from facekp.draw import draw_faces
from facekp.metrics import evaluate_points
from facekp.train import (
    Training,
    describe_data,
    describe_machine,
    describe_versions,
    fit,
    load_model,
    masked_mae,
    masked_mse,
    predict_points,
    save_model,
)
from facekp.transfer import LayerwiseAdam

PARTS = ("drawn-start", "drawn", "more", "alignment", "strong", "mae", "bent", "teacher")
MIDDLE = (IMAGE_SIZE - 1) / 2
GRID = np.stack(np.meshgrid(*[np.arange(IMAGE_SIZE, dtype=np.float32)] * 2), axis=-1)
BEND = 2.0  # px, the most that the handles of a copy are pulled about
TEACHER = {"images": 300_000, "learning_rate": 2e-3, "body_share": 0.15}  # the body's rate is this share of the head's
SHARES = {"photographs": 0.5, "frames": 0.7}  # of the teacher's answers in the marks that the small net learns; of drawings the marks are exact
NOISE = np.random.default_rng(0).standard_normal(2**20, np.float32)  # what the grain of the copies is cut out of


def change(image: np.ndarray, points: np.ndarray, others: np.ndarray, rng: np.random.Generator, bend: float) -> tuple[np.ndarray, np.ndarray]:
    "One strongly augmented copy: moved, turned, scaled, stretched, bent, mirrored, covered in part, blurred or coarsened, lit otherwise, noisy."
    if rng.random() < 0.5:
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


def strong_copies(faces: Faces, copies: int, seed: int, bend: float = 0.0) -> Faces:
    "The faces and strongly augmented copies of each."
    rng = np.random.default_rng(seed)
    cv2.setNumThreads(1)  # pictures this small are not worth a second thread
    changed = [change(faces.images[row], faces.points[row], faces.images, rng, bend) for row in np.tile(np.arange(len(faces)), copies)]
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


def describe_stage(name: str, training: Training) -> dict:
    "A line of the table of stages."
    return {"stage": name, "images_shown": training.images_shown, "seconds": round(training.seconds)}


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
        training = fit(model, augment_faces(drawn[held_out:], copies=1, seed=options.seed), drawn[:held_out], images_shown=options.drawn_images,
                       learning_rate=3e-3, seed=options.seed, run_folder=out / "drawn", resume=True)
        save_model(model, net_file)
        write_json(out / "drawn.json", describe_stage("drawn faces alone", training))
    return load_model(net_file), drawn


def build_teacher(imagenet: Path | str) -> keras.Model:
    "MobileNetV2 up to its 6x6 map, its start and its normalization kept as ImageNet left them, and a way back to 24x24 heatmaps."
    grey = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="grey")
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(grey)
    whole = keras.applications.MobileNetV2(input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3), include_top=False, weights=None)
    whole.load_weights(imagenet)
    body = keras.Model(whole.input, [whole.get_layer(name).output for name in ("block_3_expand_relu", "block_6_expand_relu", "block_12_add")], name="body")
    start = [layer.name for layer in body.layers].index("block_1_project_BN")
    for place, layer in enumerate(body.layers):
        layer.trainable = place > start and not isinstance(layer, keras.layers.BatchNormalization)
    at_24, at_12, at_6 = (squeeze(features, filters) for features, filters in zip(body(keras.layers.Concatenate()([scaled] * 3)), (32, 48, 96)))
    x = look(at_6)
    for finer in (at_12, at_24):
        x = keras.layers.UpSampling2D(interpolation="bilinear")(squeeze(x, finer.shape[-1], bend=False))
        x = look(keras.layers.Add()([x, finer]))
    heatmaps = PlacePrior(name="prior")(keras.layers.Conv2D(len(KEYPOINTS), 1, name="heatmaps")(x))
    return keras.Model(grey, SoftArgmax(name="points")(heatmaps), name="teacher")


def squeeze(x, filters: int, bend: bool = True):
    "A map with fewer layers."
    x = keras.layers.BatchNormalization(momentum=0.9)(keras.layers.Conv2D(filters, 1, use_bias=False)(x))
    return keras.layers.ReLU()(x) if bend else x


def look(x):
    "A map and what a convolution finds in it, added."
    found = keras.layers.BatchNormalization(momentum=0.9)(keras.layers.Conv2D(x.shape[-1], 3, padding="same", use_bias=False)(x))
    return keras.layers.Add()([x, keras.layers.ReLU()(found)])


def teach_teacher(options, train: Faces, validation: Faces, more: Faces, drawn: Faces) -> keras.Model:
    "The larger net, trained, or as an earlier start left it."
    file = options.out / "teacher.weights.h5"
    set_seeds(options.seed)
    teacher = build_teacher(options.imagenet)
    if file.exists():
        teacher.load_weights(file)
        return teacher
    body = {id(array) for array in teacher.get_layer("body").trainable_variables}
    rates = [TEACHER["body_share"] if id(array) in body else 1.0 for array in teacher.trainable_variables]
    training = fit(teacher, concatenate(list(copies_of(options, train, more, drawn, bend=0).values())), validation, images_shown=TEACHER["images"],
                   learning_rate=TEACHER["learning_rate"], seed=options.seed, patience=10**6, loss=masked_mae, run_folder=options.out / "teacher",
                   resume=True, faces_an_epoch=20_000, optimizer=partial(LayerwiseAdam, rates=rates))
    teacher.save_weights(file)
    write_json(options.out / "teacher.json", {**describe_stage("the teacher", training), "history": training.history, "weights": int(teacher.count_params())})
    return teacher


def add_stage(record: dict, stage: dict) -> None:
    "One more stage of the training, and its time."
    record["stages"] = [*record.get("stages", []), stage]
    record["seconds_in_all"] = sum(each["seconds"] for each in record["stages"])


def describe_teacher(options, teacher: keras.Model, validation: Faces, test: Faces) -> dict:
    "What the teacher is and does."
    rmse = {name: evaluate_points(predict_points(teacher, faces.images), faces.points, faces.group)["rmse"]
            for name, faces in (("validation", validation), ("kept_out", test))}
    return {**json.loads((options.out / "teacher.json").read_text()), "budget": TEACHER, "imagenet_sha256": sha256_of_file(options.imagenet), "rmse": rmse}


def copies_of(options, train: Faces, more: Faces, drawn: Faces, bend: float) -> dict[str, Faces]:
    "Augmented copies of all that there is to learn from."
    copy = (lambda faces, copies, seed: augment_faces(faces, copies, seed)) if "strong" in options.without else partial(strong_copies, bend=bend)
    parts = {"photographs": copy(train, options.copies, options.seed + 1)}
    if "more" not in options.without:
        parts["frames"] = copy(more, max(1, options.copies // 15), options.seed + 2)
    if "drawn" not in options.without:
        parts["drawings"] = copy(drawn, 1, options.seed + 3)
    return parts


def collect(options, train: Faces, more: Faces, drawn: Faces, teacher: keras.Model | None, unknown: Faces | None) -> Faces:
    "What the second training learns from; `unknown` photographs, which the teacher has not learned from, keep their marks."
    parts = copies_of(options, train, more, drawn, 0 if "bent" in options.without else BEND)
    if teacher:
        for name, share in ((name, SHARES[name]) for name in parts if name in SHARES):
            answers = mean_answer(teacher, parts[name].images)
            parts[name] = replace(parts[name], points=((1 - share) * parts[name].points + share * answers).astype(np.float32))
    if unknown:
        parts["unknown"] = strong_copies(unknown, options.copies, options.seed + 4, BEND)
    return concatenate(list(parts.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", required=True, help="photographs with points: trained on, and measured on the groups kept out")
    parser.add_argument("--more", required=True, help="more faces with marks of another kind, trained on only")
    parser.add_argument("--imagenet", help="weights of Keras's MobileNetV2 without its top, for the teacher; not needed with --without teacher")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--drawn", type=int, default=14_700, help="faces to draw")
    parser.add_argument("--drawn-images", type=int, default=240_000, help="images shown in the first training")
    parser.add_argument("--images", type=int, default=240_000, help="images shown in the second training")
    parser.add_argument("--copies", type=int, default=30, help="augmented copies of each photograph; of --more a fifteenth as many, of a third of the drawings one")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--without", nargs="*", default=[], choices=PARTS, help="parts to leave out")
    parser.add_argument("--everything", action="store_true", help="go on from the run's model with the faces kept out as well; measures nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="also write the JSON record there")
    options = parser.parse_args()
    if not options.imagenet and "teacher" not in options.without:
        parser.error("the teacher needs --imagenet FILE; or leave it out: --without teacher")
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
    teacher = None if "teacher" in options.without else teach_teacher(options, train, validation, more, drawn)
    if options.everything:
        model = load_model(options.out / f"default-seed{options.seed}.keras")
    learned = collect(options, train, more, drawn, teacher, concatenate([validation, test]) if options.everything else None)
    print(f"{name}: {len(train)} photographs to learn from, {len(validation)} to choose by, {len(test)} kept out; with copies {len(learned)}", flush=True)
    training = fit(model, learned, validation, images_shown=options.images, learning_rate=options.learning_rate, seed=options.seed, patience=10**6,
                   loss=masked_mse if "mae" in options.without else masked_mae, run_folder=options.out / name, resume=True,
                   faces_an_epoch=min(20_000, max(2_000, options.images // 10)))
    save_model(model, options.out / f"{name}.keras")
    if options.everything:
        if options.save:  # the record of the twin that was measured gets one more line
            record = json.loads(options.save.read_text())
            add_stage(record, {**describe_stage("the net that ships: all photographs", training), "learning_rate": options.learning_rate})
            write_json(options.save, record)
        return
    if options.without:
        test = validation  # an ablation chooses, so it may not look at what was kept out
    predicted, mirrored = predict_points(model, test.images), mean_answer(model, test.images)
    arguments = [f"--faces {Path(options.faces).name} --more {Path(options.more).name} --drawn {options.drawn} --drawn-images {options.drawn_images}",
                 *([f"--imagenet {Path(options.imagenet).name}"] if teacher else []),
                 f"--images {options.images} --copies {options.copies} --learning-rate {options.learning_rate:g} --seed {options.seed}"]
    record = {"model": "default" if not options.without else name, "labels": "complete", "augment": options.copies, "profile": "full", "seed": options.seed,
              "without": options.without, "data": {**describe_data(train, validation, test), "measured_on": "validation" if options.without else "kept out", "files": {Path(file).name: sha256_of_file(file) for file in (options.faces, options.more)},
                                                   "n_more": len(more), "n_drawn": len(drawn), "n_with_copies": len(learned),
                                                   "split": "split_by_group(faces, 0.2, 0), then split_by_group(rest, 0.15, 0): whole photographs, near copies on one side"},
              "budget": {"images": options.images, "drawn_images": options.drawn_images, "learning_rate": options.learning_rate, "bend": BEND, "shares": SHARES}, "weights": int(model.count_params()),
              "epochs": training.epochs, "images_shown": training.images_shown, "seconds": training.seconds,
              "metrics": evaluate_points(predicted, test.points, test.group), "mirrored": evaluate_points(mirrored, test.points, test.group),
              "by": describe_by(test, predicted), "validation_rmse": min(entry["validation_rmse"] for entry in training.history), "history": training.history,
              "machine": describe_machine(), "versions": describe_versions(),
              "teacher": describe_teacher(options, teacher, validation, test) if teacher else None,
              "command": " ".join(["python benchmarks/default_model.py", *arguments, *(["--without", *options.without] if options.without else [])])}
    for stage in [json.loads(file.read_text()) for file in (options.out / "drawn.json", options.out / "teacher.json") if file.exists()]:
        add_stage(record, {key: stage[key] for key in ("stage", "images_shown", "seconds", "stopped") if key in stage})
    add_stage(record, {**describe_stage("the net measured here", training), "learning_rate": options.learning_rate})
    write_json(options.save or options.out / f"{name}.json", record)
    print(f"{name}: {record['metrics']['rmse']:.3f} px on {len(test)} photographs, mirrored answers averaged in {record['mirrored']['rmse']:.3f} px, "
          f"{training.seconds:.0f} s")
    for source, part in record["by"]["source"].items():
        print(f"  {source}: {part['rmse']:.3f} px ({part['n_faces']} faces)")


if __name__ == "__main__":
    main()
