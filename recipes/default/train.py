"""Train the shipped model from scratch.

python recipes/default/train.py --photographs helen_afw_96.npz lfpw_train_96.npz --portraits scut_fbp5500_96.npz --web mtfl_96.npz --frames youtube_faces_96.npz --out runs/default [--save FILE]

1. Predict the 478 points of MediaPipe's Attention Mesh (mediapipe_landmarks.py, in a separate environment) for every face and its mirror image. Fit a ridge regression from these to the
   15 keypoints of `--photographs`; each photograph is predicted from a fit on other photographs.
2. Estimate with these predictions the constant offset of the labels of every other source against those of the photographs, keypoint by keypoint, and remove it. Keypoints that a source does
   not label are taken from the predictions.
3. Blend labels with the predictions: the errors of two annotators with different habits partly cancel.
4. Remove the horizontal bias of the labels of the photographs, which mirror images reveal: mirrored copies have the opposite bias, and a network cannot fit both.
5. Train the small network on augmented copies of all sources (facekp.augment.strong_recipe, and the milder copies of facekp.augment_bulk); the best weights are chosen on the validation set. Continue
   with new copies, some of which are degraded (degrade.py): sunglasses, masks, blur, hidden halves, darkness and noise.
6. Continue mostly with photographs, and with their labels as they are, so that the network does not learn to repeat MediaPipe's errors.
7. Finish with a short stage on all photographs except the test set and on synthetic faces, with copies that are not mirrored and labels with their original bias, which the network has to learn again. A longer stage with
milder copies made the error on the validation set larger (trained without its faces).
8. Score the result once on the test set.

The test set contains a fifth of the first file of photographs (the groups that measured the earlier versions) and an eighth of the second. Near duplicates of its faces, and of those of the
validation set, are removed from all training faces. The network sees the window of a face that contains its keypoints, enlarged (facekp.models.layers.CLOSE_WINDOW): it is trained on copies
of this window, and the enlargement becomes its first layer afterwards. An interrupted run continues from its last state.
`--network teacher` trains the large network of teacher.py instead, whose predictions for the copies `--teacher` blends into their labels in step 5.
For the ablation, `--without` omits a part and `--instead` replaces one. Then, and with `--ablation`, step 7 uses the photographs of step 5 only, and the result is scored on the validation
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
from degrade import degrade_some
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict
from teacher import blend_teacher, build_teacher

from facekp.augment import apply_recipe, mirror, strong_recipe
from facekp.augment_bulk import augment_faces
from facekp.data.npz import save_npz
from facekp.data.sources import load_faces
from facekp.data.split import split_by_group, without_copies
from facekp.errors import UserError
from facekp.evaluation import evaluate_points
from facekp.experiments.measurement import write_measurement
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

STAGES = ("first", "again", "unblended", "final")
FIRST_CHANGED = {"degraded": "again", "unblended": "unblended", "blended_stage_3": "unblended", "mixed_stage_3": "unblended", "synthetic": "final", "final_stage": "final"}  # parts that do not change the earlier stages
FINAL_PARTS = ("synthetic", "degraded", "unblended", "final_stage")  # parts that are left out of a run of all stages
OTHER_SOURCES = ("portraits", "web", "frames")  # faces with labels in other conventions than that of the photographs
PARTS = ("mediapipe", "second_file", *OTHER_SOURCES, "synthetic", "strong", "plain", "warp", "occlusion", "degraded", "unblended", "outlier_removal", "bias_correction", "mae", "weight_decay", "window", "final_stage")
TEST_SHARES, VALIDATION_SHARE = (0.2, 0.125), 0.15  # of the first and the second file of photographs; of their other faces
NETWORK = {"filters": (48, 80, 128, 112), "blocks": 1}  # of build_compact: 0.90 million parameters, two thirds of version 7
WARP = 2.0  # px, maximal standard deviation of the local warp's control points
OCCLUDED = 0.3  # share of the copies by strong_recipe that are partly occluded
PLAIN_SHARE = 0.4  # share of the copies of the first stage that facekp.augment_bulk makes
SHARES = {"photographs": 0.5, "portraits": 0.5, "web": 0.5, "frames": 0.7, "synthetic": 0.0}  # weight of the MediaPipe predictions in the labels; those of synthetic faces are exact
RIDGE_ALPHA, FOLDS = 3_200.0, 8  # ridge regression: alpha for pixels, and folds of the cross-validated predictions
OUTLIER_SHARE = 0.03  # share of the faces of the other sources that are left out because label and prediction differ most
# Budget of each stage: augmented copies, images shown, initial learning rate of Adam, share of mirrored copies, factor on WARP and OCCLUDED, and share of degraded copies of those by strong_recipe
FIRST = {"copies": {"photographs": 150_000, "portraits": 54_000, "web": 36_000, "frames": 60_000}, "images": 720_000, "learning_rate": 4e-3, "mirrored": 0.5, "strength": 1.0, "degraded": 0.0}
AGAIN = {**FIRST, "images": 1_440_000, "learning_rate": 3e-3, "degraded": 0.15}
UNBLENDED = {**AGAIN, "copies": {"photographs": 160_000, "portraits": 14_400, "web": 9_600, "frames": 16_000}, "images": 200_000, "learning_rate": 1.5e-3}
FINAL = {"copies": {"photographs": 30_000, "portraits": 1_500, "web": 1_000, "frames": 1_500, "synthetic": 2_000}, "images": 36_000, "learning_rate": 5e-4, "mirrored": 0.0, "strength": 1.0, "degraded": 0.15}
TITLES = {"first": "stage 1", "again": "stage 2", "unblended": "stage 3", "final": "final stage"}
INSTEAD = ("wing", "coordinates", "wider_network", "cubic_copies", "more_photographs", "early_synthetic", "blended_stage_3", "mixed_stage_3")  # see alternatives.py
MORE_PHOTOGRAPHS, EARLY_SYNTHETIC = 2.0, 43_000  # factor on the copies of photographs in the first stage, and copies of synthetic faces
WEIGHT_DECAY = 0.02  # weight decay of convolutions, per step at a learning rate of 1
CHUNK = 2_000  # copies per job of a process
DARKEST = 8  # smallest maximum of the grey values of a copy


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

    fast = keras.models.clone_model(model, clone_function=copy, recursive=True)
    fast.set_weights(model.get_weights())
    return fast


def copy_chunk(faces: Faces, seed: int, window: tuple, strengths: dict, cubic: bool) -> Faces:
    "Return one copy of each face by `strong_recipe`, cropped to a window and enlarged, without those that turned black."
    cv2.setNumThreads(1)  # images this small do not benefit from a second thread
    recipe = strong_recipe(seed, **strengths)
    if cubic:
        from alternatives import make_cubic  # here, because worker processes import what this function refers to

        recipe = make_cubic(recipe)
    copies = [apply_recipe(recipe, image, points) for image, points in zip(faces.images, faces.points)]
    images, points = (np.stack(arrays) for arrays in zip(*copies))
    copied = enlarge(replace(faces, images=images, points=points, truth=None), window)
    return copied[copied.images.max(axis=(1, 2)) >= DARKEST]


def strong_copies(faces: Faces, count: int, seed: int, window: tuple = FULL_WINDOW, degraded: float = 0.0, cubic: bool = False, **strengths) -> Faces:
    """Make strongly augmented copies on all cores, with each face used equally often (or once more); a few dark ones may be missing.

    `degraded` is the share of degraded faces; `strengths` is passed to `strong_recipe`."""
    passes = [np.random.default_rng([seed, turn]).permutation(len(faces)) for turn in range(-(-count // len(faces)))]
    rows = np.concatenate(passes)[:count]

    def chunk_from(start: int) -> tuple[Faces, int]:
        part, chunk_seed = faces[rows[start:start + CHUNK]], 1_000 * seed + start // CHUNK
        return replace(part, images=degrade_some(part.images, part.points, degraded, chunk_seed)), chunk_seed

    jobs = (joblib.delayed(copy_chunk)(*chunk_from(start), window, strengths, cubic) for start in range(0, count, CHUNK))
    return concatenate(joblib.Parallel(n_jobs=-1, idle_worker_timeout=5)(jobs), faces.name)


def plain_copies(faces: Faces, count: int, seed: int) -> Faces:
    "Make copies with the plain augmentation of the lessons, with each face used equally often (or once more)."
    copies = augment_faces(faces[np.random.default_rng([seed, 1]).permutation(len(faces))], -(-count // len(faces)), seed)
    return copies[np.arange(count)]


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
    if options.network == "teacher":
        return build_teacher(window, options.weights)
    network = {} if "wider_network" in options.instead else NETWORK
    return build_coordinates(window, **network) if "coordinates" in options.instead else build_compact(window, **network)


def with_window(model: keras.Model, other: keras.Model) -> keras.Model:
    "Copy the weights into another network, which has another window."
    other.set_weights(model.get_weights())
    return other


def predict_with_mirror(model, images: np.ndarray) -> np.ndarray:
    "Return the mean of the predictions for images and for their mirror images."
    turned = np.ascontiguousarray(images[:, :, ::-1])
    return (predict_points(model, images) + mirror(turned, predict_points(model, turned))[1]) / 2


def mediapipe_predictions(options, file: Path) -> np.ndarray:
    "Return the MediaPipe predictions for the faces of a file [N,1912]: points of the image and of its mirror image, in pixels."
    kept = options.out / "mediapipe" / file.name
    if not kept.exists():
        script = Path(__file__).with_name("mediapipe_landmarks.py")
        subprocess.run([options.mediapipe, script, "--out", kept.parent, file], check=True)
    with np.load(kept, allow_pickle=False) as saved, np.load(file, allow_pickle=False) as source:
        points = saved["points"]
        if str(saved["sha256"]) != hashlib.sha256(source["images"].tobytes()).hexdigest():
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
    "Remove the median difference between labels and predictions of each keypoint; keypoints that no face has stay unlabelled."
    difference = predictions - labels
    labelled = ~np.isnan(difference).all(axis=(0, 2))
    offset = np.zeros((len(KEYPOINTS), 2))
    offset[labelled] = np.nanmedian(difference[:, labelled], axis=0)
    return replace(faces, points=(faces.points + offset).astype(np.float32), truth=None)


def shift_labels(faces: Faces, offset: np.ndarray) -> Faces:
    "Shift the labels by an offset per keypoint."
    return replace(faces, points=faces.points + offset, truth=None)


def blend_labels(faces: Faces, predictions: np.ndarray, share: float) -> Faces:
    "Blend the labels with predictions; `share` is the weight of the predictions. Unlabelled keypoints become predictions, unless `share` is 0."
    blended = (1 - share) * faces.points + share * predictions
    return replace(faces, points=np.where(np.isnan(faces.points) & (share > 0), predictions, blended).astype(np.float32), truth=None)


def rmse_per_face(faces: Faces, predictions: np.ndarray) -> np.ndarray:
    "Return the RMSE between labels and predictions of each face, in pixels."
    return np.array([rmse(predicted[None], points[None]) for predicted, points in zip(predictions, faces.points)])


def split_photographs(files: list[Path]) -> tuple[Faces, Faces, Faces]:
    "Return training, validation and test photographs of all files; `image_id` is `file:row`, and no near duplicate of a held-out face is among the others."
    parts: list[list[Faces]] = [[], [], []]
    for file, share in zip(files, TEST_SHARES):
        faces = load_numbered(file)
        rest, test = split_by_group(faces, share, 0)
        for part, faces in zip(parts, (*split_by_group(rest, VALIDATION_SHARE, 0), test)):
            part.append(faces)
    train, validation, test = (concatenate(part, name=" and ".join(file.name for file in files)) for part in parts)
    validation = without_copies(validation, test)
    return without_copies(train, concatenate([validation, test])), validation, test


def load_numbered(file: Path) -> Faces:
    "Load faces, and name each by file and row, by which `mediapipe_for` finds its predictions."
    faces = load_faces(file)
    return replace(faces, image_id=np.array([f"{file.name}:{row}" for row in range(len(faces))]))


def mediapipe_for(options, faces: Faces) -> np.ndarray:
    "Return the MediaPipe predictions [N,1912] for faces of `load_numbered`."
    names, rows = zip(*(image_id.rsplit(":", 1) for image_id in faces.image_id))
    sources = (*options.photographs, *(vars(options)[name] for name in OTHER_SOURCES), options.out / "synthetic.npz")
    files = {file.name: mediapipe_predictions(options, file) for file in sources if file and file.name in names}
    return np.stack([files[name][int(row)] for name, row in zip(names, rows)])


def collect(options, photographs: Faces, others: dict[str, Faces], blended: bool = True) -> tuple[dict[str, Faces], Ridge]:
    """Return all training faces before augmentation, with labels in the convention of the photographs, and the ridge regression.

    The labels of the photographs are blended with the predictions of the regression only if `blended` is true."""
    ridge, predictions = fit_ridge(photographs, mediapipe_for(options, photographs))
    shares = dict.fromkeys(SHARES, 0.0) if "mediapipe" in options.without else SHARES if blended else SHARES | {"photographs": 0.0}
    parts = {"photographs": blend_labels(photographs, predictions, shares["photographs"])}
    for name, faces in others.items():
        predictions = ridge.predict(mediapipe_for(options, faces)).reshape(-1, len(KEYPOINTS), 2)
        aligned = align(faces, faces.points, predictions)
        distance = rmse_per_face(aligned, predictions)
        kept = 1.0 if "outlier_removal" in options.without or name == "synthetic" else 1 - OUTLIER_SHARE
        parts[name] = blend_labels(aligned, predictions, shares[name])[distance <= np.quantile(distance, kept)]
    return parts, ridge


def window_of(options) -> tuple:
    "Return the window of the face that the network sees."
    return FULL_WINDOW if "window" in options.without else CLOSE_WINDOW


def augmented_copies(options, parts: dict[str, Faces], seed: int, budget: dict) -> Faces:
    "Return augmented copies of all parts of the training set, cropped to the window and enlarged as the network's first layer does it."
    window = window_of(options)
    strengths = {"warp": 0.0 if "warp" in options.without else WARP * budget["strength"], "covered": 0.0 if "occlusion" in options.without else OCCLUDED * budget["strength"],
                 "mirrored": budget["mirrored"], "degraded": 0.0 if "degraded" in options.without else budget["degraded"],
                 "cubic": "cubic_copies" in options.instead}
    plain = 1.0 if "strong" in options.without else 0.0 if "plain" in options.without else PLAIN_SHARE if budget["mirrored"] else 0.0  # augment_faces mirrors half of its copies
    copied = []
    for place, (name, count) in enumerate(budget["copies"].items()):
        if name in parts:
            milder = round(count * options.copies * plain)
            stronger = round(count * options.copies) - milder
            copied += [enlarge(plain_copies(parts[name], milder, seed + place), window)] if milder else []
            copied += [strong_copies(parts[name], stronger, seed + place, window, **strengths)] if stronger else []
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
    if options.teacher and budget["mirrored"]:  # a teacher of the first stage predicts unbiased labels, as they are in this stage
        copies = replace(copies, points=blend_teacher(copies, make_fast(with_window(load_model(options.teacher), build_teacher()), options.dtype)))
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
    changed = (part for part in (*options.without, *options.instead) if STAGES.index(stage) >= STAGES.index(FIRST_CHANGED.get(part, "first")))
    return "-".join([stage, *changed, f"seed{options.seed}"])


def train_stage(options, model: keras.Model, parts: dict[str, Faces], validation: Faces, stage: str, seed: int) -> dict:
    "Train a stage, or read its weights and its history if it is already in the folder of the run."
    name = name_of(options, stage)
    if not (options.out / f"{name}.json").exists():
        train_branch(options, model, parts, validation, name, seed, budgets_of(options)[stage])
    model.set_weights(load_model(options.out / f"{name}.keras").get_weights())
    return {**json.loads((options.out / f"{name}.json").read_text(encoding="utf-8")), "stage": stage}


def budgets_of(options) -> dict[str, dict]:
    "Return the budget of each stage."
    copies = dict(FIRST["copies"])
    if "more_photographs" in options.instead:
        copies["photographs"] = round(MORE_PHOTOGRAPHS * copies["photographs"])
    if "early_synthetic" in options.instead:
        copies["synthetic"] = EARLY_SYNTHETIC
    return {"first": {**FIRST, "copies": copies, "images": options.images, "learning_rate": options.learning_rate}, "again": {**AGAIN, "images": options.again_images},
            "unblended": {**UNBLENDED, "images": options.unblended_images, **({"copies": AGAIN["copies"]} if "mixed_stage_3" in options.instead else {})}, "final": {**FINAL, "images": options.final_images}}


def train_first_stages(options, train: Faces, others: dict[str, Faces], validation: Faces) -> tuple[keras.Model, list[dict], np.ndarray]:
    "Train the stages with mirrored copies and unbiased labels, the first from scratch; return the network, the stages and the bias that was removed."
    offset = horizontal_bias(train, mediapipe_for(options, train)) if "bias_correction" not in options.without else np.zeros((len(KEYPOINTS), 2), np.float32)

    def shifted(**how) -> dict[str, Faces]:
        return {kind: shift_labels(part, -offset) for kind, part in collect(options, train, others, **how)[0].items()}

    parts, validation = shifted(), shift_labels(validation, -offset)
    set_seeds(options.seed)
    model = build_for(options, window_of(options))
    stages = [train_stage(options, model, parts, validation, "first", options.seed + 1)]
    if options.again_images:
        stages.append(train_stage(options, model, parts, validation, "again", options.seed + 6))
    if options.unblended_images and "unblended" not in options.without:
        stages.append(train_stage(options, model, shifted(blended="blended_stage_3" in options.instead), validation, "unblended", options.seed + 21))
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
    parser.add_argument("--photographs", required=True, type=Path, nargs="+", metavar="FILE.npz", help="one or two files of photographs with all keypoints, for training and, by group, for validation and test")
    parser.add_argument("--portraits", type=Path, metavar="FILE.npz", help="portraits with labels in another convention, for training only")
    parser.add_argument("--web", type=Path, metavar="FILE.npz", help="web photographs with five keypoints, for training only")
    parser.add_argument("--frames", type=Path, metavar="FILE.npz", help="video frames with labels in another convention, for training only")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--mediapipe", default="runs/mediapipe/bin/python", help="Python interpreter with mediapipe 0.10.14 (set-up: see mediapipe_landmarks.py)")
    parser.add_argument("--synthetic", type=int, default=2_000, help="number of synthetic faces in the final stage")
    parser.add_argument("--images", type=int, default=FIRST["images"], help="images shown in the first stage")
    parser.add_argument("--again-images", type=int, default=AGAIN["images"], help="images shown in the second stage, 0 to omit it")
    parser.add_argument("--unblended-images", type=int, default=UNBLENDED["images"], help="images shown in the third stage, 0 to omit it")
    parser.add_argument("--final-images", type=int, default=FINAL["images"], help="images shown in the final stage")
    parser.add_argument("--copies", type=float, default=1.0, help="factor on the numbers of augmented copies in FIRST and FINAL")
    parser.add_argument("--learning-rate", type=float, default=FIRST["learning_rate"], help="initial learning rate of the first stage")
    parser.add_argument("--without", nargs="*", default=[], choices=PARTS, help="parts to leave out")
    parser.add_argument("--instead", nargs="*", default=[], choices=INSTEAD, help="replacement of the heatmaps or of the absolute error")
    parser.add_argument("--ablation", action="store_true", help="score on the validation set and train on the training set only, as with --without")
    parser.add_argument("--network", default="compact", choices=("compact", "teacher"), help="the shipped network, or the large one of teacher.py")
    parser.add_argument("--weights", type=Path, help="with --network teacher: weights of MobileNetV2, such as data/weights/mobilenetv2_imagenet_int8.npz")
    parser.add_argument("--teacher", type=Path, metavar="FILE.keras", help="first-seed0.keras of a run with --network teacher: its predictions are blended into the labels of the copies")
    parser.add_argument("--dtype", default="float32", choices=("mixed_bfloat16", "float32"), help="precision of training; 16 bits are faster on CPUs with bfloat16 units (AMX)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the JSON record to this file")
    options = parser.parse_args()
    options.ablation |= bool(options.without or options.instead)
    if len(options.photographs) > len(TEST_SHARES):
        parser.error(f"--photographs: {len(options.photographs)} files, expected one or two; the second may contain several sources")
    return options


def render_synthetic(options) -> Faces:
    "Render the synthetic faces of the run, or read them if they exist."
    file = options.out / "synthetic.npz"
    if not file.exists():
        save_npz(synthetic_faces(options.synthetic, seed=0), file)
    return load_numbered(file)


def set_threads(count: int) -> None:
    "Set the number of TensorFlow threads."
    for set_number in (tf.config.threading.set_intra_op_parallelism_threads, tf.config.threading.set_inter_op_parallelism_threads):
        set_number(count)


def describe(options, stages: list[dict], data: dict, scored: Faces, predicted: np.ndarray, mirrored: np.ndarray) -> dict:
    "Return the record of a run."
    faces, copies = stages[-1]["faces"], sum(stage["copies"] for stage in stages)
    files = [*options.photographs, *(vars(options)[name] for name in OTHER_SOURCES if vars(options)[name])]
    arguments = [f"--photographs {' '.join(file.name for file in options.photographs)}", *(f"--{name} {vars(options)[name].name}" for name in OTHER_SOURCES if vars(options)[name]),
                 f"--synthetic {options.synthetic} --images {options.images} --again-images {options.again_images} --unblended-images {options.unblended_images} --final-images {options.final_images} --copies {options.copies:g} --learning-rate {options.learning_rate:g} --dtype {options.dtype}",
                 f"--seed {options.seed} --out runs/default", *(["--without", *options.without] if options.without else []), *(["--instead", *options.instead] if options.instead else []),
                 *(["--ablation"] if options.ablation else []), *(["--teacher", options.teacher.name] if options.teacher else []),
                 *(["--network teacher", *(["--weights", options.weights.name] if options.weights else [])] if options.network == "teacher" else [])]
    return {"model": "-".join(["default" if options.network == "compact" else options.network, *options.without, *options.instead]), "labels": "complete", "augment": round(copies / sum(faces.values()), 1), "profile": "full",
            "seed": options.seed, "without": options.without, "instead": options.instead,
            "data": {**data, "measured_on": "validation" if options.ablation else "held out", "files": {file.name: hash_file(file) for file in files}, "n_by_source": faces, "n_with_copies": copies,
                     "split": f"by file: split_by_group(faces, {' and '.join(map(str, TEST_SHARES))}, 0), then split_by_group(rest, {VALIDATION_SHARE}, 0): whole photographs, near duplicates on one side"},
            "budget": {"warp": WARP, "occluded": OCCLUDED, "plain": PLAIN_SHARE, "shares": SHARES, "weight_decay": WEIGHT_DECAY, "dtype": options.dtype, "network": NETWORK if options.network == "compact" else options.network, **budgets_of(options)},
            "epochs": sum(stage["history"][-1]["epoch"] for stage in stages), "images_shown": sum(stage["images_shown"] for stage in stages),
            "seconds": sum(stage["seconds"] for stage in stages), "history": [{**entry, "stage": number} for number, stage in enumerate(stages, 1) for entry in stage["history"]],
            "metrics": evaluate_points(predicted, scored.points, scored.group), "mirrored": evaluate_points(mirrored, scored.points, scored.group), "by": describe_by(scored, predicted),
            "command": " ".join(["python recipes/default/train.py", *arguments])}


def main() -> None:
    options = read_options()
    options.out.mkdir(parents=True, exist_ok=True)
    set_threads(options.threads)
    train, validation, test = split_photographs(options.photographs)
    if "second_file" in options.without:
        train = train[np.char.startswith(train.image_id.astype(str), f"{options.photographs[0].name}:")]
    held_out = concatenate([validation, test])
    others = {name: without_copies(load_numbered(vars(options)[name]), held_out) for name in OTHER_SOURCES if vars(options)[name] and name not in options.without}
    if "early_synthetic" in options.instead:
        others["synthetic"] = render_synthetic(options)
    model, stages, offset = train_first_stages(options, train, others, validation)
    chosen = evaluate_points(predict_points(model, validation.images) + offset, validation.points, validation.group)["rmse"]
    print(f"before the final stage {chosen:.4f} px on the validation set", flush=True)
    if "final_stage" not in options.without:
        if options.synthetic and "synthetic" not in options.without:
            others["synthetic"] = render_synthetic(options)
        parts, ridge = collect(options, train if options.ablation else concatenate([train, validation]), others, blended="unblended" in options.without)
        stages.append(train_stage(options, model, parts, validation, "final", options.seed + 11))
        offset = np.zeros_like(offset)
    scored = validation if options.ablation else test  # an ablation informs choices, so it does not use the test set
    predicted, mirrored = predict_points(model, scored.images) + offset, predict_with_mirror(model, scored.images) + offset
    record = describe(options, stages, describe_data(train, validation, scored), scored, predicted, mirrored)
    record |= {"window": window_of(options), "weights": int(model.count_params()), "validation_rmse": chosen,
               "stages": [{"stage": TITLES[stage["stage"]], "images_shown": stage["images_shown"], "seconds": stage["seconds"]} for stage in stages]}
    if options.ablation:  # for ablation.py
        degraded = predict_points(model, degrade_some(scored.images, scored.points, 1.0, seed=0)) + offset
        record |= {"squared_errors": np.nanmean(np.square(predicted - scored.points), axis=(1, 2)).round(4).tolist(), "groups": scored.group.tolist(), "rmse_degraded": rmse(degraded, scored.points)}
    if "final_stage" not in options.without:
        with np.load(options.out / "mediapipe" / options.photographs[0].name, allow_pickle=False) as saved:
            record["mediapipe"] = describe_mediapipe(ridge, mediapipe_for(options, scored), scored, str(saved["mediapipe"]))
    command, data, seconds = (record.pop(key) for key in ("command", "data", "seconds"))
    write_measurement(options.save or options.out / f"{record['model']}-seed{options.seed}.json", record, command, data, seconds)
    print(f"{record['model']}: {record['metrics']['rmse']:.3f} px on {len(scored)} photographs, averaged with mirrored predictions {record['mirrored']['rmse']:.3f} px, {seconds:.0f} s")
    for source, part in record["by"]["source"].items():
        print(f"  {source}: {part['rmse']:.3f} px ({part['n_faces']} faces)")


if __name__ == "__main__":
    main()
