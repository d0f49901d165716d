"""Ablation of the shipped model's recipe: omit or replace one part at a time, in short training runs with more than one seed.

    python recipes/default/ablation.py --photographs helen_afw_96.npz lfpw_train_96.npz --portraits scut_fbp5500_96.npz --web mtfl_96.npz --frames youtube_faces_96.npz --out RUN [--parts mediapipe frames ...]

Each run is one configuration, train.py --without PART or --instead PART, scored on the validation set. Parts of the first stage are omitted from a short run of that stage only; parts of later
stages are omitted from a short run of the whole recipe; `second_file` omits the second file of photographs from the training set. With --stage-2, parts of the third stage are replaced in short runs of that stage, all of which
continue from the same finished second stage. Runs that are already in RUN are not repeated. Each seed runs
in its own process with one thread. A short run shows what helps early and does not predict the result of the long one.
Writes results/default_ablation/. Needs: make dev, and the MediaPipe predictions (see train.py)
"""
import argparse
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from train import FINAL_PARTS, FIRST_CHANGED, INSTEAD, OTHER_SOURCES, PARTS

from facekp.experiments.measurement import read_measurement
from facekp.experiments.record import Record
from facekp.experiments.results import add_runs

FIRST_STAGE, THIRD_STAGE, ALL_STAGES = "stage 1", "stage 3", "all stages"
OF_THIRD_STAGE = [part for part in INSTEAD if FIRST_CHANGED.get(part) == "unblended"]


def train(options, part: str, stages: str, seed: int) -> dict[str, Any]:
    "Train one configuration, or read its record if it exists; nothing is left out if `part` is empty."
    instead = [part] if part in INSTEAD else []
    without = ([part] if part in PARTS else []) + ([] if stages == ALL_STAGES else ["final_stage"])
    out, copies = (options.out / "stage_3", options.third_copies) if stages == THIRD_STAGE else (options.out, options.copies)
    again, third = {FIRST_STAGE: (0, 0), THIRD_STAGE: (1, options.third_images), ALL_STAGES: (options.again_images, options.unblended_images)}[stages]  # stage 2 of THIRD_STAGE is finished
    record = out / f"{'-'.join(['default', *without, *instead])}-seed{seed}.json"
    if not record.exists():
        sources = [argument for name in OTHER_SOURCES if vars(options)[name] for argument in (f"--{name}", vars(options)[name])]
        subprocess.run([sys.executable, Path(__file__).with_name("train.py"), "--photographs", *options.photographs, *sources, "--out", out, "--mediapipe", options.mediapipe,
                        "--copies", str(copies), "--threads", "1", "--seed", str(seed), "--ablation", "--images", str(options.images), "--again-images", str(again), "--unblended-images", str(third),
                        "--final-images", str(options.final_images), "--without", *without, "--instead", *instead], check=True)
    return read_measurement(record)


def copy_stages(options) -> None:
    "Copy the finished stages 1 and 2 and the MediaPipe predictions of another run, so that the runs of all seeds continue from them."
    out = options.out / "stage_3"
    shutil.copytree(options.stage_2.parent / "mediapipe", out / "mediapipe", dirs_exist_ok=True)
    for stage, suffix, seed in product(("first", "again"), (".keras", ".json"), options.seeds):
        source = options.stage_2.with_name(options.stage_2.name.replace("again", stage)).with_suffix(suffix)
        shutil.copyfile(source, out / f"{stage}-seed{seed}{suffix}")


def to_record(measured: dict[str, Any], part: str, stages: str) -> Record:
    "Return the record of a run from the file that train.py writes."
    data = {name: measured["data"][name] for name in ("name", "sha256", "n_train", "n_validation", "n_test", "n_with_copies")}
    by_source = {name: source["rmse"] for name, source in measured["by"]["source"].items()}
    return Record(model="compact", labels="truth", augment=measured["augment"], profile="full", seed=measured["seed"], data=data | {"part": part or "nothing left out", "stages": stages, "test_set": "validation"},
                  budget={"images": measured["images_shown"]}, weights=measured["weights"], epochs=measured["epochs"], images_shown=measured["images_shown"], seconds=measured["seconds"],
                  metrics=measured["metrics"] | {"by_source": by_source, "rmse_degraded": measured["rmse_degraded"]}, history=measured["history"], machine=measured["machine"], versions=measured["versions"],
                  squared_errors=measured["squared_errors"])


def name_of(part: str, stages: str, seed: int) -> str:
    "Return the name of a run, such as stage_1-without-frames-seed0."
    changed = f"{'instead' if part in INSTEAD else 'without'}-{part}" if part else "complete"
    return f"{stages.replace(' ', '_')}-{changed}-seed{seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", required=True, type=Path, nargs="+")
    for name in OTHER_SOURCES:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder for the runs")
    parser.add_argument("--mediapipe", default="runs/mediapipe/bin/python", help="as in train.py")
    parser.add_argument("--parts", nargs="+", default=[*PARTS, *INSTEAD], choices=[*PARTS, *INSTEAD])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--images", type=int, default=72_000, help="images shown in the first stage")
    parser.add_argument("--again-images", type=int, default=24_000, help="images shown in the second stage")
    parser.add_argument("--unblended-images", type=int, default=24_000, help="images shown in the third stage")
    parser.add_argument("--final-images", type=int, default=16_000, help="images shown in the final stage")
    parser.add_argument("--copies", type=float, default=0.24)
    parser.add_argument("--stage-2", type=Path, metavar="again-seed0.keras", help="finished second stage of a run, for the parts of the third stage")
    parser.add_argument("--third-images", type=int, default=40_000, help="images shown in a run that continues from --stage-2")
    parser.add_argument("--third-copies", type=float, default=0.2)
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[2] / "results" / "default_ablation", help="folder of the results")
    options = parser.parse_args()
    stages_of = {part: ALL_STAGES if part in FINAL_PARTS else THIRD_STAGE if part in OF_THIRD_STAGE else FIRST_STAGE for part in options.parts}
    configurations = [(part, stages) for stages in (FIRST_STAGE, THIRD_STAGE, ALL_STAGES) if stages in stages_of.values() for part in ("", *(part for part in options.parts if stages_of[part] == stages))]
    if THIRD_STAGE in stages_of.values() and not options.stage_2:
        parser.error(f"--parts {' '.join(OF_THIRD_STAGE)} continue from a finished second stage: give its file with --stage-2")
    if THIRD_STAGE in stages_of.values():
        copy_stages(options)
    if configurations[0][1] != THIRD_STAGE:
        train(options, *configurations[0], options.seeds[0])  # alone: it creates the MediaPipe predictions that all runs share
    with ThreadPoolExecutor(2) as pool:  # runs of one seed share stages, so they run one after another
        by_seed = list(pool.map(lambda seed: [train(options, *configuration, seed) for configuration in configurations], options.seeds))
    records = {name_of(*configuration, seed): to_record(measured, *configuration)
               for seed, runs in zip(options.seeds, by_seed) for configuration, measured in zip(configurations, runs)}
    add_runs(options.results, records, by_seed[0][0]["groups"])


if __name__ == "__main__":
    main()
