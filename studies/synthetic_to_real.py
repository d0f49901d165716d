"""Measure how realistic the synthetic faces are: train a network on synthetic faces only and test it on photographs.

python studies/synthetic_to_real.py --test faces.npz [--model compact] [--strong] [--faces 14000] [--images 240000]

The photographs are used only for the test. Besides the RMSE, the results contain the RMSE after a constant offset per keypoint is removed, which is the
error that remains if the annotation conventions of both sets were the same. It is a diagnosis and not a score. A second score uses the mean of two
predictions: for the image, and for its mirror image (mirrored back). Runs with a result are not trained again. Writes results/synthetic_to_real/.
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np

from facekp.augment_bulk import augment_faces
from facekp.data.sources import load_faces
from facekp.experiments.record import Record, describe_data, make_record
from facekp.experiments.results import add_runs, has_study, read_study
from facekp.faces import Faces
from facekp.keypoints import KEYPOINTS
from facekp.metrics import rmse
from facekp.models.registry import build_model
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.batches import predict_points
from facekp.training.loop import fit
from facekp.training.losses import masked_mae, masked_mse
from facekp.training.seeds import set_seeds

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes" / "default"))
from train import predict_with_mirror, strong_copies

BATCH_SIZE = 64
STRONG = {"patience": 10**6, "loss": masked_mae, "faces_per_epoch": 20_000}  # as the shipped model is trained


def diagnose(predicted: np.ndarray, points: np.ndarray) -> dict:
    "Return the error without each keypoint's constant offset, the offsets in pixels, and the share of the points' variation that the predictions follow (1: all of it)."
    offset = np.nanmean(predicted - points, axis=0)
    slopes = {keypoint: [np.polyfit(*(values[np.isfinite(points[:, number, 0]), number, axis] for values in (points, predicted)), 1)[0] for axis in range(2)]
              for number, keypoint in enumerate(KEYPOINTS)}
    return {"rmse_without_offset": rmse(predicted - offset, points), "offset": dict(zip(KEYPOINTS, offset)), "slope": slopes}


def train_and_score(options: argparse.Namespace, test: Faces) -> Record:
    "Train one network on synthetic faces and score it on photographs."
    started = time.perf_counter()
    faces = synthetic_faces(options.faces, seed=options.seed)
    rendering_seconds = time.perf_counter() - started
    print(f"{options.faces} faces rendered in {rendering_seconds:.0f} s", flush=True)
    held_out = max(options.faces // 20, 1)
    validation, rest = faces[:held_out], faces[held_out:]
    train = strong_copies(rest, options.copies * len(rest), options.seed) if options.strong else augment_faces(rest, copies=options.copies, seed=options.seed)
    set_seeds(options.seed)
    training = fit(build_model(options.model, train), train, validation, images_shown=options.images, batch_size=BATCH_SIZE, learning_rate=options.learning_rate,
                   seed=options.seed, **(STRONG if options.strong else {"patience": 6, "loss": masked_mse}))
    budget = {"images": options.images, "batch_size": BATCH_SIZE, "learning_rate": options.learning_rate}
    data = {**describe_data(rest[:0], rest[:0], test), "synthetic_faces": options.faces, "n_used": len(train), "augmentation": "strong" if options.strong else "plain",
            "loss": "masked_mae" if options.strong else "masked_mse", "rendering_seconds": round(rendering_seconds, 1)}
    record = make_record(training, test, {"model": options.model, "labels": "truth", "augment": options.copies, "profile": "full", "seed": options.seed,
                                          "data": data, "budget": budget})
    points = test.points if test.truth is None else test.truth
    both = predict_with_mirror(training.model, test.images)
    record.metrics |= diagnose(predict_points(training.model, test.images), points) | {"mirrored": {"rmse": rmse(both, points), "rmse_without_offset": diagnose(both, points)["rmse_without_offset"]}}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", required=True, help="photographs with points: any source that facekp reads")
    parser.add_argument("--faces", type=int, default=14_000, help="number of synthetic faces, a twentieth of them for validation")
    parser.add_argument("--copies", type=int, default=1, help="augmented copies per face")
    parser.add_argument("--strong", action="store_true", help="augment with facekp.augment.strong_recipe, without the original faces, and train with the absolute error")
    parser.add_argument("--images", type=int, default=240_000, help="images shown in training")
    parser.add_argument("--model", choices=("heatmap", "compact"), default="compact", help="network to train")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "synthetic_to_real", help="folder of the results")
    options = parser.parse_args()
    test = load_faces(options.test)
    name = f"{options.model}-{'strong' if options.strong else 'plain'}-faces{options.faces}-copies{options.copies}-images{options.images}-rate{options.learning_rate:g}-seed{options.seed}"
    if has_study(options.out) and name in read_study(options.out).runs.index:
        print(f"{options.out}: {name} has a result already")
        return
    record = train_and_score(options, test)
    add_runs(options.out, {name: record}, test.group)
    print(f"{name}: {record.metrics['rmse']:.3f} px on {len(test)} photographs ({record.metrics['rmse_without_offset']:.3f} px without constant offsets), "
          f"{record.seconds:.0f} s of training; averaged with the mirrored prediction {record.metrics['mirrored']['rmse']:.3f} px")


if __name__ == "__main__":
    main()
