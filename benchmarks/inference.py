"""Measure the prediction time of each network of the comparison: milliseconds per face on one core, in batches of 64 and one at a time.

Run: TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 python benchmarks/inference.py --out results/benchmarks/inference.json. CPU time is measured
rather than wall-clock time, so that other programs matter little; the best of several runs counts. Weights are random, which does not change the time."""

import argparse
import gc
import time

from facekp.experiments.measurement import write_measurement
from facekp.faces import Faces
from facekp.models.registry import build_model, list_models
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.seeds import set_seeds


def milliseconds(call, count: int, repeats: int) -> float:
    "Return the best CPU time per face of a call on `count` faces; the first call compiles and is not timed."
    call()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return 1000 * min(times) / count


def measure(name: str, faces: Faces, repeats: int) -> dict:
    "Build a network and time its predictions."
    model, batch = build_model(name, faces), faces.images[..., None]
    return {"milliseconds_a_face": milliseconds(lambda: model.predict_on_batch(batch), len(batch), repeats),
            "milliseconds_one_face": milliseconds(lambda: model.predict_on_batch(batch[:1]), 1, 3 * repeats),
            "weights": int(model.count_params())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list_models())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default="results/benchmarks/inference.json")
    options = parser.parse_args()
    set_seeds(0)
    found = {}
    for name in options.models:
        found[name] = measure(name, synthetic_faces(64, seed=0, workers=1), options.repeats)
        print(name, found[name], flush=True)
        gc.collect()
    write_measurement(options.out, {"what": "CPU milliseconds per 96x96 face on one core, in batches of 64 and one at a time", "models": found, "repeats": options.repeats},
                      f"TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 python benchmarks/inference.py --repeats {options.repeats}")


if __name__ == "__main__":
    main()
