"""Train the shipped model from scratch.

python recipes/default/train.py --faces helen_afw_96.npz --more youtube_faces_96.npz --out runs/default [--save results/deploy/default.json] [--everything]

1. Render synthetic faces. Predict the 478 points of MediaPipe's Attention Mesh (mediapipe_landmarks.py, in a separate environment) for every face and its mirror image. Fit a ridge
   regression from these to the 15 keypoints of `--faces`; each photograph is predicted from a fit on other photographs.
2. Estimate with these predictions the constant offset of the labels of `--more` and of the synthetic faces against those of `--faces`, and remove it.
3. Blend labels with the predictions: the errors of two annotators with different habits partly cancel.
4. Remove the horizontal bias of the labels of `--faces`, which mirror images reveal: mirrored copies have the opposite bias, and a network cannot fit both.
5. Train the small network on augmented copies (facekp.augment.strong_recipe) of photographs, video frames and synthetic faces; the best weights are chosen on the validation set (a part of the photographs).
6. Continue from there with new copies, twice, once without synthetic faces, and average the weights of both.
7. Blend the network's own predictions into the labels of `--more`, continue twice again, and average the weights.
8. Blend again, and continue with all photographs except the test set, with copies that are not mirrored and labels with their original bias, twice, and average the weights.
9. Score the result once on the test set.

The network sees the window of a face that contains its keypoints, enlarged (facekp.models.layers.CLOSE_WINDOW): it is trained on copies of this window, and the enlargement becomes its first
layer afterwards. With `--everything`, step 8 includes the test set, and nothing is scored: these weights are shipped. An interrupted run continues from its last state.
For the ablation, `--without` omits a part and `--instead` replaces one. Then, and with `--ablation`, step 8 uses the photographs of step 5 only, and the result is scored on the validation
set. Needs: make dev
"""
import argparse
import hashlib
import json
import os
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import joblib
import keras
import numpy as np
import tensorflow as tf
from alternatives import SoftmaxWithLogits, build_coordinates, coordinate_loss, masked_wing
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict

from facekp.augment import apply_recipe, mirror, strong_recipe
from facekp.augment_bulk import augment_faces
from facekp.data.npz import save_npz
from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.errors import UserError
from facekp.evaluation import evaluate_points
from facekp.experiments.measurement import read_measurement, write_measurement
from facekp.experiments.record import describe_data
from facekp.faces import Faces, concatenate
from facekp.files import hash_file, write_json
from facekp.keypoints import FLIP_ORDER, IMAGE_SIZE, KEYPOINTS
from facekp.metrics import rmse
from facekp.models.compact import build_compact
from facekp.models.files import load_model, save_model
from facekp.models.layers import CLOSE_WINDOW, FULL_WINDOW
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.batches import predict_points
from facekp.training.loop import fit
from facekp.training.losses import masked_mae, masked_mse
from facekp.training.seeds import set_seeds

PARTS = ("mediapipe", "frames", "synthetic", "strong", "warp", "occlusion", "outlier_removal", "bias_correction", "mae", "weight_decay", "window", "second_stage", "pseudo_labels", "third_stage",
         "averaging", "final_stage")
LATER = {"first": ("second_stage", "pseudo_labels", "third_stage", "averaging", "final_stage"), "second": ("pseudo_labels", "third_stage", "final_stage"),
         "third": ("final_stage",)}  # parts of later stages, which do not change the result of a stage
WARP = 2.0  # px, maximal standard deviation of the local warp's control points
OCCLUDED = 0.3  # share of the copies that are partly occluded
SHARES = {"photographs": 0.5, "frames": 0.7}  # weight of the MediaPipe predictions in the labels; labels of synthetic faces are exact
RIDGE_ALPHA, FOLDS = 3_200.0, 8  # ridge regression: alpha for pixels, and folds of the cross-validated predictions
PSEUDO_LABEL_SHARE = 0.5  # weight of the network's own predictions in the labels of frames, in the third and the final stage
OUTLIER_SHARE = 0.03  # share of frames that are left out because label and prediction differ most
# Budget of each stage: augmented copies, images shown, initial learning rate of Adam, and share of mirrored copies
FIRST = [{"copies": {"photographs": 97_000, "frames": 58_000, "synthetic": 36_000}, "images": 800_000, "learning_rate": 4e-3, "mirrored": 0.5}]
SECOND = [{"copies": copies, "images": 800_000, "learning_rate": 3e-3, "mirrored": 0.5}
         for copies in ({"photographs": 193_500, "frames": 93_000}, {"photographs": 145_500, "frames": 87_000, "synthetic": 54_000})]
THIRD = 2 * [{"copies": {"photographs": 145_500, "frames": 87_000, "synthetic": 54_000}, "images": 640_000, "learning_rate": 3e-3, "mirrored": 0.5}]
FINAL = 2 * [{"copies": {"photographs": 67_900, "frames": 40_600, "synthetic": 25_200}, "images": 160_000, "learning_rate": 1.5e-3, "mirrored": 0.0}]
TITLES = {"first": "stage 1", "second": "stage 2", "third": "stage 3", "held_out": "final stage", "everything": "final stage"}
INSTEAD = ("wing", "coordinates")  # of alternatives.py
WEIGHT_DECAY = 0.02  # weight decay of convolutions, per step at a learning rate of 1
SYNTHETIC_PREDICTED = 1_000  # synthetic faces with MediaPipe predictions
CHUNK = 2_000  # copies per job of a process


class FusedBatchNormalization(keras.layers.BatchNormalization):
    "Keras's batch normalisation as a single fused TensorFlow operation."

    def call(self, inputs, training=None, mask=None):
        normalize = partial(tf.compat.v1.nn.fused_batch_norm, tf.cast(inputs, self.compute_dtype), tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32), epsilon=self.epsilon)
        if not training:
            return normalize(mean=tf.cast(self.moving_mean, tf.float32), variance=tf.cast(self.moving_variance, tf.float32), is_training=False)[0]
        normalised, mean, variance = normalize(is_training=True)
        count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
        for kept, seen in ((self.moving_mean, mean), (self.moving_variance, variance * (count - 1) / count)):  # TensorFlow returns the sample variance
            kept.assign(kept * self.momentum + seen * (1 - self.momentum))
        return normalised


class BilinearUpsampling(keras.layers.Layer):
    "Bilinear upsampling by 2, as Keras's UpSampling2D without its overflow check."

    def call(self, maps):
        return tf.cast(tf.raw_ops.ResizeBilinear(images=maps, size=[2 * maps.shape[1], 2 * maps.shape[2]], half_pixel_centers=True), maps.dtype)


def make_fast(model: keras.Model, dtype: str) -> keras.Model:
    "Return the same network with faster layers for training on a CPU; the soft-argmax stays in float32, because 16 bits would round positions."
    def copy(layer):
        config = {**layer.get_config(), "dtype": "float32" if layer.name in ("prior", "points", "heatmaps", "probabilities", "expected_position") else dtype}
        if isinstance(layer, keras.layers.Softmax):
            return SoftmaxWithLogits.from_config(config)
        if isinstance(layer, keras.layers.BatchNormalization):
            return FusedBatchNormalization.from_config(config)
        if isinstance(layer, keras.layers.UpSampling2D):
            return BilinearUpsampling(name=layer.name, dtype=dtype)
        return type(layer).from_config(layer.get_config() if isinstance(layer, keras.layers.InputLayer) else config)

    fast = keras.models.clone_model(model, clone_function=copy)
    fast.set_weights(model.get_weights())
    return fast


def copy_chunk(faces: Faces, seed: int, window: tuple, strengths: dict) -> Faces:
    "Return one copy of each face by `strong_recipe`, cropped to a window and enlarged."
    cv2.setNumThreads(1)  # images this small do not benefit from a second thread
    recipe = strong_recipe(seed, **strengths)
    copies = [apply_recipe(recipe, image, points) for image, points in zip(faces.images, faces.points)]
    images, points = (np.stack(arrays) for arrays in zip(*copies))
    return enlarge(replace(faces, images=images, points=points, truth=None), window)


def strong_copies(faces: Faces, count: int, seed: int, window: tuple = FULL_WINDOW, **strengths) -> Faces:
    "Make strongly augmented copies on all cores, with each face used equally often (or once more); `strengths` is passed to `strong_recipe`."
    passes = [np.random.default_rng([seed, turn]).permutation(len(faces)) for turn in range(-(-count // len(faces)))]
    rows = np.concatenate(passes)[:count]
    jobs = (joblib.delayed(copy_chunk)(faces[rows[start:start + CHUNK]], 1_000 * seed + start // CHUNK, window, strengths) for start in range(0, count, CHUNK))
    return concatenate(joblib.Parallel(n_jobs=-1, idle_worker_timeout=5)(jobs), faces.name)


def enlargement(window: tuple) -> tuple[np.ndarray, np.float32]:
    "Return the upper left corner of a window, and the scale from window to image."
    return np.float32(window[:2]), np.float32(IMAGE_SIZE / window[2])


def enlarge(faces: Faces, window: tuple = CLOSE_WINDOW) -> Faces:
    "Crop faces and points to a window and enlarge it to the size of a face."
    left, top, side = window
    corner, enlarged = enlargement(window)
    images = np.stack([cv2.resize(image[top:top + side, left:left + side], (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR) for image in faces.images])
    return replace(faces, images=images, points=(faces.points - corner + np.float32(0.5)) * enlarged - np.float32(0.5), truth=None)


def build_for(options, window: tuple) -> keras.Model:
    "Build an untrained network for a window of the face."
    return (build_coordinates if "coordinates" in options.instead else build_compact)(window)


def with_window(model: keras.Model, other: keras.Model) -> keras.Model:
    "Copy the weights into another network, which has another window."
    other.set_weights(model.get_weights())
    return other


def predict_with_mirror(model, images: np.ndarray) -> np.ndarray:
    "Return the mean of the predictions for images and for their mirror images."
    turned = np.ascontiguousarray(images[:, :, ::-1])
    return (predict_points(model, images) + mirror(turned, predict_points(model, turned))[1]) / 2


def mediapipe_predictions(options, file: Path, rows: int | None = None) -> np.ndarray:
    "Return the MediaPipe predictions for the faces of a file [N,1912]: points of the image and of its mirror image, in pixels."
    kept = options.out / "mediapipe" / file.name
    if not kept.exists():
        script = Path(__file__).with_name("mediapipe_landmarks.py")
        subprocess.run([options.mediapipe, script, "--out", kept.parent, file, *(["--rows", str(rows)] if rows else [])], check=True)
    with np.load(kept, allow_pickle=False) as saved, np.load(file, allow_pickle=False) as source:
        points = saved["points"]
        if str(saved["sha256"]) != hashlib.sha256(source["images"][:rows].tobytes()).hexdigest():
            raise UserError(f"{kept}: predictions for other faces than those of {file}; delete it to predict again")
    return np.clip(points, -20, IMAGE_SIZE + 20).reshape(len(points), -1).astype(float)


def mirror_predictions(features: np.ndarray) -> np.ndarray:
    "Return the MediaPipe predictions as they would be for the mirror images of the faces."
    turned = features.reshape(len(features), 2, -1, 2)[:, ::-1].copy()
    turned[..., 0] = IMAGE_SIZE - 1 - turned[..., 0]
    return turned.reshape(features.shape)


def fit_ridge(faces: Faces, features: np.ndarray) -> tuple[Ridge, np.ndarray]:
    "Fit the ridge regression from MediaPipe predictions to labels; return it with its cross-validated predictions [N,15,2]."
    labels = faces.points.reshape(len(faces), -1)
    predictions = cross_val_predict(Ridge(RIDGE_ALPHA), features, labels, groups=faces.group, cv=GroupKFold(FOLDS))
    return Ridge(RIDGE_ALPHA).fit(features, labels), predictions.reshape(-1, len(KEYPOINTS), 2)


def horizontal_bias(faces: Faces, features: np.ndarray) -> np.ndarray:
    "Return the bias of the labels to the right [15,2], in pixels, against a ridge regression fitted on faces and mirror images."
    turned = mirror(faces.images, faces.points)[1]
    unbiased = Ridge(RIDGE_ALPHA).fit(np.concatenate([features, mirror_predictions(features)]), np.concatenate([faces.points, turned]).reshape(2 * len(faces), -1))
    bias = np.median(faces.points - unbiased.predict(features).reshape(faces.points.shape), axis=0)[:, 0]
    return np.column_stack([(bias + bias[FLIP_ORDER]) / 2, np.zeros(len(KEYPOINTS))]).astype(np.float32)


def align(faces: Faces, labels: np.ndarray, predictions: np.ndarray) -> Faces:
    "Remove the median difference between labels and predictions of each keypoint."
    return replace(faces, points=(faces.points + np.nanmedian(predictions - labels, axis=0)).astype(np.float32), truth=None)


def shift_labels(faces: Faces, offset: np.ndarray) -> Faces:
    "Shift the labels by an offset per keypoint."
    return replace(faces, points=faces.points + offset, truth=None)


def blend_labels(faces: Faces, predictions: np.ndarray, share: float) -> Faces:
    "Blend the labels with predictions; `share` is the weight of the predictions."
    return replace(faces, points=((1 - share) * faces.points + share * predictions).astype(np.float32), truth=None)


def rmse_per_face(faces: Faces, predictions: np.ndarray) -> np.ndarray:
    "Return the RMSE between labels and predictions of each face, in pixels."
    return np.array([rmse(predicted[None], points[None]) for predicted, points in zip(predictions, faces.points)])


def collect(options, photographs: Faces, mediapipe: np.ndarray, more: Faces, synthetic: Faces) -> tuple[dict[str, Faces], Ridge]:
    "Return all training faces before augmentation, with labels in the convention of the photographs, and the ridge regression."
    ridge, predictions = fit_ridge(photographs, mediapipe)
    shares = dict.fromkeys(SHARES, 0.0) if "mediapipe" in options.without else SHARES
    parts = {"photographs": blend_labels(photographs, predictions, shares["photographs"])}
    if "frames" not in options.without:
        predictions = ridge.predict(mediapipe_predictions(options, options.more)).reshape(-1, len(KEYPOINTS), 2)
        aligned = align(more, more.points, predictions)
        distance = rmse_per_face(aligned, predictions)
        parts["frames"] = blend_labels(aligned, predictions, shares["frames"])[distance <= np.quantile(distance, 1.0 if "outlier_removal" in options.without else 1 - OUTLIER_SHARE)]
    if "synthetic" not in options.without:
        predictions = ridge.predict(mediapipe_predictions(options, options.out / "synthetic.npz", SYNTHETIC_PREDICTED)).reshape(-1, len(KEYPOINTS), 2)
        parts["synthetic"] = align(synthetic, synthetic.points[:SYNTHETIC_PREDICTED], predictions)
    return parts, ridge


def window_of(options) -> tuple:
    "Return the window of the face that the network sees."
    return FULL_WINDOW if "window" in options.without else CLOSE_WINDOW


def augmented_copies(options, parts: dict[str, Faces], seed: int, budget: dict) -> Faces:
    "Return augmented copies of all parts of the training set, cropped to the window and enlarged as the network's first layer does it."
    window = window_of(options)
    strengths = {"warp": 0.0 if "warp" in options.without else WARP, "covered": 0.0 if "occlusion" in options.without else OCCLUDED, "mirrored": budget["mirrored"]}
    counts = {name: round(count * options.copies) for name, count in budget["copies"].items() if name in parts}
    if "strong" in options.without:
        copied = [enlarge(augment_faces(parts[name], max(1, count // len(parts[name])), seed)[:count], window) for name, count in counts.items()]
    else:
        copied = [strong_copies(parts[name], count, seed + place, window, **strengths) for place, (name, count) in enumerate(counts.items())]
    return concatenate(copied)


def adam_with_weight_decay(learning_rate) -> keras.optimizers.Optimizer:
    "Return Adam with weight decay on convolutions."
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias", "log_prior"])
    return optimizer


def loss_of(options, model: keras.Model):
    "Return the loss."
    if "coordinates" in options.instead:
        return coordinate_loss(model)
    if "wing" in options.instead:
        return masked_wing
    return masked_mse if "mae" in options.without else masked_mae


def train_branch(options, model: keras.Model, parts: dict[str, Faces], validation: Faces, name: str, seed: int, budget: dict) -> None:
    "Train a network on augmented copies, set its best weights, and write the network and its history."
    set_seeds(seed)
    parts = {kind: part for kind, part in parts.items() if kind in budget["copies"]}
    copies = augmented_copies(options, parts, seed, budget)
    print(f"{name}: {', '.join(f'{len(part)} {kind}' for kind, part in parts.items())} for training, {len(copies)} augmented copies", flush=True)
    fast = make_fast(with_window(model, build_for(options, FULL_WINDOW)), options.dtype)
    window = window_of(options)
    training = fit(fast, copies, enlarge(validation, window), seed=seed, patience=10**6, resume=True, run_folder=options.out / name,
                   images_shown=budget["images"], learning_rate=budget["learning_rate"], faces_per_epoch=min(20_000, len(copies)),
                   loss=loss_of(options, fast), optimizer=keras.optimizers.Adam if "weight_decay" in options.without else adam_with_weight_decay)
    model.set_weights(training.model.get_weights())
    save_model(model, options.out / f"{name}.keras")
    history = [{**entry, "validation_rmse": float(entry["validation_rmse"] / enlargement(window)[1])} for entry in training.history]  # in pixels of the face, not of the window
    write_json(options.out / f"{name}.json", {"stage": name, "images_shown": training.images_shown, "seconds": round(training.seconds), "history": history,
                                              "faces": {kind: len(part) for kind, part in parts.items()}, "copies": len(copies)})


def name_of(options, stage: str) -> str:
    "Return the file name of a stage, without extension."
    return "-".join([stage, *(part for part in options.without if part not in LATER.get(stage.rstrip("0123456789"), ())), *options.instead, f"seed{options.seed}"])


def branch(options, model: keras.Model, parts: dict[str, Faces], validation: Faces, stage: str, budgets: list[dict], seeds: list[int]) -> list[dict]:
    """Continue from the weights of a model once per budget, with different copies in a different order, and set the mean of all weights (Wortsman et al. 2022, arXiv:2203.05482).

    Branches that are already in the folder of the run are read from there."""
    budgets = budgets[:1] if "averaging" in options.without else budgets
    names, started = [name_of(options, f"{stage}{number}") for number in range(len(budgets))], model.get_weights()
    missing = [number for number, name in enumerate(names) if not (options.out / f"{name}.json").exists()]
    for number in missing:
        if options.only in (None, number):
            model.set_weights(started)
            train_branch(options, model, parts, validation, names[number], seeds[number], budgets[number])
    if missing and options.only is not None:
        raise SystemExit(f"{stage} {options.only} is finished; run the command again for the next branch, and without --only for the mean of all")
    branches = [load_model(options.out / f"{name}.keras").get_weights() for name in names]
    model.set_weights([np.mean(weights, axis=0) for weights in zip(*branches)])
    save_model(model, options.out / f"{name_of(options, stage)}.keras")
    return [{**json.loads((options.out / f"{name}.json").read_text(encoding="utf-8")), "stage": stage} for name in names]


def budgets_of(options) -> dict[str, list[dict]]:
    "Return the budget of each branch of each stage."
    shown = {"first": (FIRST, options.images), "second": (SECOND, options.second_images), "third": (THIRD, options.third_images), "final": (FINAL, options.final_images)}
    budgets = {name: [{**budget, "images": images} for budget in branches] for name, (branches, images) in shown.items()}
    budgets["first"][0]["learning_rate"] = options.learning_rate
    return budgets


def blend_pseudo_labels(options, model: keras.Model, parts: dict[str, Faces], offset: np.ndarray | float = 0.0) -> dict[str, Faces]:
    "Blend the network's own predictions into the labels of frames; `offset` is the bias of the labels that its predictions lack."
    if "frames" not in parts or "pseudo_labels" in options.without:
        return parts
    return {**parts, "frames": blend_labels(parts["frames"], predict_with_mirror(model, parts["frames"].images) + offset, PSEUDO_LABEL_SHARE)}


def train_first_stages(options, train: Faces, mediapipe: np.ndarray, validation: Faces, more: Faces, synthetic: Faces) -> tuple[keras.Model, list[dict], np.ndarray]:
    "Train the first stages from scratch, with mirrored copies and unbiased labels; return the network, the stages and the bias that was removed."
    offset = horizontal_bias(train, mediapipe) if "bias_correction" not in options.without else np.zeros((len(KEYPOINTS), 2), np.float32)
    parts, _ = collect(options, train, mediapipe, more, synthetic)
    parts, validation = {kind: shift_labels(part, -offset) for kind, part in parts.items()}, shift_labels(validation, -offset)
    budgets = budgets_of(options)
    set_seeds(options.seed)
    model = build_for(options, window_of(options))
    stages = branch(options, model, parts, validation, "first", budgets["first"], [options.seed + 1])
    if "second_stage" not in options.without:
        stages += branch(options, model, parts, validation, "second", budgets["second"], [options.seed + 101, options.seed + 202])
    if "third_stage" not in options.without:
        stages += branch(options, model, blend_pseudo_labels(options, model, parts), validation, "third", budgets["third"], [options.seed + 303, options.seed + 404])
    return model, stages, offset


def describe_by(faces: Faces, predicted: np.ndarray) -> dict:
    "Return the RMSE by source, by head rotation and by brightness, with intervals."
    between = faces.points[:, 0] - faces.points[:, 1]
    turn = np.abs(np.sum((faces.points[:, 10] - faces.points[:, :2].mean(axis=1)) * between, axis=1)) / np.sum(between**2, axis=1)
    grey = faces.images.mean(axis=(1, 2))
    kinds = {"source": {str(name): faces.source == name for name in np.unique(faces.source)},
             "turn": {"frontal (nose within 5% of the eye distance from the midline)": turn < 0.05, "turned a little (5-15%)": (turn >= 0.05) & (turn < 0.15),
                      "turned (over 15%)": turn >= 0.15},
             "brightness": {"dark (mean grey under 90)": grey < 90, "medium (90-140)": (grey >= 90) & (grey < 140), "bright (over 140)": grey >= 140}}
    described = {}
    for kind, parts in kinds.items():
        described[kind] = {}
        for name, rows in parts.items():
            if rows.any():
                metrics = evaluate_points(predicted[rows], faces.points[rows], faces.group[rows])
                described[kind][name] = {"rmse": metrics["rmse"], "interval": metrics["intervals"]["rmse"], "n_faces": int(rows.sum())}
    return described


def describe_mediapipe(ridge: Ridge, mediapipe: np.ndarray, faces: Faces, version: str) -> dict:
    "Describe MediaPipe's model, with the RMSE of its predictions after the ridge regression on other faces than it was fitted on."
    predictions = ridge.predict(mediapipe).reshape(-1, len(KEYPOINTS), 2)
    measured = evaluate_points(predictions.astype(np.float32), faces.points, faces.group)
    return {"wheel": f"mediapipe=={version}", "file": "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite", "looks": "12 per face: the mean of five crops, of the image and of its mirror image",
            "rmse": measured["rmse"], "interval": measured["intervals"]["rmse"], "by_source": {name: part["rmse"] for name, part in describe_by(faces, predictions)["source"].items()}}


def read_options() -> argparse.Namespace:
    "Parse the command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", required=True, type=Path, help="photographs with keypoints, for training and, by group, for validation and test")
    parser.add_argument("--more", required=True, type=Path, help="additional faces in another annotation convention, for training only")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--mediapipe", default="runs/mediapipe/bin/python", help="Python interpreter with mediapipe 0.10.14 (set-up: see mediapipe_landmarks.py)")
    parser.add_argument("--synthetic", type=int, default=6_000, help="number of synthetic faces")
    parser.add_argument("--images", type=int, default=FIRST[0]["images"], help="images shown in the first stage")
    parser.add_argument("--second-images", type=int, default=SECOND[0]["images"], help="images shown in each branch of the second stage")
    parser.add_argument("--third-images", type=int, default=THIRD[0]["images"], help="images shown in each branch of the third stage")
    parser.add_argument("--final-images", type=int, default=FINAL[0]["images"], help="images shown in each branch of the final stage")
    parser.add_argument("--copies", type=float, default=1.0, help="factor on the numbers of augmented copies in FIRST, SECOND, THIRD and FINAL")
    parser.add_argument("--learning-rate", type=float, default=FIRST[0]["learning_rate"], help="initial learning rate of the first stage")
    parser.add_argument("--without", nargs="*", default=[], choices=PARTS, help="parts to leave out")
    parser.add_argument("--instead", nargs="*", default=[], choices=INSTEAD, help="replacement of the heatmaps or of the absolute error")
    parser.add_argument("--ablation", action="store_true", help="score on the validation set and train on the training set only, as with --without")
    parser.add_argument("--everything", action="store_true", help="train on all photographs, with the test set; nothing is scored")
    parser.add_argument("--dtype", default="mixed_bfloat16", choices=("mixed_bfloat16", "float32"), help="precision of training; 16 bits are faster on CPUs with bfloat16 units (AMX)")
    parser.add_argument("--only", type=int, choices=range(len(FINAL)), help="train only this branch of a stage and stop; two processes with one thread each are faster than one with two")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the JSON record to this file")
    options = parser.parse_args()
    options.ablation |= bool(options.without or options.instead)
    return options


def render_synthetic(options) -> Faces:
    "Render the synthetic faces of the run, or read them if they exist."
    file = options.out / "synthetic.npz"
    if not file.exists():
        save_npz(synthetic_faces(options.synthetic, seed=0), file)
    return load_faces(file)


def set_threads(count: int) -> None:
    "Set the number of TensorFlow threads."
    for set_number in (tf.config.threading.set_intra_op_parallelism_threads, tf.config.threading.set_inter_op_parallelism_threads):
        set_number(count)


def describe_stage(branch_record: dict, use: str) -> dict:
    "Return title, images shown and seconds of a stage."
    return {"stage": f"{TITLES[branch_record['stage']]} ({use})", "images_shown": branch_record["images_shown"], "seconds": branch_record["seconds"]}


def add_stages(record_file: Path, stages: list[dict]) -> None:
    "Add the stages of the shipped model to the record of the model trained without the test set."
    record = read_measurement(record_file)
    record["stages"] = [other for other in record["stages"] if "ships" not in other["stage"]] + stages
    record["seconds_in_all"] = sum(each["seconds"] for each in record["stages"])
    write_json(record_file, record)


def train_final_stage(options, model: keras.Model, photographs: Faces, mediapipe: np.ndarray, validation: Faces, more: Faces, synthetic: Faces, offset: np.ndarray,
           stage: str) -> tuple[list[dict], Ridge]:
    "Train the final stage, with copies that are not mirrored and labels with their bias `offset`; return its stages and the ridge regression."
    parts, ridge = collect(options, photographs, mediapipe, more, synthetic)
    parts = blend_pseudo_labels(options, model, parts, offset)
    budgets = budgets_of(options)["final"]
    return branch(options, model, parts, validation, stage, budgets, [options.seed + 11 + 10 * number for number in range(len(budgets))]), ridge


def describe(options, stages: list[dict], data: dict, scored: Faces, predicted: np.ndarray, mirrored: np.ndarray) -> dict:
    "Return the record of a run."
    faces, copies = stages[-1]["faces"], stages[-1]["copies"]
    arguments = [f"--faces {options.faces.name} --more {options.more.name} --synthetic {options.synthetic}",
                 f"--images {options.images} --second-images {options.second_images} --third-images {options.third_images} --final-images {options.final_images}",
                 f"--copies {options.copies:g} --learning-rate {options.learning_rate:g} --seed {options.seed} --out runs/default", *(["--without", *options.without] if options.without else []),
                 *(["--instead", *options.instead] if options.instead else []), *(["--ablation"] if options.ablation else [])]
    return {"model": "-".join(["default", *options.without, *options.instead]), "labels": "complete", "augment": round(copies / sum(faces.values()), 1), "profile": "full",
            "seed": options.seed, "without": options.without, "instead": options.instead,
            "data": {**data, "measured_on": "validation" if options.ablation else "kept out", "files": {file.name: hash_file(file) for file in (options.faces, options.more)},
                     "n_more": faces.get("frames", 0), "n_drawn": faces.get("synthetic", 0), "n_with_copies": copies, "n_learned_at_the_end": faces["photographs"],
                     "split": "split_by_group(faces, 0.2, 0), then split_by_group(rest, 0.15, 0): whole photographs, near duplicates on one side"},
            "budget": {"bend": WARP, "shares": SHARES, "own": PSEUDO_LABEL_SHARE, "decay": WEIGHT_DECAY, "computed_in": options.dtype, **budgets_of(options)},
            "epochs": sum(stage["history"][-1]["epoch"] for stage in stages), "images_shown": sum(stage["images_shown"] for stage in stages),
            "seconds": sum(stage["seconds"] for stage in stages), "history": [{**entry, "stage": number} for number, stage in enumerate(stages, 1) for entry in stage["history"]],
            "metrics": evaluate_points(predicted, scored.points, scored.group), "mirrored": evaluate_points(mirrored, scored.points, scored.group), "by": describe_by(scored, predicted),
            "command": " ".join(["python recipes/default/train.py", *arguments])}


def main() -> None:
    options = read_options()
    options.out.mkdir(parents=True, exist_ok=True)
    set_threads(options.threads)
    faces, more = load_faces(options.faces), load_faces(options.more)
    rest, test = split_by_group(faces, 0.2, 0)
    train, validation = split_by_group(rest, 0.15, 0)
    synthetic = render_synthetic(options)
    predictions_of_all = mediapipe_predictions(options, options.faces)

    def predictions_for(part: Faces) -> np.ndarray:
        return predictions_of_all[np.isin(faces.group, part.group)]

    model, started, offset = train_first_stages(options, train, predictions_for(train), validation, more, synthetic)
    chosen = evaluate_points(predict_points(model, validation.images) + offset, validation.points, validation.group)["rmse"]
    print(f"before the final stage {chosen:.4f} px on the validation set", flush=True)
    stages, stage, photographs = started, "held_out", train if options.ablation else rest
    if options.everything:
        stage, photographs = "everything", faces
    if "final_stage" not in options.without:
        ends, ridge = train_final_stage(options, model, photographs, predictions_for(photographs), validation, more, synthetic, offset, stage)
        stages, offset = [*started, *ends], 0.0
    if options.everything:
        if options.save:
            add_stages(options.save, [describe_stage(end, "all photographs, ships") for end in ends])
        return
    scored = validation if options.ablation else test  # an ablation informs choices, so it does not use the test set
    predicted, mirrored = predict_points(model, scored.images) + offset, predict_with_mirror(model, scored.images) + offset
    record = describe(options, stages, describe_data(train, validation, scored), scored, predicted, mirrored)
    record |= {"window": window_of(options), "weights": int(model.count_params()), "validation_rmse": chosen,
               "stages": [*(describe_stage(stage, "both") for stage in started), *(describe_stage(end, "measured here") for end in stages[len(started):])]}
    record["seconds_in_all"] = sum(stage["seconds"] for stage in record["stages"])
    if options.ablation:  # for ablation.py
        record |= {"squared_errors": np.nanmean(np.square(predicted - scored.points), axis=(1, 2)).round(4).tolist(), "groups": scored.group.tolist()}
    if "final_stage" not in options.without:
        with np.load(options.out / "mediapipe" / options.faces.name, allow_pickle=False) as saved:
            record["mediapipe"] = describe_mediapipe(ridge, predictions_for(scored), scored, str(saved["mediapipe"]))
    command, data, seconds = (record.pop(key) for key in ("command", "data", "seconds"))
    write_measurement(options.save or options.out / f"{record['model']}-seed{options.seed}.json", record, command, data, seconds)
    print(f"{record['model']}: {record['metrics']['rmse']:.3f} px on {len(scored)} photographs, averaged with mirrored predictions {record['mirrored']['rmse']:.3f} px, {seconds:.0f} s")
    for source, part in record["by"]["source"].items():
        print(f"  {source}: {part['rmse']:.3f} px ({part['n_faces']} faces)")


if __name__ == "__main__":
    main()
