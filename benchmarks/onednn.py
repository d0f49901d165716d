"""Measure what oneDNN saves in training and prediction on this processor.

Run: python benchmarks/onednn.py [--pairs 3] [--out results/benchmarks/onednn.json]. TensorFlow reads the setting when it is imported, so each measurement is a process of its own; processes with and
without oneDNN alternate, and ratios are taken per pair. The measure is processor time with one thread, which other load affects less than the time that passes."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

MODELS = ("cnn", "heatmap", "compact", "nouri2014")
COUNT, BATCH_SIZE = 512, 64


def measure(name: str) -> dict[str, float]:
    "Return the processor time per image of training and of prediction, in milliseconds."
    import tensorflow as tf

    from facekp.models.registry import build_model
    from facekp.synthetic.renderer import synthetic_faces
    from facekp.training.batches import FaceBatches, predict_points
    from facekp.training.losses import masked_mse
    from facekp.training.memory import reuse_freed_memory

    tf.config.threading.set_intra_op_parallelism_threads(1)
    faces = synthetic_faces(COUNT, seed=0)
    model = build_model(name, faces)
    model.compile("adam", masked_mse, jit_compile=False)
    batches, milliseconds = FaceBatches(faces.images, faces.points, BATCH_SIZE), {}
    for kind, work in (("training", lambda: model.fit(batches, epochs=1, verbose=0, shuffle=False)), ("prediction", lambda: predict_points(model, faces.images))):
        with reuse_freed_memory():
            work()  # the first pass traces the graph
            started = time.process_time()
            work()
            milliseconds[kind] = 1000 * (time.process_time() - started) / COUNT
    return milliseconds


def measure_in_process(name: str, onednn: bool) -> dict[str, float]:
    "Return the result of `measure` in a new process with oneDNN on or off."
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(int(onednn)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, "--measure", name], env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="number of paired measurements")
    parser.add_argument("--measure", choices=MODELS, help="measure one model in this process")
    parser.add_argument("--out", help="JSON file to write")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    from facekp.experiments.measurement import write_measurement

    rows = []
    for name in MODELS:
        pairs = [(measure_in_process(name, True), measure_in_process(name, False)) for _ in range(options.pairs)]
        for kind in ("training", "prediction"):
            ours, plain = ([each[kind] for each in side] for side in zip(*pairs))
            rows.append({"model": name, "kind": kind, "ms": statistics.median(ours), "ms_without": statistics.median(plain),
                         "ratio": statistics.median(first / second for first, second in zip(ours, plain))})
            print("{model:<9} {kind:<10} {ms:6.2f} ms of processor time per image with oneDNN, {ms_without:6.2f} without; ratio {ratio:.2f}".format(**rows[-1]), flush=True)
    if options.out:
        write_measurement(options.out, {"rows": rows, "pairs": options.pairs}, f"python benchmarks/onednn.py --pairs {options.pairs}")


if __name__ == "__main__":
    main()
