"""What it gains that `fit` asks the C library to keep the memory TensorFlow frees: images a second of training with and without, and pages that the system had to clear.

Run: python benchmarks/memory.py [--out results/benchmarks/memory.json]. Every training runs in a process of its own, since the setting holds for the whole process; with and without in turns."""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

NETS = {"baseline": 40_000, "cnn": 6_000, "heatmap": 5_000, "compact": 2_000}  # images a measurement


def measure(net: str, keep: bool) -> None:
    "Train a little, then time it."
    from facekp import train
    from facekp.baseline import build_baseline
    from facekp.cnn import build_cnn, build_compact, build_heatmap
    from facekp.core import set_seeds
    from facekp.draw import draw_faces

    if not keep:
        train._keep_freed_memory = lambda: None
    faces = draw_faces(500, seed=0)
    set_seeds(0)
    model = {"baseline": build_baseline, "cnn": build_cnn, "heatmap": build_heatmap, "compact": build_compact}[net]()
    images = NETS[net]
    train.fit(model, faces, faces[:50], images_shown=1_000, show_progress=False)
    pages, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    train.fit(model, faces, faces[:50], images_shown=images, show_progress=False)
    print(json.dumps({"images_per_second": images / (time.perf_counter() - started), "pages_an_image": (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages) / images}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3, help="how often both are timed in turn")
    parser.add_argument("--out", help="where to write the figures as JSON")
    parser.add_argument("--one", nargs=2, metavar=("NET", "KEEP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return measure(options.one[0], options.one[1] == "with")
    results = {}
    for net in NETS:
        found = {"with": [], "without": []}
        for _ in range(options.pairs):
            for keep, rows in found.items():
                done = subprocess.run([sys.executable, __file__, "--one", net, keep], capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
        ratio = float(np.median([one["images_per_second"] / other["images_per_second"] for one, other in zip(found["with"], found["without"])]))
        results[net] = {keep: {key: float(np.median([row[key] for row in rows])) for key in rows[0]} for keep, rows in found.items()} | {"ratio": ratio}
        print(f"{net:<9} {results[net]['with']['images_per_second']:7.0f} images/s with, {results[net]['without']['images_per_second']:7.0f} without; ratio {ratio:.2f}", flush=True)
    if options.out:
        from facekp.core import write_json
        from facekp.train import describe_machine, describe_versions

        write_json(options.out, {"results": results, "pairs": options.pairs, "machine": describe_machine(), "versions": describe_versions(),
                                 "command": f"python benchmarks/memory.py --out {options.out}"})


if __name__ == "__main__":
    main()
