"""Put in every fault, kill, spoil and repeat, and write down how often and what was lost.

    python benchmarks/reliability.py [--part NAME ...] [--fuzz-seconds 60] [--out results/reliability/reliability.json]

Parts: inputs, fuzz, faults, kills, course, threads, workers, scaling, cluster. Each is written when it is done and the others are kept, so that it may be
stopped and called again. The functions are those of the tests, with more turns. `cluster` needs: pip install 'facekp[cluster]', or
with --engine ray: pip install 'facekp[ray]'
"""

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

from facekp.core import write_json  # noqa: E402
from facekp.train import describe_machine, describe_versions  # noqa: E402


def run_tests(*names: str) -> dict[str, dict]:
    "Run test files; for each test function how many cases there were and how many failed."
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not long", f"--junitxml={folder}/report.xml", *names], cwd=ROOT / "tests",
                       check=False, stdout=subprocess.DEVNULL, env={**os.environ, "no_proxy": "127.0.0.1"})
        told: dict[str, dict] = {}
        for case in xml.etree.ElementTree.parse(f"{folder}/report.xml").iter("testcase"):
            entry = told.setdefault(case.get("name").split("[")[0].removeprefix("test_").replace("_", " "), {"tried": 0, "lost": 0})
            skipped = case.find("skipped") is not None
            entry["tried"] += not skipped
            entry["lost"] += case.find("failure") is not None or case.find("error") is not None
    return told


def count_inputs(_) -> dict:
    "The table of malformed inputs."
    told = run_tests("test_bad_input.py", "test_bad_files.py")
    kinds = {name: part for name, part in told.items() if re.match("bad ", name)}
    return {"inputs_tried": sum(part["tried"] for part in kinds.values()), "inputs_let_in": sum(part["lost"] for part in kinds.values()), "inputs": kinds}


def count_faults(_) -> dict:
    "Faults put in: each test function is one."
    told = {**run_tests("test_faults.py"), **{name: part for name, part in run_tests("test_fetch_kaggle.py").items() if "not work" in name or "disk" in name or "goes on" in name}}
    return {"faults": [{"fault": name, **part} for name, part in told.items()]}


def spoil(options) -> dict:
    "Files spoilt at random, for a time a kind."
    import test_fuzz

    found = []
    for kind, (_, _, _, count) in test_fuzz.READERS.items():
        with tempfile.TemporaryDirectory() as folder:
            found.append(test_fuzz.fuzz(kind, count, Path(folder), options.fuzz_seconds))
            print(found[-1], flush=True)
    return {"spoilt_files": found, "spoilt_files_tried": sum(part["tried"] for part in found), "spoilt_files_let_in": 0}


def kill(options) -> dict:
    "A training killed at random moments and in the middle of writing."
    import test_stop_anywhere as stop

    told, turn = {"kills": 0, "runs": 0, "largest_difference_of_weights": 0.0, "records_that_differ": 0}, 0
    while told["kills"] < options.kills and turn < 12:
        with tempfile.TemporaryDirectory() as folder:
            once = stop.kill_and_compare(Path(folder), 8, stop.MOMENTS if turn == 0 else [], seed=turn)
        told["kills"] += once["kills"]
        told["runs"] += 1
        told["largest_difference_of_weights"] = max(told["largest_difference_of_weights"], once["largest_difference_of_weights"])
        told["records_that_differ"] += not once["same_record"]
        turn += 1
        print(once, flush=True)
    return {"kills": told}


def kill_course(options) -> dict:
    "A comparison of several cells killed."
    import test_stop_anywhere as stop

    with tempfile.TemporaryDirectory() as folder:
        return {"course": stop.kill_a_course(Path(folder), options.kills_of_courses)}


def count_threads(_) -> dict:
    "The same training with other numbers of threads."
    import test_stop_anywhere as stop

    with tempfile.TemporaryDirectory() as folder:
        return {"threads": stop.same_again(Path(folder))}


def two_workers(_) -> dict:
    "One training in two processes."
    import test_distributed

    with tempfile.TemporaryDirectory() as folder:
        return {"workers": test_distributed.two_workers(Path(folder))}


def on_cluster(options) -> dict:
    "The grid on two workers of which one is killed, by Dask or by Ray."
    import test_distributed

    with tempfile.TemporaryDirectory() as folder:
        return {options.engine: {**test_distributed.grid_on_cluster(Path(folder), options.engine),
                                 "version": importlib.metadata.version({"dask": "distributed"}.get(options.engine, options.engine))}}


def scale(_) -> dict:
    "How much sooner a grid is done with a process a core: a ratio of two runs, one behind the other. Means something on a quiet machine only."
    from facekp.compare import run_grid, split_for_comparison
    from facekp.core import Settings
    from facekp.draw import draw_faces

    faces, seconds = draw_faces(400, seed=6), {}
    for workers in (os.cpu_count(), 1):
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(models="baseline", labels="complete masked ffill", augment=3, baseline_images=20_000, runs_folder=f"{folder}/runs")
            started = time.perf_counter()
            cells = len(run_grid(split_for_comparison(faces, settings), settings, f"{folder}/results", workers))
            seconds[workers] = time.perf_counter() - started
    return {"scaling": {"cells": cells, "processes": os.cpu_count(), "seconds_one_to_all": round(seconds[1] / seconds[os.cpu_count()], 2)}}


PARTS = {"inputs": count_inputs, "faults": count_faults, "fuzz": spoil, "kills": kill, "course": kill_course, "threads": count_threads, "workers": two_workers,
         "scaling": scale, "cluster": on_cluster}


def main() -> None:
    "Run the parts and write the record after each."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--fuzz-seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--kills-of-courses", type=int, default=10)
    parser.add_argument("--engine", default="dask", choices=["dask", "ray"], help="of the part cluster")
    parser.add_argument("--out", default=str(ROOT / "results" / "reliability" / "reliability.json"))
    options = parser.parse_args()
    out = Path(options.out)
    for part in options.part:
        started = time.perf_counter()
        found = PARTS[part](options)
        record = json.loads(out.read_text()) if out.exists() else {"what": "faults put in, files spoilt, processes killed, and what was lost", "seconds": {}}
        record |= found | {"versions": describe_versions(), "machine": describe_machine(), "command": "python benchmarks/reliability.py"}
        name = options.engine if part == "cluster" else part
        record["seconds"][name] = round(time.perf_counter() - started)
        write_json(out, record)
        print(name, record["seconds"][name], "s", flush=True)


if __name__ == "__main__":
    main()
