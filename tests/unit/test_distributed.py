"""Shards on disk, one training run on several devices and machines, and the comparison on a cluster."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekp.errors import UserError
from facekp.faces import Faces

WORKER = """
import json, os, signal, sys
from pathlib import Path
told = json.loads(sys.argv[1])
import tensorflow
tensorflow.config.threading.set_intra_op_parallelism_threads(1)
tensorflow.config.threading.set_inter_op_parallelism_threads(2)
import keras
import numpy as np
from facekp.errors import RunError
from facekp.training import distributed
from facekp.training.distributed import fit_shards, worker_strategy
from facekp.training.shards import read_shards

def net():
    return keras.Sequential([keras.Input((96, 96, 1)), keras.layers.Rescaling(1 / 255), keras.layers.AveragePooling2D(8), keras.layers.Flatten(),
                             keras.layers.Dense(32, "relu"), keras.layers.Dense(30), keras.layers.Rescaling(20, 48), keras.layers.Reshape((15, 2))])

strategy = worker_strategy(told["addresses"], told["number"]) if told["addresses"] else None
if told["dies_after"] is not None:
    planned = distributed.plan_epoch
    def plan(*arguments):
        for number, step in enumerate(planned(*arguments)):
            if arguments[-1] == told["dies_after"] and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield step
    distributed.plan_epoch = plan
try:
    model, losses = fit_shards(net, read_shards(told["shards"]), told["epochs"], strategy, 16, seed=2, run_folder=told["run"], resume=True)
except RunError as error:
    print("RunError", error, flush=True)
    os._exit(1)
np.savez(told["out"], *model.get_weights(), losses=losses)
print("done", flush=True)
"""


def some_faces(count: int, seed: int = 0) -> Faces:
    "Return faces of noise, all different, with some points missing."
    rng = np.random.default_rng(seed)
    points = rng.uniform(10, 80, (count, 15, 2)).astype(np.float32)
    points[rng.random((count, 15)) < 0.3] = np.nan
    names = np.array([str(number) for number in range(count)])
    return Faces(rng.integers(0, 256, (count, 96, 96), np.uint8), points, names, names, names)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 25), st.integers(1, 20), st.integers(1, 4), st.integers(0, 99))
def test_each_face_is_read_once_an_epoch_by_one_worker(tmp_path_factory, batches, faces_per_shard, batch_size, parts, seed):
    from facekp.training.shards import plan_epoch, read_part, write_shards

    faces, ends = some_faces(sum(batches)), np.cumsum([0, *batches])
    shards = write_shards((faces[low:high] for low, high in zip(ends, ends[1:])), tmp_path_factory.mktemp("shards"), faces_per_shard)
    assert len(shards) == len(faces) and set(shards.counts[:-1]) <= {faces_per_shard}
    size, read = -(-batch_size // parts), []
    for shard, rows in plan_epoch(shards, batch_size, seed):
        for part in range(parts):
            images, points = read_part(shards, shard, rows, part, parts, size)
            assert images.shape == (size, 96, 96, 1) and points.shape == (size, 15, 2)
            real = len(rows[part::parts])
            assert not images[real:].any() and np.isnan(points[real:]).all()
            read += [image.tobytes() for image in images[:real]]
    assert sorted(read) == sorted(image.tobytes() for image in faces.images)


@pytest.mark.parametrize("harm", ["no index", "half an index", "a piece is gone", "a piece is cut", "a piece is another"])
def test_broken_shards_are_named(harm, tmp_path):
    from facekp.training.shards import read_shards, write_shards

    write_shards([some_faces(9)], tmp_path, 4)
    index, piece = tmp_path / "shards.json", tmp_path / "shard-00001-points.npy"
    if harm == "no index":
        index.unlink()
    elif harm == "half an index":
        index.write_text(index.read_text()[:30])
    elif harm == "a piece is gone":
        piece.unlink()
    elif harm == "a piece is cut":
        piece.write_bytes(piece.read_bytes()[:-100])
    else:
        np.save(piece, np.zeros((4, 14, 2)))
    with pytest.raises(UserError, match="shards.json" if "index" in harm else "shard-00001-points.npy"):
        read_shards(tmp_path)


@pytest.mark.parametrize(("addresses", "number", "words"), [([], 0, "no addresses"), (["a:1"], 1, "from 0 to 0"), (["a"], 0, "host:port"), (["a:b"], 0, "host:port")])
def test_wrong_workers_are_named(addresses, number, words):
    from facekp.training.distributed import worker_strategy

    with pytest.raises(UserError, match=words):
        worker_strategy(addresses, number)
    assert "TF_CONFIG" not in os.environ


def free_addresses(count: int) -> list[str]:
    "Return free addresses on this machine."
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def train(folder: Path, name: str, workers: int, epochs: int = 3, dies: tuple[int, int] | None = None, timeout: float = 400) -> list[tuple[int, str, dict | None]]:
    "Train with this number of processes; return exit status, output and weights of each."
    addresses = free_addresses(workers) if workers > 1 else []
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "no_proxy": "127.0.0.1,localhost", "GRPC_FAIL_FAST": "use_caller"}
    started, processes = time.perf_counter(), []
    for number in range(workers):
        told = {"addresses": addresses, "number": number, "shards": str(folder / "shards"), "epochs": epochs, "run": str(folder / name),
                "out": str(folder / f"{name}-{number}.npz"), "dies_after": dies[1] if dies and dies[0] == number else None}
        log = open(folder / f"{name}-{number}.log", "w+")  # a pipe could fill up
        processes.append((subprocess.Popen([sys.executable, "-c", WORKER, json.dumps(told)], stdout=log, stderr=subprocess.STDOUT, env=environment,
                                           cwd=Path(__file__).parent), log, told["out"]))
    answers = []
    for process, log, out in processes:
        try:
            process.wait(max(1, timeout - (time.perf_counter() - started)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.seek(0)
        weights = dict(np.load(out)) if process.returncode == 0 else None
        answers.append((process.returncode, log.read(), weights))
        log.close()
    return answers


def largest_difference(first: dict, second: dict) -> float:
    "Return the largest difference of two sets of weights and losses."
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def two_workers(folder: Path) -> dict:
    "Train in one process, in two, and in two of which one is killed and both are restarted; return the differences."
    from facekp.training.shards import write_shards

    write_shards([some_faces(150)], folder / "shards", 64)
    (status, said, alone), = train(folder, "alone", 1)
    assert status == 0, said
    both = train(folder, "both", 2)
    assert [answer[0] for answer in both] == [0, 0], both[0][1] + both[1][1]
    died = train(folder, "died", 2, dies=(1, 2), timeout=300)
    assert died[1][0] == -signal.SIGKILL
    again = train(folder, "died", 2)
    assert [answer[0] for answer in again] == [0, 0], again[0][1] + again[1][1]
    words = [line for line in died[0][1].splitlines() if line.startswith("RunError")]
    return {"between_workers": largest_difference(both[0][2], both[1][2]), "against_one_process": largest_difference(alone, both[0][2]),
            "after_a_death": largest_difference(both[0][2], again[0][2]), "survivor_said": words[0] if words else "", "survivor_status": died[0][0],
            "workers_killed": 1, "epochs_kept": 2, "loss_alone": alone["losses"].tolist(), "loss_both": both[0][2]["losses"].tolist()}


@pytest.mark.long
def test_two_workers_are_one_and_a_death_is_said_and_made_good(tmp_path):
    told = two_workers(tmp_path)
    assert told["between_workers"] == 0 and told["against_one_process"] < 1e-3 and told["after_a_death"] == 0, told
    assert told["survivor_said"].startswith("RunError another worker ended") and "resume" in told["survivor_said"], told


# the comparison on a cluster

COURSE = """
import os, sys
from facekp.config import Settings
from facekp.data.npz import load_npz
from facekp.experiments.run import run_course
folder = sys.argv[1]
settings = Settings(models="mean baseline", labels="complete masked ffill", augment=1, baseline_images=1500, runs_folder=f"{folder}/runs", results_folder=f"{folder}/results")
run_course(load_npz(f"{folder}/faces.npz"), settings)
print("done")
"""


RAY = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(second, allow_graceful=False)
sys.stdin.readline()
cluster.shutdown()
"""


def dask_cluster(start: Callable) -> tuple[dict, Callable]:
    "Start Dask's scheduler and two workers on this machine; return the environment for the course, and a function that kills one of them."
    address, run = f"tcp://{free_addresses(1)[0]}", [sys.executable, "-m"]
    start(*run, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard", "--no-show")
    workers = [start(*run, "distributed.cli.dask_worker", address, "--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--no-nanny",
                     "--local-directory", f"w{number}") for number in range(2)]
    return {"FACEKP_CLUSTER": address}, workers[0].kill


def ray_cluster(start: Callable) -> tuple[dict, Callable]:
    "Start Ray's head and a second node on this machine, with a worker each; return the environment for the course, and a function that kills the second node."
    cluster = start(sys.executable, "-c", RAY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    address = cluster.stdout.readline().strip()

    def kill() -> None:
        cluster.stdin.write("now\n")
        cluster.stdin.flush()

    return {"FACEKP_CLUSTER": "ray", "RAY_ADDRESS": address}, kill


CLUSTERS = {"dask": dask_cluster, "ray": ray_cluster}
PLANNED = 3 + 6  # the trials of COURSE: the mean face by label strategy, and the baseline by label strategy with and without augmentation


def grid_on_cluster(folder: Path, engine: str) -> dict:
    "Run the course on a cluster of two workers on this machine, one of which is killed after the first records; return the finished trials."
    from facekp.data.npz import save_npz
    from facekp.synthetic.renderer import synthetic_faces

    save_npz(synthetic_faces(150, seed=6, workers=1), folder / "faces.npz")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "no_proxy": "127.0.0.1,localhost",
                   "RAY_USAGE_STATS_ENABLED": "0"}
    with contextlib.ExitStack() as stack:
        def start(*words, more: dict | None = None, **options):
            log = stack.enter_context(open(folder / f"{len(list(folder.glob('*.log')))}.log", "w"))
            process = subprocess.Popen(words, **{"stdout": log, "stderr": log, **options}, env={**environment, **(more or {})}, cwd=folder)
            stack.callback(end, process)
            return process

        found, kill = CLUSTERS[engine](start)
        course = start(sys.executable, "-c", COURSE, str(folder), more=found)
        limit = time.perf_counter() + 500
        while len(cells_there(folder)) < 4 and time.perf_counter() < limit and course.poll() is None:
            time.sleep(0.02)
        there = len(cells_there(folder))
        kill()
        status = course.wait(max(1, limit - time.perf_counter()))
    cells = cells_there(folder)
    return {"engine": engine, "status": status, "cells_planned": PLANNED, "cells": len(cells), "workers_killed": 1, "cells_there_when_killed": there,
            "log": "".join(path.read_text()[-600:] for path in folder.glob("*.log")) if status else ""}


def cells_there(folder: Path) -> list[str]:
    "Return the records of a comparison by name."
    return sorted(path.name for path in folder.glob("runs/*/[!.]*-seed0.json"))


def end(process: subprocess.Popen) -> None:
    "End a process that still runs: by closing its standard input, or else by force."
    if process.stdin:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            process.communicate("end\nend\n", timeout=60)
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.long
@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_grid_on_two_workers_one_of_them_killed_is_complete(engine, package, tmp_path):
    pytest.importorskip(package)
    told = grid_on_cluster(tmp_path, engine)
    assert told["status"] == 0 and told["cells"] == PLANNED > told["cells_there_when_killed"], told


def test_a_cluster_that_is_not_there_is_said(monkeypatch):
    from facekp.experiments.executors import run_jobs

    monkeypatch.setenv("FACEKP_CLUSTER", "tcp://127.0.0.1:9")
    with pytest.raises(UserError, match="FACEKP_CLUSTER=tcp://127.0.0.1:9: (no scheduler answers|distributed is not installed)"):
        run_jobs([], 1)
    monkeypatch.setenv("FACEKP_CLUSTER", "ray")
    with pytest.raises(UserError, match="FACEKP_CLUSTER=ray: "):
        run_jobs([], 1)
