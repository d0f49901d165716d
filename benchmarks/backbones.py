"""Compare the speed of facekp's pretrained networks with the plain Keras applications, in images per second, in training and in inference.

Run: python benchmarks/backbones.py --out results/benchmarks/backbones.json. The Keras application is the whole network with average pooling and
thirty outputs, on colour images that are already scaled. facekp's network repeats the grey channel, scales it, ends at the default feature level and
predicts heatmaps. Both are timed alternately with the same batch size, and ratios are taken per pair, so that other load affects both equally."""

import argparse
import gc
import statistics
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np

from facekp.experiments.measurement import read_measurement, write_measurement
from facekp.models.transfer import build_transfer
from facekp.training.losses import masked_mse
from facekp.training.seeds import set_seeds

APPLICATIONS = {"mobilenetv2": keras.applications.MobileNetV2, "resnet50": keras.applications.ResNet50,
                "efficientnetb7": keras.applications.EfficientNetB7}


def build_bare(name: str) -> keras.Model:
    "Build the plain Keras application with thirty outputs."
    application = APPLICATIONS[name](include_top=False, weights=None, input_shape=(96, 96, 3), pooling="avg")
    points = keras.layers.Reshape((15, 2))(keras.layers.Dense(30)(application.output))
    return keras.Model(application.input, points)


def images_per_second(call, count: int) -> float:
    "Time one call."
    started = time.perf_counter()
    call()
    return count / (time.perf_counter() - started)


def compare(ours, bare, count: int, pairs: int) -> dict:
    "Time two calls alternately."
    ours(), bare()
    times = [(images_per_second(ours, count), images_per_second(bare, count)) if pair % 2 else
             (images_per_second(bare, count), images_per_second(ours, count))[::-1] for pair in range(pairs)]
    mine, plain = np.median(times, axis=0)
    return {"images_per_second": mine, "bare_images_per_second": plain, "ratio": statistics.median(a / b for a, b in times),
            "ratios": [a / b for a, b in times]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", default="mobilenetv2 resnet50 efficientnetb7")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=7, help="number of paired measurements")
    parser.add_argument("--out", help="JSON file to write; results of other backbones in it are kept")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, (options.batch_size, 96, 96, 1), np.uint8)
    colour = np.repeat(grey, 3, axis=-1).astype(np.float32) / 127.5 - 1
    points = random.uniform(10, 86, (options.batch_size, 15, 2)).astype(np.float32)
    results = read_measurement(options.out)["results"] if options.out and Path(options.out).exists() else {}
    for name in options.backbones.split():
        set_seeds(0)
        ours, bare = build_transfer(name), build_bare(name)
        for model in (ours, bare):
            model.compile("adam", masked_mse, jit_compile=False)
        results[name] = {
            "inference": compare(partial(ours.predict_on_batch, grey), partial(bare.predict_on_batch, colour), options.batch_size, options.pairs),
            "training": compare(partial(ours.train_on_batch, grey, points), partial(bare.train_on_batch, colour, points), options.batch_size, options.pairs),
            "weights": ours.count_params(), "bare_weights": bare.count_params(), "batch_size": options.batch_size, "pairs": options.pairs}
        for kind in ("inference", "training"):
            figures = results[name][kind]
            print(f"{name:<15} {kind:<9} {figures['images_per_second']:6.1f} images/s, bare {figures['bare_images_per_second']:6.1f}; "
                  f"ratio {figures['ratio']:.2f} (median of {options.pairs} pairs)", flush=True)
        del ours, bare, model
        keras.backend.clear_session()
        gc.collect()
        if options.out:
            write_measurement(options.out, {"results": results}, "python benchmarks/backbones.py")


if __name__ == "__main__":
    main()
