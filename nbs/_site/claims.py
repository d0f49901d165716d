"The page on the claims of the original project: what was tried, what was found, verdict; made from records."

import json

import pandas as pd
from lessons import ROOT
from tables import FULL, MAIN, MODELS, best_rows

from facekp.experiments.results import read_study
from facekp.experiments.statistics import compare_trials

RESULTS = ROOT / "results"
GRID = RESULTS / "grid_table"  # the comparison with the table's gaps, once it has run
WINNER = 1.28  # px, private leaderboard


def read_json(name: str) -> dict:
    "Return a record below results/, or nothing where there is none."
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def answers() -> pd.DataFrame:
    "Return the paired comparisons: those that were planned for the grid, or those of the stored comparison."
    if (GRID / "planned.csv").is_file():
        return pd.read_csv(GRID / "planned.csv")
    return compare_trials(read_study(FULL / MAIN)).query("model != 'mean'")


def count(table: pd.DataFrame, question: str) -> tuple[int, int, int]:
    "Return how many comparisons of a question found a lower error, no difference, and a higher error."
    verdicts = table.verdict[table.question == question]
    return int((verdicts == "lower").sum()), int(verdicts.str.startswith("no difference").sum()), int((verdicts == "higher").sum())


def in_words(counts: tuple[int, int, int]) -> str:
    return f"lower in {counts[0]}, no difference shown in {counts[1]}, higher in {counts[2]} of {sum(counts)} comparisons"


def verdict(counts: tuple[int, int, int]) -> str:
    "Return a verdict on a claim of a lower error in every comparison."
    lower, none, higher = counts
    if not sum(counts):
        return "not tested yet"
    if lower == sum(counts):
        return "holds"
    return "holds in most cases" if lower > none + higher and not higher else "depends on the case" if lower else "does not hold"


def of_accuracy() -> tuple[str, str, str, str]:
    constant = read_json("accuracy_kaggle_labels.json")["constant_face"]
    runs = read_study(FULL / MAIN).runs
    trained = runs[runs.model != "mean"]
    found = (f"On {read_json('accuracy_kaggle_labels.json')['data']['complete_rows']:,} real rows, one constant face is {constant['accuracy']:.0%} \"accurate\" at an RMSE of {constant['rmse']:.2f} px, and a prediction "
             f"with every point 20 px off is 100% \"accurate\". Over {len(trained)} runs on photographs the \"accuracy\" is {trained.accuracy.min():.0%} to {trained.accuracy.max():.0%} while the RMSE is {trained.rmse.min():.2f} "
             f"to {trained.rmse.max():.2f} px.")
    return "83% accuracy of the baseline, 95% of the best model", "Keras's metric on 30 outputs, on labels and on every run", found, "measures which coordinate is largest, not the error"


def of_mse() -> tuple[str, str, str, str]:
    runs, tried = read_json("leakage/meta.json").get("runs", []), "augmented copies of one photograph on both sides of the split, and scores on training rows"
    claim = f"MSE 0.6, below the competition winner's {WINNER**2:.2f}"
    if not runs:
        return claim, tried, "Not measured yet: `studies/leakage.py`.", "not tested yet"
    kind = "copies split at random"
    told = [f"{MODELS[run['model']]}, {run['photographs']:,} photographs, {run['images']:,} images shown: training rows {run[kind]['training rows']['mse']:.2f}, validation rows "
            f"{run[kind]['validation rows']['mse']:.2f}, unseen photographs {run[kind]['unseen photographs']['mse']:.2f}" for run in runs]
    own, leaked, unseen = (min(run[kind][part]["mse"] for run in runs) for part in ("training rows", "validation rows", "unseen photographs"))
    scores = f"{own:.2f} on training rows, {leaked:.2f} on leaked validation rows, {unseen:.2f} on unseen photographs"
    return claim, tried, f"MSE in square pixels. {'; '.join(told)}.", (f"a leak is enough: {scores}" if leaked <= 0.7 else f"a score on training faces is enough: {scores}" if own <= 0.7
                                                                       else f"not reproduced at this budget: {scores}")


def of_labels(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    planned = "noNA against KNN" in set(table.question)
    rows, names = [], {"ffill": "forward fill", "knn": "KNN"} if planned else {"ffill": "forward fill", "knn": "KNN", "ridge": "ridge", "masked": "masked loss"}
    gaps = "the gaps of Kaggle's table in its order" if planned else "gaps at random, so that forward fill copies a random face and not the table's one"
    donor = read_json("forward_fill/meta.json")
    for key, name in names.items():
        counts = count(table, f"noNA against {name}" if planned else f"complete against {key}")
        note = f" In the real table, forward fill copies row {donor['donor']:,} into {donor['rows']:,} rows." if key == "ffill" and donor else ""
        rows.append((f"noNA is best: against {name}", f"paired differences, {gaps}", f"MSE {in_words(counts)}.{note}", verdict(counts)))
    return rows


def of_augmentation(table: pd.DataFrame) -> tuple[str, str, str, str]:
    counts = count(table, "augmented against not")
    return "augmentation lowers the MSE", "paired differences, 12 copies per face at the same number of images shown", f"MSE {in_words(counts)}.", verdict(counts)


def of_steps() -> list[tuple[str, str, str, str]]:
    rows = {row["model"]: row for row in best_rows(GRID if (GRID / "table.csv").is_file() else FULL / MAIN)}
    told = {name: f"{MODELS[name]} {float(row['rmse']):.2f} px ({float(row['low']):.2f} to {float(row['high']):.2f})" for name, row in rows.items()}
    jump = float(rows["baseline"]["rmse"]) - float(rows["cnn"]["rmse"])
    errors = [float(rows[name]["rmse"]) for name in MODELS if name in rows]
    steps = [before - after for before, after in zip(errors, errors[1:])]
    apart = float(rows["cnn"]["high"]) < float(rows["baseline"]["low"])
    return [("a simple CNN jumps ahead of the baseline", "best configuration of each by validation", f"{told['baseline']}, {told['cnn']}: {jump:.2f} px less.", "holds" if apart else "no difference shown"),
            ("each further increment is harder", "best configuration of each model by validation, from simple to large", "; ".join(told[name] for name in MODELS if name in rows) + ".",
             "holds" if steps == sorted(steps, reverse=True) else "does not hold: the gains do not shrink with the size of the model")]


def claims_page() -> str:
    "Return the page of claims."
    table = answers()
    rows = [of_accuracy(), of_mse(), *of_labels(table), of_augmentation(table), *of_steps()]
    source = "`results/grid_table`" if (GRID / "planned.csv").is_file() else "`results/full/helen_afw_96` (gaps at random; differences over photographs, not corrected for their number)"
    lines = ["# The original claims", "", "The project that this course follows reported results on Kaggle's faces. Each claim was tried again on photographs with known labels. The numbers come from",
             f"{source} and the other records of the repository.", "", "| claim | what was tried | what was found | verdict |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {claim} | {tried} | {found} | **{told}** |" for claim, tried, found, told in rows), ""])


if __name__ == "__main__":
    print(claims_page())
