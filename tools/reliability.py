"""Inject faults, kill processes, damage files and repeat runs; record how often, and what was lost.

    python tools/reliability.py [--part NAME ...] [--fuzz-seconds 60] [--out results/reliability/reliability.json]

Parts: inputs, faults, fuzz, kills, course, threads, workers, scaling, dask, ray. Each part is written as soon as it is complete, with its machine and
versions, and the other parts are kept. The script can therefore be stopped and started again, also on another machine. It calls the functions of the
tests, with more repetitions. `dask` needs: pip install -e '.[cluster]'; `ray` needs: pip install -e '.[ray]'
"""

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from pathlib import Path

from parts import load_average, write_part

ROOT = Path(__file__).resolve().parent.parent
WHAT = "faults injected, files damaged, processes killed, and what was lost"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "faults"), str(ROOT / "tests" / "unit")]
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def run_tests(*names: str) -> dict[str, dict]:
    "Run test files; return the numbers of cases and failures of each test function."
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not long", f"--junitxml={folder}/report.xml", *names], cwd=ROOT / "tests" / "faults",
                       check=False, stdout=subprocess.DEVNULL, env={**os.environ, "no_proxy": "127.0.0.1"})
        outcomes: dict[str, dict] = {}
        for case in xml.etree.ElementTree.parse(f"{folder}/report.xml").iter("testcase"):
            entry = outcomes.setdefault(case.get("name").split("[")[0].removeprefix("test_").replace("_", " "), {"tried": 0, "lost": 0})
            skipped = case.find("skipped") is not None
            entry["tried"] += not skipped
            entry["lost"] += case.find("failure") is not None or case.find("error") is not None
    return outcomes


def count_inputs(_) -> dict:
    "Count the cases of malformed input."
    outcomes = run_tests("test_bad_input.py", "test_bad_files.py")
    return in_all([{"kind": name, **part} for name, part in outcomes.items() if re.match("bad ", name)])


def in_all(rows: list[dict]) -> dict:
    "Return the sums over all rows, followed by the rows."
    return {"tried": sum(row["tried"] for row in rows), "lost": sum(row["lost"] for row in rows), "rows": rows}


def count_faults(_) -> dict:
    "Count the injected faults, one row per test function."
    outcomes = {**run_tests("test_faults.py"), **{name: part for name, part in run_tests("test_fetch_kaggle.py").items() if "not work" in name or "disk" in name or "goes on" in name}}
    return in_all([{"fault": name, **part} for name, part in outcomes.items()])


def count_fuzz(options) -> dict:
    "Damage files at random for a given time per kind. Any error other than the reader's own one-line message stops the script, so a record means that there was none."
    import test_fuzz

    rows = []
    for kind, (_, _, _, count) in test_fuzz.READERS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append({**test_fuzz.fuzz(kind, count, Path(folder), options.fuzz_seconds), "lost": 0})
            print(rows[-1], flush=True)
    return {"seconds_a_kind": options.fuzz_seconds, **in_all(rows)}


def kill(options) -> dict:
    "Kill a training run at random moments and while it writes."
    import test_stop_anywhere as stop

    outcomes, turn = {"kills": 0, "runs": 0, "largest_difference_of_weights": 0.0, "records_that_differ": 0}, 0
    while outcomes["kills"] < options.kills and turn < 12:
        with tempfile.TemporaryDirectory() as folder:
            once = stop.kill_and_compare(Path(folder), 8, stop.MOMENTS if turn == 0 else [], seed=turn)
        outcomes["kills"] += once["kills"]
        outcomes["runs"] += 1
        outcomes["largest_difference_of_weights"] = max(outcomes["largest_difference_of_weights"], once["largest_difference_of_weights"])
        outcomes["records_that_differ"] += not once["same_record"]
        turn += 1
        print(once, flush=True)
    return outcomes


def kill_course(options) -> dict:
    "Kill a comparison of several trials."
    import test_stop_anywhere as stop

    with tempfile.TemporaryDirectory() as folder:
        return stop.kill_a_course(Path(folder), options.kills_of_courses)


def count_threads(_) -> dict:
    "Repeat a training run with different numbers of threads."
    import test_stop_anywhere as stop

    with tempfile.TemporaryDirectory() as folder:
        return stop.same_again(Path(folder))


def two_workers(_) -> dict:
    "Train in two processes."
    import test_distributed

    with tempfile.TemporaryDirectory() as folder:
        return test_distributed.two_workers(Path(folder))


def on_cluster(engine: str) -> dict:
    "Run the grid on two workers of Dask or Ray, and kill one of them."
    import test_distributed

    with tempfile.TemporaryDirectory() as folder:
        found = test_distributed.grid_on_cluster(Path(folder), engine)
        return {**found, "version": importlib.metadata.version({"dask": "distributed"}.get(engine, engine))}


def scale(_) -> dict:
    """Measure the speed-up of a grid with one process per core, and its additional CPU time.

    The speed-up is the ratio of two consecutive runs and needs an idle machine; CPU time is less affected by other load."""
    from joblib.externals.loky import get_reusable_executor

    from facekp.config import Settings
    from facekp.experiments.plan import plan_experiment
    from facekp.experiments.run import run_experiment
    from facekp.synthetic.renderer import synthetic_faces

    faces, wall, processor, everything = synthetic_faces(400, seed=6), {}, {}, os.cpu_count()
    for workers in (everything, 1):
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(models="baseline", labels="complete masked ffill", augment=3, baseline_images=20_000, runs_folder=f"{folder}/runs", results_folder=f"{folder}/results")
            experiment, started, used = plan_experiment(faces, settings), time.perf_counter(), processor_seconds()
            cells = len(run_experiment(experiment, workers).runs)
            wall[workers] = time.perf_counter() - started
            get_reusable_executor().shutdown(wait=True)  # the CPU time of a child process is counted when it ends
            processor[workers] = processor_seconds() - used
    return {"cells": cells, "processes": everything, "seconds_with_one": round(wall[1], 1), "seconds_with_all": round(wall[everything], 1),
            "seconds_one_to_all": round(wall[1] / wall[everything], 2), "processor_seconds_with_one": round(processor[1], 1),
            "processor_seconds_with_all": round(processor[everything], 1), "at_most_on_a_quiet_machine": round(everything * processor[1] / processor[everything], 2)}


def processor_seconds() -> float:
    "Return the CPU time of this process and of its finished child processes, in seconds."
    return sum(os.times()[:4])


PARTS = {"inputs": count_inputs, "faults": count_faults, "fuzz": count_fuzz, "kills": kill, "course": kill_course, "threads": count_threads, "workers": two_workers,
         "scaling": scale, "dask": lambda _: on_cluster("dask"), "ray": lambda _: on_cluster("ray")}


def main() -> None:
    "Run the parts and write the record after each."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--fuzz-seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--kills-of-courses", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reliability" / "reliability.json")
    options = parser.parse_args()
    amounts = {"fuzz": f" --fuzz-seconds {options.fuzz_seconds:g}", "kills": f" --kills {options.kills}", "course": f" --kills-of-courses {options.kills_of_courses}"}
    for name in options.part:
        busy, started = load_average(), time.perf_counter()
        found = PARTS[name](options)
        part = write_part(options.out, WHAT, name, found, time.perf_counter() - started, busy, f"python tools/reliability.py --part {name}{amounts.get(name, '')}")
        print(name, part["seconds"], "s", flush=True)


if __name__ == "__main__":
    main()
