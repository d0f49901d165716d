"""Measure how realistic the synthetic faces are: train a heatmap network on synthetic faces only and test it on photographs.

python studies/synthetic_to_real.py --test faces.npz [--faces 14000] [--images 300000] [--save results/synthetic_to_real/heatmap.json]

The photographs are used only for the test. Besides the RMSE, the record contains the RMSE after a constant offset per keypoint is removed, which is the
error that remains if the annotation conventions of both sets were the same. It is a diagnosis and not a score. A second score uses the mean of two
predictions: for the image, and for its mirror image (mirrored back).
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np

from facekp.augment_bulk import augment_faces
from facekp.data.sources import load_faces
from facekp.evaluation import evaluate_points, rmse_by_keypoint
from facekp.experiments.measurement import write_measurement
from facekp.files import hash_file
from facekp.keypoints import KEYPOINTS
from facekp.metrics import rmse
from facekp.models.cnn import build_heatmap
from facekp.models.compact import build_compact
from facekp.models.files import save_model
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.batches import predict_points
from facekp.training.loop import fit
from facekp.training.losses import masked_mae, masked_mse
from facekp.training.seeds import set_seeds

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes" / "default"))
from train import predict_with_mirror, strong_copies


def diagnose(predicted: np.ndarray, points: np.ndarray) -> dict:
    "Return the error without each keypoint's constant offset, and the share of the points' variation that the predictions follow (1: all of it)."
    offset = np.nanmean(predicted - points, axis=0)
    shifted = predicted - offset
    slopes = {}
    for number, keypoint in enumerate(KEYPOINTS):
        for axis, name in enumerate("xy"):
            known = ~np.isnan(points[:, number, axis])
            slopes[f"{keypoint}_{name}"] = np.polyfit(points[known, number, axis], predicted[known, number, axis], 1)[0]
    return {"rmse_without_offset": rmse(shifted, points),
            "per_point_without_offset": dict(zip(KEYPOINTS, rmse_by_keypoint(shifted, points))),
            "offset": {keypoint: offset[number] for number, keypoint in enumerate(KEYPOINTS)}, "slope": slopes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", required=True, help="photographs with points: any source that facekp reads")
    parser.add_argument("--faces", type=int, default=14_000, help="number of synthetic training faces")
    parser.add_argument("--copies", type=int, default=1, help="augmented copies per face")
    parser.add_argument("--strong", action="store_true", help="augment with facekp.augment.strong_recipe, without the original faces; the record strong.json is older than this recipe")
    parser.add_argument("--images", type=int, default=300_000, help="images shown in training")
    parser.add_argument("--model", choices=("heatmap", "compact"), default="compact", help="network to train")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="also write a JSON record to this file")
    parser.add_argument("--keep", type=Path, help="also write the trained model to this .keras file")
    options = parser.parse_args()
    test = load_faces(options.test)
    started = time.perf_counter()
    synthetic = synthetic_faces(options.faces, seed=options.seed)
    rendering_seconds = time.perf_counter() - started
    print(f"{options.faces} faces rendered in {rendering_seconds:.0f} s", flush=True)
    held_out = max(options.faces // 20, 1)
    rest = synthetic[held_out:]
    train = strong_copies(rest, options.copies * len(rest), options.seed) if options.strong else augment_faces(rest, copies=options.copies, seed=options.seed)
    set_seeds(options.seed)
    model = build_compact() if options.model == "compact" else build_heatmap()
    training = fit(model, train, synthetic[:held_out], images_shown=options.images, learning_rate=options.learning_rate, seed=options.seed,
                   patience=10**6 if options.strong else 6, loss=masked_mae if options.strong else masked_mse, faces_per_epoch=20_000 if options.strong else None)
    predicted = predict_points(model, test.images)
    points = test.points if test.truth is None else test.truth
    metrics, diagnosis = evaluate_points(predicted, points, test.group), diagnose(predicted, points)
    both = predict_with_mirror(model, test.images)
    mirrored = {**evaluate_points(both, points, test.group), "rmse_without_offset": diagnose(both, points)["rmse_without_offset"]}
    record = {"model": options.model, "labels": "complete", "augment": options.copies, "profile": "full", "seed": options.seed,
              "budget": {"images": options.images, "learning_rate": options.learning_rate},
              "weights": model.count_params(), "epochs": training.epochs, "images_shown": training.images_shown,
              "seconds_drawing": rendering_seconds, "metrics": metrics, "mirrored": mirrored, "diagnosis": diagnosis, "history": training.history}
    data = {"name": test.name, "sha256": hash_file(options.test) if Path(options.test).is_file() else None, "n_train": options.faces - held_out,
            "n_validation": held_out, "n_test": len(test), "train": synthetic.name}
    command = (f"python studies/synthetic_to_real.py --test {Path(options.test).name} --model {options.model} --faces {options.faces} "
               f"--copies {options.copies} --images {options.images} --learning-rate {options.learning_rate} --seed {options.seed}{' --strong' if options.strong else ''}")
    print(f"{metrics['rmse']:.3f} px on {len(test)} photographs ({diagnosis['rmse_without_offset']:.3f} px without constant offsets), "
          f"{training.seconds:.0f} s of training; averaged with the mirrored prediction {mirrored['rmse']:.3f} px")
    for keypoint, error in metrics["per_point"].items():
        print(f"  {keypoint:24} {error:.2f} px, without offset {diagnosis['per_point_without_offset'][keypoint]:.2f} px")
    if options.save:
        write_measurement(options.save, record, command, data, training.seconds)
    if options.keep:
        save_model(model, options.keep)


if __name__ == "__main__":
    main()
