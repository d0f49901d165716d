"""Measure training: images per second with FaceBatches and with Keras's own array input, and the processor time that keeping freed memory saves.

Run: python benchmarks/training.py. Variants are timed alternately, and ratios are taken per pair, so that other load affects both equally."""

import argparse
import contextlib
import statistics
import time
from pathlib import Path

import numpy as np

from facekp.experiments.measurement import write_measurement
from facekp.models.cnn import build_cnn, build_heatmap
from facekp.models.regression import build_baseline
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.batches import FaceBatches
from facekp.training.losses import masked_mse
from facekp.training.memory import reuse_freed_memory
from facekp.training.seeds import set_seeds


def images_per_second(model, *data, **options) -> float:
    "Time one epoch."
    started = time.perf_counter()
    model.fit(*data, epochs=1, verbose=0, **options)
    return COUNT / (time.perf_counter() - started)


def processor_seconds(model, batches, keep: bool) -> tuple[float, int]:
    "Train one epoch; return the seconds of processor time and the number of page faults (0 where the system does not count them)."
    with reuse_freed_memory() if keep else contextlib.nullcontext():
        started, faults = time.process_time(), page_faults()
        model.fit(batches, epochs=1, verbose=0, shuffle=False)
        return time.process_time() - started, page_faults() - faults


def page_faults() -> int:
    "Count the page faults of this process so far, on Linux."
    try:
        return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[7])
    except OSError:
        return 0


COUNT, BATCH_SIZE = 2048, 32
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pairs", type=int, default=7, help="number of paired measurements")
parser.add_argument("--out", help="JSON file to write")
options = parser.parse_args()

faces = synthetic_faces(COUNT, seed=0)
results, memory = {}, {}
for build in (build_baseline, build_cnn, build_heatmap):
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
    kept_and_plain = [[processor_seconds(model, batches, keep) for keep in (True, False)] for _ in range(options.pairs)]
    (kept, kept_faults), (freed, freed_faults) = np.median(kept_and_plain, axis=0)
    ratio = statistics.median(kept[0] / plain[0] for kept, plain in kept_and_plain)
    memory[model.name] = {"seconds": kept, "seconds_without": freed, "ratio": ratio, "page_faults": int(kept_faults), "page_faults_without": int(freed_faults)}
    print(f"{'':<9} {kept:7.1f} s of processor time with freed memory kept, {freed:.1f} s without; ratio {ratio:.2f}")
if options.out:
    write_measurement(options.out, {"results": results, "freed_memory": memory, "pairs": options.pairs}, f"python benchmarks/training.py --pairs {options.pairs}")
