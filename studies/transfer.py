"""Measure what pretrained weights are worth on real faces: by feature level, frozen and fine-tuned, compared with random weights.

python studies/transfer.py levels --faces helen_afw_96.npz --weights mobilenet_v2_imagenet_notop.weights.h5
python studies/transfer.py ridge --faces helen_afw_96.npz --weights mobilenet_v2_imagenet_notop.weights.h5
python studies/transfer.py pretrain --backbone resnet50 --more youtube_faces_96.npz
python studies/transfer.py finetune --backbone resnet50 --faces helen_afw_96.npz

Every step writes a record per run to --runs, skips runs with a record, and adds the records to the study in --out (facekp.experiments.results). An
interrupted run continues from its last state. States, features and pretrained models are in --runs, too. The faces are split as in
`facekp course --profile full`, with their true labels; the test set is used once, for the record."""

import argparse
import contextlib
import fcntl
from pathlib import Path

import keras
import numpy as np

from facekp.config import load_settings
from facekp.data.npz import load_npz, save_npz
from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.evaluation import evaluate_points
from facekp.experiments.measurement import write_measurement
from facekp.experiments.plan import describe_weights, split_for_comparison
from facekp.experiments.record import describe_data, make_record, read_record, write_record
from facekp.experiments.results import add_runs
from facekp.faces import concatenate
from facekp.labels import apply_label_strategy
from facekp.metrics import rmse
from facekp.models.backbones import split_backbone
from facekp.models.files import save_model
from facekp.models.transfer import build_transfer
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.seeds import set_seeds
from facekp.training.transfer import compute_features, fit_transfer

FEATURE_LEVELS = {"24x24": "block_3_expand_relu", "12x12": "block_6_expand_relu", "6x6": "block_13_expand_relu", "6x6 early": "block_10_expand_relu",
        "3x3": "out", "6x6 and 12x12": ("block_13_expand_relu", "block_6_expand_relu")}


@contextlib.contextmanager
def alone(folder: Path):
    "Lock a run; yield False if another process is training it, so that several processes can share the work."
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def run(name: str, split, options, build: dict, training: dict, seed: int) -> None:
    "Train, score and record one network, unless its record exists."
    with alone(options.runs / f"{name}-seed{seed}") as mine:
        if mine and not (options.runs / f"{name}-seed{seed}" / "record.json").exists():
            _run(name, split, options, build, training, seed)


def _run(name: str, split, options, build: dict, training: dict, seed: int) -> None:
    path = options.runs / f"{name}-seed{seed}" / "record.json"
    train = apply_label_strategy(split.train, "truth")
    set_seeds(seed)
    model = build_transfer(**build)
    if build.get("weights") is None and build.get("trainable") is False:
        give_statistics(model, train.images)
    done = fit_transfer(model, train, split.validation, seed=seed, run_folder=options.runs / f"{name}-seed{seed}", resume=True,
                        features_folder=options.runs / "features", show_progress=False, **training)
    weights = Path(build["weights"]) if build.get("weights") else None
    description = {"model": build["name"], "labels": "truth", "augment": 0, "profile": "full", "seed": seed,
                   "data": describe_data(split.train, split.validation, split.test),
                   "budget": {"images": training["images_shown"], **{key: value for key, value in training.items() if key != "images_shown"},
                              "feature_level": build.get("feature_level"), "head": build.get("head", "heatmap"), "trainable": build.get("trainable")},
                   "weights_from": options.origin if weights and weights.suffix == ".keras" else describe_weights(weights)}
    record = make_record(done, split.test, description)
    write_record(record, path)
    best = min(entry["validation_rmse"] for entry in done.history)
    print(f"{path.parent.name}: validation {best:.3f} px, test {record.metrics['rmse']:.3f} px, {done.seconds:.0f} s, {done.epochs} epochs", flush=True)


def give_statistics(model, images: np.ndarray) -> None:
    "Set the statistics of BatchNormalization for frozen random weights; otherwise the features of a deep random network vanish."
    normalizations = [layer for layer in split_backbone(model)[0].layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.trainable, layer.momentum = True, 0.0
    split_backbone(model)[0](images[:256, ..., None].astype(np.float32), training=True)
    for layer, momentum in zip(normalizations, momenta):
        layer.trainable, layer.momentum = False, momentum


def levels(options, split) -> None:
    "Train MobileNetV2 frozen at every feature level, with ImageNet and random weights, with a pooled head, fine-tuned, and from scratch."
    for seed in range(options.seeds):
        for size, level in FEATURE_LEVELS.items():
            for origin, weights in (("imagenet", options.weights), ("random", None))[:1 if " " in size else 2]:
                run(f"frozen-{origin}-{size.replace(' ', '_')}", split, options,
                    {"name": "mobilenetv2", "weights": weights, "feature_level": level, "trainable": False},
                    {"images_shown": options.images, "fine_tune_share": 0.0}, seed)
        for origin, weights in (("imagenet", options.weights), ("random", None)):
            run(f"frozen-{origin}-pooled", split, options,
                {"name": "mobilenetv2", "weights": weights, "feature_level": "out", "head": "pooled", "trainable": False},
                {"images_shown": options.images, "fine_tune_share": 0.0}, seed)


def unfrozen(options, split) -> None:
    "Train MobileNetV2 with one budget of images: frozen, fine-tuned, and completely from random weights."
    level = FEATURE_LEVELS["6x6 and 12x12"]
    for seed in range(options.seeds):
        for origin, weights, share in (("imagenet", options.weights, 0.0), ("imagenet", options.weights, 0.5), ("random", None, 0.0)):
            kind = "whole" if weights is None else "unfrozen" if share else "frozen"
            run(f"budget-{kind}-{origin}", split, options, {"name": "mobilenetv2", "weights": weights, "feature_level": level},
                {"images_shown": options.images, "fine_tune_share": share}, seed)
        run("budget-unfrozen-imagenet-pooled", split, options,
            {"name": "mobilenetv2", "weights": options.weights, "feature_level": "out", "head": "pooled"},
            {"images_shown": options.images, "fine_tune_share": 0.5}, seed)


def ridge(options, split) -> None:
    "Fit ridge regression on flattened features of each level, without training a network."
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    labels = {"train": split.train.truth, "validation": split.validation.points, "test": split.test.points}
    results = {}
    for origin, weights in (("imagenet", options.weights), ("random", None)):
        for name, level in {**FEATURE_LEVELS, "pixels": None}.items():
            if isinstance(level, tuple) or (level is None and origin == "random"):
                continue
            if level:
                set_seeds(0)
                model = build_transfer("mobilenetv2", weights, feature_level=level, trainable=False)
                if weights is None:
                    give_statistics(model, split.train.images)
                features = {part: compute_features(model, faces.images, options.runs / "features", show_progress=False)[0] for part, faces in parts.items()}
            else:
                features = {part: faces.images for part, faces in parts.items()}
            features = {part: array.reshape(len(array), -1).astype(np.float32) for part, array in features.items()}
            scaler = StandardScaler().fit(features["train"])
            features = {part: scaler.transform(array) for part, array in features.items()}
            best = None
            for strength in (1e2, 1e3, 1e4, 1e5, 1e6):
                fitted = Ridge(strength).fit(features["train"], labels["train"].reshape(-1, 30))
                error = rmse(fitted.predict(features["validation"]).reshape(-1, 15, 2), labels["validation"])
                if best is None or error < best[0]:
                    best = error, strength, fitted
            error, strength, fitted = best
            metrics = evaluate_points(fitted.predict(features["test"]).reshape(-1, 15, 2).astype(np.float32), labels["test"], split.test.group)
            results[f"{origin} {name}" if level else "pixels"] = {
                "feature_level": level, "numbers": features["train"].shape[1], "strength": strength, "validation_rmse": error, "rmse": metrics["rmse"],
                "interval": metrics["intervals"]["rmse"]}
            print(origin, name, level, f"validation {error:.3f} px, test {metrics['rmse']:.3f} px, strength {strength:g}", flush=True)
    write_measurement(options.out / "ridge.json", {"results": results, "weights_from": describe_weights(options.weights)}, "python studies/transfer.py ridge",
                      describe_data(split.train, split.validation, split.test))


def pretraining_faces(options):
    "Return synthetic faces and frames of YouTube Faces; persons in the validation set are in no other part."
    path = options.runs / "pretraining.npz"
    if not path.exists():
        save_npz(synthetic_faces(options.synthetic, seed=11), path)
    train, validation = split_by_group(load_faces(str(options.more)), 0.06, 0)
    synthetic = load_npz(path)
    return concatenate([synthetic, train], name="synthetic + youtube_faces_96"), validation


def pretrain(options, split) -> None:
    "Train a large network on synthetic faces and YouTube Faces and store it."
    with alone(options.runs / f"{options.backbone}_pretraining") as mine:
        if mine and not (options.runs / f"{options.backbone}_pretrained.keras").exists():
            _pretrain(options, split)


def _pretrain(options, split) -> None:
    path = options.runs / f"{options.backbone}_pretrained.keras"
    train, validation = pretraining_faces(options)
    train = train[np.random.default_rng(0).permutation(len(train))]
    set_seeds(0)
    model = build_transfer(options.backbone, feature_level=large_feature_level(options.backbone))
    training = fit_transfer(model, train, validation, options.images, learning_rate=options.learning_rate, batch_size=options.batch_size,
                            patience=100, run_folder=options.runs / f"{options.backbone}_pretraining", resume=True, faces_per_epoch=options.epoch)
    description = {"model": options.backbone, "labels": "complete", "augment": 0, "profile": "full", "seed": 0,
                   "data": describe_data(train, validation, split.validation), "weights_from": "random",
                   "budget": {"images": options.images, "batch_size": options.batch_size, "learning_rate": options.learning_rate,
                              "feature_level": large_feature_level(options.backbone)}}
    record = make_record(training, split.validation, description)
    add_runs(options.out.with_name(f"{options.out.name}_pretraining"), {f"{options.backbone}-seed0": record}, split.validation.group)
    save_model(model, path)
    print(f"{options.backbone} pretrained: {training.history}; {record.metrics['rmse']:.3f} px on HELEN and AFW's validation part, {training.seconds:.0f} s", flush=True)


def large_feature_level(backbone: str) -> tuple[str, str]:
    "Return the layer names of the last 6x6 and the last 12x12 feature map."
    return {"resnet50": ("conv4_block6_out", "conv3_block4_out"),
            "efficientnetb7": ("block6a_expand_activation", "block4a_expand_activation")}[backbone]


def finetune(options, split) -> None:
    "Fine-tune a large network from pretrained and from random weights, with the same number of images shown."
    options.origin = "synthetic + youtube_faces_96, see transfer_pretraining"
    level = large_feature_level(options.backbone)
    shared = {"images_shown": options.images, "batch_size": options.batch_size, "learning_rate": options.learning_rate, "faces_per_epoch": options.epoch}
    pretrained = options.runs / f"{options.backbone}_pretrained.keras"
    for start in options.starts.split():
        weights = None if start == "random" else pretrained
        if weights and not weights.exists():
            print(f"{weights}: missing; run the step pretrain first")
            continue
        share = 0.0 if start in ("random", "frozen") else 0.7
        rate = options.learning_rate / 2 if start == "random" else options.learning_rate
        run(f"{options.backbone}-{start}", split, options, {"name": options.backbone, "weights": weights, "feature_level": level},
            {**shared, "learning_rate": rate, "fine_tune_share": share}, options.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("levels", "unfrozen", "ridge", "pretrain", "finetune"))
    parser.add_argument("--faces", default="helen_afw_96.npz", help="photographs with points: any source that facekp reads")
    parser.add_argument("--more", help="photographs with less precise labels, for pretraining")
    parser.add_argument("--weights", type=Path, help="ImageNet weights of MobileNetV2 without its classifier")
    parser.add_argument("--backbone", default="resnet50", choices=("resnet50", "efficientnetb7"))
    parser.add_argument("--images", type=int, default=20_000, help="images shown per training run")
    parser.add_argument("--synthetic", type=int, default=6_000, help="synthetic faces for pretraining")
    parser.add_argument("--epoch", type=int, default=800, help="faces between two validations of a large network, which also store its state")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--starts", default="unfrozen random frozen")
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--out", type=Path, default=Path("results/transfer"))
    options = parser.parse_args()
    split = split_for_comparison(load_faces(str(options.faces)), load_settings("full"))
    globals()[options.step](options, split)
    records = {path.parent.name: read_record(path) for path in sorted(options.runs.glob("*/record.json"))}
    if records:
        add_runs(options.out, records, split.test.group)


if __name__ == "__main__":
    main()
