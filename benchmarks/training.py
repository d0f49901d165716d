"""Measure the cost of the input pipeline: training throughput in images per second with FaceBatches, compared with Keras's own array input.

Run: python benchmarks/training.py. Both are timed alternately, and ratios are taken per pair, so that other load affects both equally."""

import argparse
import statistics
import time

import numpy as np

from facekp.experiments.measurement import write_measurement
from facekp.models.cnn import build_cnn
from facekp.models.regression import build_baseline
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.batches import FaceBatches
from facekp.training.losses import masked_mse
from facekp.training.seeds import set_seeds


def images_per_second(model, *data, **options) -> float:
    "Time one epoch."
    started = time.perf_counter()
    model.fit(*data, epochs=1, verbose=0, **options)
    return COUNT / (time.perf_counter() - started)


COUNT, BATCH_SIZE = 2048, 32
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pairs", type=int, default=7, help="number of paired measurements")
parser.add_argument("--out", help="JSON file to write")
options = parser.parse_args()

faces = synthetic_faces(COUNT, seed=0)
results = {}
for build in (build_baseline, build_cnn):
    set_seeds(0)
    model = build()
    model.compile("adam", masked_mse, jit_compile=False)
    arrays = faces.images[..., None], faces.points
    batches = FaceBatches(faces.images, faces.points, BATCH_SIZE)
    images_per_second(model, batches, shuffle=False)
    images_per_second(model, *arrays, batch_size=BATCH_SIZE)
    pairs = [(images_per_second(model, batches, shuffle=False), images_per_second(model, *arrays, batch_size=BATCH_SIZE))
             for _ in range(options.pairs)]
    ratio = statistics.median(ours / plain for ours, plain in pairs)
    ours, plain = np.median(pairs, axis=0)
    results[model.name] = {"images_per_second": ours, "arrays_images_per_second": plain, "ratio": ratio}
    print(f"{model.name:<9} {ours:7.0f} images/s with FaceBatches, {plain:7.0f} from arrays; ratio {ratio:.2f} (median of {options.pairs} pairs)")
if options.out:
    write_measurement(options.out, {"results": results, "pairs": options.pairs}, f"python benchmarks/training.py --pairs {options.pairs}")
