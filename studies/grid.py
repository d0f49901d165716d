"""Compare every model, label strategy and augmentation on real photographs with the gaps and conventions of Kaggle's table.

python studies/grid.py --helen-afw helen_afw_96.npz --lfpw lfpw_train_96.npz --weights FOLDER [--gaps table|order|random ...] [STAGE ...]

The photographs are split by photo; the test set of the earlier comparison (HELEN and AFW alone) stays in the test set. STAGE is one of
  tune        learning rate of each model: a third, once and three times the default, a quarter of the budget, chosen on the validation set
  grid        {complete, ffill, knn, ridge, masked} x every model x {augmented, not}; two seeds, three where a run takes under ten minutes
  headline    five seeds for the configuration of each model with the lowest validation error
  fine_tuned  the best frozen configuration of each pretrained model, fine-tuned for half of the budget
  ablation    coordinates or heatmaps on one trunk, batch normalisation, masked loss, augmentation, one at a time: with one seed at three learning
              rates (more where the best is at the edge), then with three seeds at the best rate of the unchanged network and at the variant's own
  curves      200, 400, 800 and all photographs for cnn, heatmap and mobilenetv2; so many copies per face that all runs of a model see the same number of images
  report      tables, and the results of planned_comparisons.csv
Without one, all are done in this order. The gaps are those of Kaggle's table in its order, with the annotation conventions of its blocks (table), the
same gaps with all labels in one convention (order), or gaps in random rows, also in one convention (random). What the order and the conventions do is shown by
  python studies/grid.py ... --gaps order random --models "mean baseline cnn heatmap mobilenetv2" --augment 0 --seeds 3 grid
with the learning rates that were tuned with the gaps of the table. Each run is written to results/grid_<gaps>[_<stage>]/ at once and never trained again, so the same command
continues after an interruption. One process at a time. Backbones stay frozen in the grid; their features are computed once per data set and kept in --cache,
outside the repository (some GB). A pretrained model without a file in --weights is listed in not_run.md: make it with studies/transfer.py pretrain.
"""

import argparse
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from facekp.augment_bulk import augment_faces
from facekp.config import Settings, load_settings
from facekp.data.npz import load_npz
from facekp.data.split import split_by_group, without_copies
from facekp.experiments.plan import Split, describe_weights, find_weights
from facekp.experiments.planned import compare_as_planned
from facekp.experiments.planned_table import read_plan
from facekp.experiments.record import describe_data, make_record
from facekp.experiments.report import write_report
from facekp.experiments.results import Study, add_runs, has_study, read_study
from facekp.experiments.run import fit_model
from facekp.faces import Faces, concatenate
from facekp.files import write_text
from facekp.keypoints import COLUMNS, IMAGE_SIZE, KEYPOINTS
from facekp.labels import apply_label_strategy
from facekp.models.cnn import build_heatmap
from facekp.models.registry import build_model, list_models, model_spec
from facekp.models.regression import start_at_mean_face
from facekp.synthetic.blocks import BLOCKS, block_measures, impose_table, to_block_convention
from facekp.synthetic.gaps import SOURCE_CUT, impose_gaps
from facekp.training.batches import epochs_for
from facekp.training.seeds import set_seeds

STAGES = ("tune", "grid", "headline", "fine_tuned", "ablation", "curves", "report")
STRATEGIES = ("complete", "ffill", "knn", "ridge", "masked")
QUICK_MINUTES = 10  # a run below this is repeated with a third seed
RATES = (1 / 3, 1, 3)  # factors of a model's default learning rate
RATE_STEPS = 4  # the ablation tries factors from 3**-4 to 3**4


@dataclass(frozen=True)
class GridTrial:
    "One training run."
    model: str
    labels: str
    augment: int
    seed: int = 0
    variant: str = ""  # of the heatmap network, in the ablation
    photos: int = 0  # training photographs; 0: all
    fine_tune_share: float = 0.0  # share of the budget for fine-tuning a pretrained backbone
    rate: float = 0.0  # factor of the default learning rate; 0: as tuned

    @property
    def name(self) -> str:
        "Return the name of the run, such as cnn-knn-augment12-seed0."
        extra = [self.variant, f"photos{self.photos}" if self.photos else "", f"rate{self.rate:.3g}" if self.rate else "", "tuned" if self.fine_tune_share else ""]
        return "-".join([self.model, self.labels, f"augment{self.augment}", *filter(None, extra), f"seed{self.seed}"])


# Data

def split_photographs(helen_afw: Faces, lfpw: Faces, settings: Settings) -> tuple[Faces, Faces, Faces]:
    "Return training, validation and test photographs; the earlier test set and a fifth of LFPW form the test set."
    rest, former = split_by_group(helen_afw, settings.test_share, settings.seed)
    more, added = split_by_group(lfpw, settings.test_share, settings.seed)
    test = concatenate([former, added], name="HELEN, AFW and LFPW")
    remaining = without_copies(concatenate([rest, more], name=test.name), test)  # a copy in the other set of photographs
    train, validation = split_by_group(remaining, 0.15, settings.seed)
    return train, validation, test


def impose(parts: tuple[Faces, Faces, Faces], gaps: str, settings: Settings) -> Split:
    "Impose gaps on the training set: random ones, or those of the table, with its conventions (then validation and test set follow those of the first source) or without."
    train, validation, test = parts
    if gaps == "random":
        return Split(impose_gaps(train, settings.gap_share, settings.seed), validation, test, f"random, {settings.gap_share:.0%} of the training faces")
    if gaps == "order":
        return Split(impose_table(train, settings.seed, conventions=False), validation, test, "of Kaggle's table in its order, all labels in one convention")
    reference = {measure: float(np.median(values)) for measure, values in block_measures(train.points).items()}
    validation, test = (in_first_source(part, reference, settings.seed) for part in (validation, test))
    return Split(impose_table(train, settings.seed), validation, test, "of Kaggle's table in its order, with the conventions of its blocks")


def in_first_source(faces: Faces, reference: dict[str, float], seed: int) -> Faces:
    "Give complete faces the conventions of the first source's three blocks, in proportion to their rows."
    place = np.random.default_rng([seed, 7]).permutation(len(faces)) * SOURCE_CUT / len(faces)
    number = np.searchsorted([block.start for block in BLOCKS], place, side="right") - 1
    points = np.array(faces.points)
    for index in np.unique(number):
        points[number == index] = to_block_convention(points[number == index], BLOCKS[index], reference)
    return replace(faces, points=points)


# Models

def build_variant(variant: str) -> keras.Model:
    "Build the heatmap network with one part changed: coordinates instead of heatmaps, or no batch normalisation."
    model = build_heatmap()
    if variant == "coordinates":
        trunk = model.get_layer("heatmaps").input
        x = keras.layers.Dense(len(COLUMNS), name="coordinates")(keras.layers.Flatten(name="flatten")(trunk))
        x = keras.layers.Reshape((len(KEYPOINTS), 2), name="points")(x)
        model = keras.Model(model.input, keras.layers.Rescaling(IMAGE_SIZE / 2, IMAGE_SIZE / 2, name="to_pixels")(x), name="heatmap")
        start_at_mean_face(model.get_layer("coordinates"))
    elif variant == "no_batch_normalisation":
        def without(layer: keras.Layer) -> keras.Layer:
            return keras.layers.Identity(name=layer.name) if isinstance(layer, keras.layers.BatchNormalization) else layer.__class__.from_config(layer.get_config())

        model = keras.models.clone_model(model, clone_function=without, call_function=lambda layer, *inputs, **_: layer(*inputs))  # Identity takes no mask
    return model


# Runs

@dataclass
class Work:
    "What all runs on one set of gaps share."
    split: Split
    settings: Settings
    folder: Path  # results/grid_<gaps>
    runs: Path  # states of unfinished runs
    cache: Path  # features of frozen backbones

    def study_folder(self, stage: str) -> Path:
        "Return the folder of a stage; learning rates are tuned once, with the gaps of the table."
        return self.folder if stage == "grid" else self.folder.with_name("grid_table_tune" if stage == "tune" else f"{self.folder.name}_{stage}")

    def study(self, stage: str) -> Study | None:
        return read_study(self.study_folder(stage)) if has_study(self.study_folder(stage)) else None


def tuned_rate(work: Work, model: str) -> float:
    "Return the factor of the learning rate with the lowest validation error, or 1 where the model was not tuned."
    study = work.study("tune")
    runs = study.runs[study.runs.model == model] if study is not None else []
    return float(runs.loc[runs.validation_rmse.idxmin(), "rate"]) if len(runs) else 1.0


def choose_photos(faces: Faces, photos: int) -> np.ndarray:
    "Return which faces belong to a fixed random choice of photographs: bool [N]; 0 photographs: all."
    names = np.unique(faces.group)
    return np.isin(faces.group, np.random.default_rng([photos, 8]).permutation(names)[:photos or None])


def copies_for_budget(faces: int, images: int, most: int) -> int:
    "Return the largest number of augmented copies with which whole epochs show a budget of images, within 5%."
    def shown(copies: int) -> int:
        an_epoch = min(faces * (copies + 1), images)
        return epochs_for(images, an_epoch) * an_epoch

    return max((copies for copies in range(most + 1) if abs(shown(copies) - images) <= 0.05 * images), default=most)


def train_trial(trial: GridTrial, stage: str, work: Work) -> Any:
    "Train and score one trial; return its record."
    spec, split = model_spec(trial.model), work.split
    chosen = choose_photos(split.train, trial.photos)
    train = apply_label_strategy(split.train[chosen], trial.labels, seed=trial.seed)
    images = spec.images_shown(work.settings) // (4 if stage == "tune" else 1)
    copies = min(trial.augment, -(-images // len(train)))
    augment_seed = 0 if spec.pretrained else trial.seed  # a frozen backbone sees the same copies with every seed, so that its features are computed once
    train = augment_faces(train, copies, seed=augment_seed, workers=1) if copies else train
    weights, factor = find_weights(trial.model, work.settings.weights), trial.rate or tuned_rate(work, trial.model)
    set_seeds(trial.seed)
    model = build_variant(trial.variant) if trial.variant else build_model(trial.model, train, weights)
    options: dict[str, Any] = {"images_shown": images, "batch_size": work.settings.batch_size, "learning_rate": factor * spec.learning_rate, "seed": trial.seed}
    more = {"fine_tune_share": trial.fine_tune_share} if spec.pretrained else {}
    run_folder = work.runs / stage / trial.name if spec.pretrained else None
    training = fit_model(model, train, split.validation, work.cache, **options, **more, run_folder=run_folder, resume=True, show_progress=False)
    data = {**describe_data(split.train, split.validation, split.test), "gaps": split.gaps, "n_used": len(train), "photos": len(np.unique(split.train.group[chosen])),
            "variant": trial.variant or "as in the registry"}
    budget = {"images": images, "batch_size": work.settings.batch_size, "learning_rate": factor * spec.learning_rate, "rate": factor, **more}
    return make_record(training, split.test, {"model": trial.model, "labels": trial.labels, "augment": trial.augment, "profile": "full", "seed": trial.seed, "data": data,
                                              "budget": budget, "weights_from": describe_weights(weights) if spec.budget else ""})


def run_trials(trials: list[GridTrial], stage: str, work: Work) -> None:
    "Train the trials that have no result, the longest first, and write each result at once."
    def cost(trial: GridTrial) -> float:
        frozen = model_spec(trial.model).pretrained and not trial.fine_tune_share
        return model_spec(trial.model).images_shown(work.settings) / model_spec(trial.model).images_per_second / (4 if frozen else 1)

    study = work.study(stage)
    done = set(study.runs.index) if study is not None else set()
    for trial in sorted((trial for trial in dict.fromkeys(trials) if trial.name not in done), key=cost, reverse=True):
        if model_spec(trial.model).pretrained and find_weights(trial.model, work.settings.weights) is None:
            print(f"{stage}: {trial.name} waits for weights", flush=True)
            continue
        record = train_trial(trial, stage, work)
        add_runs(work.study_folder(stage), {trial.name: record}, work.split.test.group)
        print(f"{stage}: {trial.name} {record.metrics['rmse']:.3f} px, {record.seconds:.0f} s", flush=True)


# Stages

def grid_trials(work: Work, seeds: tuple[int, ...] = (0,)) -> list[GridTrial]:
    "List the main grid."
    copies = (0, work.settings.augment)
    return [GridTrial(model, labels, augment, seed) for seed in seeds for model in work.settings.models.split() for labels in STRATEGIES
            for augment in (copies if model_spec(model).budget else (0,)) if not seed or model_spec(model).budget]


def more_seeds(work: Work) -> Iterator[GridTrial]:
    "Yield a second seed for every trial, and a third for the quick ones."
    study = work.study("grid")
    for trial in grid_trials(work) if study is not None else []:
        if model_spec(trial.model).budget and trial.name in study.runs.index:
            quick = study.runs.seconds[trial.name] < 60 * QUICK_MINUTES
            yield from (replace(trial, seed=seed) for seed in range(1, min(3 if quick else 2, work.settings.seeds)))


def best_trials(work: Work) -> list[GridTrial]:
    "Return the configuration of each model with the lowest validation error, averaged over its seeds."
    study = work.study("grid")
    if study is None:
        return []
    trained = [model for model in list_models() if model_spec(model).budget]
    mean = study.runs[study.runs.model.isin(trained)].groupby(["model", "labels", "augment"]).validation_rmse.mean().reset_index()
    return [GridTrial(row.model, row.labels, int(row.augment)) for row in mean.loc[mean.groupby("model").validation_rmse.idxmin()].itertuples()]


def tried_steps(variant: GridTrial, work: Work) -> dict[int, float]:
    "Return the validation error of a variant with the first seed, by step: learning rates differ by a factor of three."
    study = work.study("ablation")
    errors = {} if study is None else study.runs.validation_rmse.to_dict()
    names = {step: replace(variant, rate=3.0**step).name for step in range(-RATE_STEPS, RATE_STEPS + 1)}
    return {step: errors[name] for step, name in names.items() if name in errors}


def search_rates(variant: GridTrial, work: Work) -> None:
    "Train a variant with the first seed at three learning rates, and at further ones while the best is the lowest or the highest of them."
    steps = [-1, 0, 1]
    while steps:
        run_trials([replace(variant, rate=3.0**step) for step in steps], "ablation", work)
        tried = tried_steps(variant, work)
        best = min(tried, key=tried.__getitem__)
        steps = [step for step in (best - 1, best + 1) if step not in tried and abs(step) <= RATE_STEPS]


def matched_trials(variants: list[GridTrial], work: Work) -> list[GridTrial]:
    "Return each variant at the best learning rate of the first, unchanged one, and at its own best, chosen on the validation set with the first seed."
    tried = {variant: tried_steps(variant, work) for variant in variants}
    rates = {variant: 3.0 ** min(errors, key=errors.__getitem__) for variant, errors in tried.items()}
    return list(dict.fromkeys(replace(variant, rate=rate) for variant in variants for rate in (rates[variants[0]], rates[variant])))


def run_stage(stage: str, work: Work) -> None:
    "Run what a stage lacks."
    models, augment, seeds = work.settings.models.split(), work.settings.augment, range(min(3, work.settings.seeds))
    if stage == "tune":
        run_trials([GridTrial(model, "masked", augment, rate=rate) for model in models if model_spec(model).budget for rate in RATES], stage, work)
    elif stage == "grid":
        run_trials(grid_trials(work), stage, work)
        run_trials(list(more_seeds(work)), stage, work)
    elif stage == "headline":
        run_trials([replace(trial, seed=seed) for trial in best_trials(work) for seed in range(min(5, work.settings.seeds))], "grid", work)
    elif stage == "fine_tuned":
        run_trials([replace(trial, seed=seed, fine_tune_share=0.5) for trial in best_trials(work) if model_spec(trial.model).pretrained for seed in range(min(2, work.settings.seeds))], stage, work)
    elif stage == "ablation":
        changes = [{"variant": "unchanged"}, {"variant": "coordinates"}, {"variant": "no_batch_normalisation"}, {"variant": "unchanged", "labels": "complete"}, {"variant": "unchanged", "augment": 0}]
        variants = [replace(GridTrial("heatmap", "masked", augment), **change) for change in changes]
        for variant in variants:
            search_rates(variant, work)
        run_trials([replace(trial, seed=seed) for trial in matched_trials(variants, work) for seed in seeds], stage, work)
    elif stage == "curves":
        faces = {photos: int(choose_photos(work.split.train, photos).sum()) for photos in (200, 400, 800, 0)}
        run_trials([GridTrial(model, "masked", copies_for_budget(count, model_spec(model).images_shown(work.settings), augment), seed, photos=photos)
                    for model in ("cnn", "heatmap", "mobilenetv2") if model in models for photos, count in faces.items() for seed in seeds], stage, work)
    else:
        report(work)


def report(work: Work) -> None:
    "Write tables, the results of the planned comparisons, and what is missing."
    study = work.study("grid")
    if study is None:
        return
    write_report(study, work.folder)
    comparisons = compare_as_planned(study, read_plan(Path(__file__).with_name("planned_comparisons.csv")))
    write_text(work.folder / "planned.csv", comparisons.round(6).to_csv(index=False, lineterminator="\n"))
    missing = [trial.name for trial in grid_trials(work) if trial.name not in study.runs.index]
    write_text(work.folder / "not_run.md", "".join(f"- {name}\n" for name in missing))
    print(pd.DataFrame(comparisons).verdict.value_counts().to_string(), f"\n{len(study)} runs, {len(missing)} trials of the grid missing", flush=True)


def settings_of(options: argparse.Namespace) -> Settings:
    "Return the settings of the full profile with the options of the command."
    chosen: dict[str, Any] = {"models": options.models or load_settings("full").models, "weights": str(options.weights), "seeds": options.seeds, "augment": options.augment}
    if options.images:
        chosen |= dict.fromkeys(("baseline_images", "cnn_images", "transfer_images"), options.images)
    return replace(load_settings("full"), **chosen)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=" ".join(STAGES))
    parser.add_argument("--helen-afw", type=Path, required=True, help="photographs of the earlier comparison")
    parser.add_argument("--lfpw", type=Path, required=True, help="additional photographs")
    parser.add_argument("--weights", type=Path, default=Path("data/weights"), help="folder with initial weights of pretrained models")
    parser.add_argument("--gaps", nargs="+", default=["table"], choices=("table", "order", "random"), help="gaps of the training faces")
    parser.add_argument("--models", help="names, separated by spaces (default: those of the full profile)")
    parser.add_argument("--seeds", type=int, default=5, help="maximum number of seeds per trial")
    parser.add_argument("--augment", type=int, default=12, help="augmented copies per face")
    parser.add_argument("--images", type=int, help="images shown in every run, for testing the command")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "facekp" / "grid", help="features and states, outside the repository")
    options = parser.parse_args(arguments)
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"stage {unknown.pop()!r} is unknown; expected {', '.join(STAGES)}")
    settings = settings_of(options)
    options.cache.mkdir(parents=True, exist_ok=True)
    with open(options.cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one process; a second one ends with an error
        parts = split_photographs(load_npz(options.helen_afw), load_npz(options.lfpw), settings)
        for gaps in options.gaps:
            work = Work(impose(parts, gaps, settings), settings, options.results / f"grid_{gaps}", options.cache / f"runs_{gaps}", options.cache / "features")
            for stage in options.stages or STAGES:
                run_stage(stage, work)


if __name__ == "__main__":
    main()
