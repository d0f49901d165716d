"The claims of the original project with their tests, findings and verdicts, made from records for the page of claims and the README."

from dataclasses import dataclass
from functools import cache

import pandas as pd
from lessons import ROOT
from tables import MAIN, MODELS, RANDOM_GAPS, best_rows, text_table

from facekp.experiments.measurement import read_measurement
from facekp.experiments.planned import compare_as_planned
from facekp.experiments.results import has_study, read_study

RESULTS = ROOT / "results"
WINNER = 1.28  # px, private leaderboard
GAPS = ("table", "order", "random")  # studies with one difference at a time: the table's gaps and conventions, its gaps in one convention, gaps in random rows in one convention
IN_README = ("accuracy", "cnn", "ffill", "knn", "augmentation", "mse")


@dataclass(frozen=True)
class Claim:
    "A claim of the original project, how it was tested, and the result."
    title: str
    tried: str
    found: str  # with every number
    short: str  # in fewer words, for the README
    verdict: str


def read_results(name: str) -> dict:
    "Return a record below results/, or an empty dictionary if there is none."
    path = RESULTS / name
    return read_measurement(path) if path.is_file() else {}


def planned_answers() -> pd.DataFrame:
    "Return the planned comparisons with their answers, from runs with gaps in the table's order; corrected for multiplicity."
    return pd.read_csv(MAIN / "planned.csv")


def random_gap_answers() -> pd.DataFrame:
    "Return the paired comparisons of trained networks with gaps in random rows; not corrected."
    return pd.read_csv(RANDOM_GAPS / "comparisons.csv").query("model != 'mean'")


@cache
def gap_differences() -> pd.DataFrame:
    "Return the paired difference in MSE of each label strategy from dropping, not augmented, by model and kind of gaps; over photos and seeds, with Holm's correction for each kind of gaps."
    parts = []
    for gaps in GAPS:
        models = read_study(RESULTS / "grid_order").runs.query("model != 'mean'").model.unique()
        plan = pd.DataFrame([{"gaps": gaps, "model": model, "question": labels, "first": f"{model}-{labels}-augment0", "second": f"{model}-complete-augment0"}
                             for model in MODELS if model in models for labels in ("ffill", "knn", "ridge", "masked")])
        parts.append(compare_as_planned(read_study(RESULTS / f"grid_{gaps}"), plan))
    return pd.concat(parts, ignore_index=True)


def studied_faces() -> int:
    "Return the number of faces of the comparison: training, validation and test."
    data = read_study(MAIN).meta["data"]
    return int(data["n_train"] + data["n_validation"] + data["n_test"])


def chosen_rows() -> dict[str, dict]:
    "Return the configuration of each model that was best on the validation set."
    return {row["model"]: row for row in best_rows(MAIN)}


def count(table: pd.DataFrame, question: str) -> tuple[int, int, int]:
    "Return how many comparisons of a question found a lower error, no difference, and a higher error."
    verdicts = table.verdict[table.question == question]
    return int((verdicts == "lower").sum()), int((verdicts == "no difference seen").sum()), int((verdicts == "higher").sum())


def in_words(counts: tuple[int, int, int]) -> str:
    return f"lower in {counts[0]}, no difference seen in {counts[1]}, higher in {counts[2]} of {sum(counts)} comparisons"


def in_few_words(counts: tuple[int, int, int], random_gaps: tuple[int, int, int]) -> str:
    return f"{counts[0]} lower, {counts[2]} higher of {sum(counts)} ({random_gaps[0]}, {random_gaps[2]} of {sum(random_gaps)})"


def verdict(counts: tuple[int, int, int]) -> str:
    "Return a verdict on a claim of a lower error; *mostly supported* needs more than half of the comparisons, and at most a tenth against the claim."
    lower, _, higher = counts
    total = sum(counts)
    if not total:
        return "not tested yet"
    if higher > lower:
        return "contradicted"
    return "supported" if lower == total else "mostly supported" if lower > total / 2 and higher <= total / 10 else "undecided"


def verdict_of_both(counts: tuple[int, int, int], random_gaps: tuple[int, int, int], one_convention: tuple[int, int, int] = (0, 0, 0)) -> str:
    "Return the verdict with the table's gaps, limited to its conventions where the same gaps in one convention contradict the claim, and to its gaps where random ones do."
    first = verdict(counts)
    if "supported" in first and verdict(one_convention) == "contradicted":
        return "only with the table's conventions"
    return f"{first} only with the table's gaps" if "supported" in first and verdict(random_gaps) == "contradicted" else first


def of_accuracy() -> Claim:
    record, rows = read_results("kaggle_labels/accuracy.json"), chosen_rows()
    constant, runs = record["constant_face"], read_study(MAIN).runs
    trained = runs[runs.model != "mean"]
    found = (f"On {record['data']['complete_rows']:,} real rows, one constant face is {constant['accuracy']:.0%} \"accurate\" at an RMSE of {constant['rmse']:.2f} px, and a prediction "
             f"with every coordinate 20 px too large is 100% \"accurate\". Over {len(trained)} runs on photographs the \"accuracy\" is {trained.accuracy.min():.0%} to {trained.accuracy.max():.0%} while the RMSE is {trained.rmse.min():.2f} "
             f"to {trained.rmse.max():.2f} px.")
    short = f"{float(rows['baseline']['accuracy']):.0%}, but the mean face has {float(rows['mean']['accuracy']):.0%}"
    return Claim("accuracy: 83% to 95%", "Keras's accuracy for 30 outputs, computed on labels and on every run", found, short, "wrong metric")


def of_mse() -> Claim:
    rows = [row for name, row in chosen_rows().items() if name != "mean"]
    title, tried = "a large pretrained network: MSE 0.6", "augmented copies of one photograph on both sides of the split, and scores on training rows"
    best = min(rows, key=lambda row: float(row["rmse"]))
    short = f"{float(best['mse']):.1f} px² ({best['model']} network); Kaggle's winner: {WINNER**2:.1f}"
    if not has_study(RESULTS / "leakage"):
        return Claim(title, tried, "Not measured yet: `studies/leakage.py`.", short, "not tested yet")
    study = read_study(RESULTS / "leakage")
    runs = study.runs[study.runs["split"] == "copies split at random"].sort_values("seed")
    scores = "; ".join(f"{part} {', '.join(runs[part.replace(' ', '_') + '_mse'].map('{:.2f}'.format))}" for part in ("training rows", "validation rows", "unseen photographs"))
    told = f"{MODELS[runs.model.iloc[0]]}, {study.meta['data']['photographs']:,} photographs, {runs.images.iloc[0]:,} images shown, {len(runs)} seeds"
    own, leaked = runs.training_rows_mse.min(), runs.validation_rows_mse.min()
    return Claim(title, tried, f"MSE in square pixels (Kaggle's winner: {WINNER**2:.2f}) of the {told}: {scores}.", short,
                 "reached only with a leak" if leaked <= 0.7 else "reached only on training faces" if own <= 0.7 else "not reproduced")


def of_labels() -> dict[str, Claim]:
    "Return the claims that dropping incomplete faces has the lowest error."
    planned, random_gaps, donor = planned_answers(), random_gap_answers(), read_results("forward_fill/meta.json")
    titles = {"ffill": "dropping incomplete faces beats forward fill", "knn": "dropping them beats KNN imputation", "masked": "dropping them beats the masked loss"}
    questions = {"ffill": "noNA against forward fill", "knn": "noNA against KNN", "masked": "masked loss against noNA"}
    copied = f" Forward fill copies row {donor['donor']:,} into {donor['rows']:,} rows there; with gaps in random rows it copies many different faces."
    found = {}
    for key, title in titles.items():
        counts = count(planned, questions[key])
        counts = counts[::-1] if key == "masked" else counts  # its question asks the opposite
        random, one_convention = count(random_gaps, f"complete against {key}"), count(gap_differences().query("gaps == 'order'"), key)[::-1]
        found[key] = Claim(title, "paired differences in MSE, with the gaps of Kaggle's table in its order", f"MSE of noNA {in_words(counts)}.{copied * (key == 'ffill')} With the same gaps, but all labels in one convention: "
                           f"{in_words(one_convention)}. With gaps in random rows: {in_words(random)}.", in_few_words(counts, random), verdict_of_both(counts, random, one_convention))
    return found


def of_augmentation() -> Claim:
    "Return the claim that augmentation lowers the error."
    counts, random = (count(answers, "augmented against not") for answers in (planned_answers(), random_gap_answers()))
    return Claim("augmentation helps", "paired differences in MSE, 12 copies per face at the same number of images shown, noNA", f"MSE {in_words(counts)}. With gaps in random rows, over all label strategies: "
                 f"{in_words(random)}.", in_few_words(counts, random), verdict_of_both(counts, random))


def of_steps() -> dict[str, Claim]:
    rows = chosen_rows()
    told = {name: f"{MODELS[name]} {float(row['rmse']):.2f} px ({float(row['low']):.2f} to {float(row['high']):.2f})" for name, row in rows.items()}
    before, after = float(rows["baseline"]["rmse"]), float(rows["cnn"]["rmse"])
    errors = [float(rows[name]["rmse"]) for name in MODELS if name in rows]
    steps = [first - second for first, second in zip(errors, errors[1:])]
    best = "best configuration of each on the validation set"
    return {"cnn": Claim("a CNN is far better", best, f"RMSE with 95% CI: {told['baseline']}, {told['cnn']}: {before - after:.2f} px less.", f"RMSE {after:.2f} px, baseline {before:.2f}",
                         "supported" if float(rows["cnn"]["high"]) < float(rows["baseline"]["low"]) else "undecided"),
            "increments": Claim("each further increment is harder", f"{best}, from simple to large", "RMSE with 95% CI: " + "; ".join(told[name] for name in MODELS if name in rows) + ".",
                                f"RMSE {', '.join(f'{error:.2f}' for error in errors)} px", "supported" if steps == sorted(steps, reverse=True) else "contradicted: the gains do not shrink with the size of the model")}


def all_claims() -> dict[str, Claim]:
    "Return every claim, in the order of the page."
    return {"accuracy": of_accuracy(), "mse": of_mse(), **of_labels(), "augmentation": of_augmentation(), **of_steps()}


def claim_rows() -> pd.DataFrame:
    "Return the claims of the README with what was found and the verdict, six rows."
    claims = all_claims()
    return pd.DataFrame([(claims[key].title, claims[key].short, claims[key].verdict) for key in IN_README], columns=["original claim", "found", "verdict"])


def claims_page() -> str:
    "Return the page of claims."
    lines = ["# The original claims", "", "The project that this course follows reported results on Kaggle's faces. We tested each claim on photographs with known labels. The numbers come from",
             "`results/grid_table` (gaps in the table's order; comparisons planned before the runs, Holm's correction), `results/grid_order` (the same gaps, all labels in one convention; not planned, Holm's correction),",
             "`results/full/helen_afw_96` (gaps in random rows; not corrected) and other records in the repository. A claim that an error is lower is *mostly supported* if it holds in more than half of the comparisons and the error is higher in at most a tenth. Where the same gaps in one convention contradict a supported claim, the verdict is limited to the conventions of the table. It is *contradicted* if the",
             "error is more often higher than lower.", ""]
    rows = [(claim.title, claim.tried, claim.found, f"**{claim.verdict}**") for claim in all_claims().values()]
    return "\n".join([*lines, "````{container} claims", "", text_table(rows, ("claim", "what was tried", "what was found", "verdict")), "", "````", ""])


if __name__ == "__main__":
    print(claims_page())
