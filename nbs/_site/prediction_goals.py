"""The goals of prediction with their measured values: one table for the page Prediction, from the records in results/prediction/. A goal without a record is shown as not measured."""

from collections.abc import Callable
from typing import NamedTuple

from record_words import in_terms

Records = dict[str, dict]
TIMED = ("facekp", "facekp, min_face_size=0.1", "MediaPipe FaceMesh")


class Measured(NamedTuple):
    "What a record shows for a goal."
    value: str
    met: bool


class Goal(NamedTuple):
    "A goal, and how the record is compared with it."
    text: str
    record: str  # file in results/prediction/
    measure: Callable[[dict], Measured]  # from the record
    instead: str = ""  # how the measurement differs from the goal


def at_most(value: float, limit: float, unit: str) -> Measured:
    return Measured(f"{value:.3g} {unit}".strip(), value <= limit)


def share(count: int, of: int, wanted: float) -> Measured:
    "Judge a count by its share, since the numbers of faces in records and goals differ."
    return Measured(f"{count} of {of} ({count / of:.1%})", count / of >= wanted)


def degraded(kind: str, wanted: float) -> Callable[[dict], Measured]:
    "Judge the faces found in degraded scenes."
    return lambda record: share(*(record["tables"][kind]["facekp"][name] for name in ("found", "scenes")), wanted)


def flagged(kind: str) -> Callable[[dict], Measured]:
    "Judge the share of the found faces of a kind that have a flag."
    return lambda record: share(*(record["tables"][kind]["facekp"][name] for name in ("found_flagged", "found")), 1.0)


def upside_down(record: dict) -> Measured:
    "Judge faces upside down: found, or no wrong face without a flag."
    row = record["tables"]["roll 180"]["facekp"]
    return Measured(f"{row['found']} of {row['scenes']} found; {row['false_unflagged']} wrong without a flag", row["found"] >= 0.98 * row["scenes"] and not row["false_unflagged"])


def unflagged(record: dict) -> Measured:
    row = record["tables"]["no face"]["facekp"]
    return Measured(f"{row['false_unflagged']} in {row['scenes']} scenes", row["false_unflagged"] / row["scenes"] <= 2 / 150)


def collage(record: dict) -> Measured:
    row = record["tables"]["collages, 17 px between the eyes"]["facekp"]
    return share(row["found"], row["faces"], 118 / 120)


def whole(record: dict) -> Measured:
    row = record["tables"]["one face, 10 megapixels"]["facekp"]
    return share(row["found"], row["faces"], 149 / 150)


def default_time(record: dict) -> Measured:
    "Judge the last run, which is that of the present search."
    elapsed, *processor = [record["runs"][-1][key][TIMED[0]] for key in ("ms_median", "processor_ms_median")]
    return Measured(f"{elapsed:.0f} ms ({processor[0]:.0f} ms of processor time)", elapsed <= 40)


def time_ratio(record: dict) -> Measured:
    run = record["runs"][-1]
    ratios = {kind: run[key][TIMED[1]] / run[key][TIMED[2]] for kind, key in (("elapsed", "ms_median"), ("processor", "processor_ms_median"))}
    return Measured(" and ".join(f"{ratio:.2f} of {kind} time" for kind, ratio in ratios.items()), max(ratios.values()) <= 0.8)


def worst(key: str, limit: float, unit: str) -> Callable[[dict], Measured]:
    "Judge the worst motion of the tracking benchmark."
    return lambda record: at_most(max(row[key] for row in record["motions"] if key in row), limit, unit)


def tracking_time(record: dict) -> Measured:
    "Judge the mean time of the worst motion; an earlier record, of another processor, is shown beside it."
    slowest = max(row["processor_ms_mean"] for row in record["motions"])
    earlier = "".join(f"; {one['processor_ms_mean']:.3g} ms on {one['machine']['processor']}, {one['tracker']}" for one in record.get("earlier", []))
    return Measured(f"{slowest:.3g} ms of processor time, mean, on {record['machine']['processor']}{earlier}", slowest <= 4)


def gaps(record: dict) -> Measured:
    long = [row for row in record["gaps"] if row["black_frames"] >= 10]
    return share(sum(row["id_kept"] for row in long), sum(row["faces"] for row in long), 1.0)


def cuts(record: dict) -> Measured:
    row = record["cuts"][0]
    return share(row["new_id"], row["videos"], 1.0)


COMPOSED_TEN = "composed scenes of ten megapixels; AMD processor without AVX-512, other programs at a lower priority"
COMPOSED = "real faces blended into images without faces, not photographs"
GOALS = [
    Goal("default search: at most 40 ms per photograph of ten megapixels, median", "speed.json", default_time, COMPOSED_TEN),
    Goal("149 of 150 faces of HELEN's photographs found", "photos_composed.json", whole, COMPOSED),
    Goal("118 of 120 faces found in collages, 17 px between the eyes", "photos_composed.json", collage, COMPOSED),
    Goal("min_face_size=0.1: at most 0.8 of MediaPipe's time in the same run", "speed.json", time_ratio, COMPOSED_TEN),
    Goal("sunglasses: 59 of 60 found", "robustness.json", degraded("sunglasses", 59 / 60), COMPOSED),
    Goal("strong blur: 49 of 60 found", "robustness.json", degraded("strong blur", 49 / 60), COMPOSED),
    Goal("roll of 90 degrees: 59 of 60 found", "robustness.json", degraded("roll 90", 59 / 60), COMPOSED),
    Goal("roll of 180 degrees: found or flagged", "robustness.json", upside_down, COMPOSED),
    Goal("at most 2 false detections without a flag per 150 photographs", "robustness.json", unflagged, "crops of images without faces"),
    Goal("faces in profile flagged", "robustness.json", flagged("turned 30 degrees or more"), "faces turned by 30 degrees or more; we have no labelled profiles"),
    Goal("half-hidden faces flagged", "robustness.json", flagged("half hidden"), COMPOSED),
    Goal("tracking, motion: error at most 0.3% of the interocular distance", "tracking.json", worst("error_percent", 0.3, "%"), "simulated videos, worst motion"),
    Goal("tracking, rest: jitter at most 0.05 px", "tracking.json", worst("jitter_px", 0.05, "px"), "simulated videos"),
    Goal("tracking: at most 4 ms per frame of 640x480 with one face", "tracking.json", tracking_time, "simulated videos"),
    Goal("tracking: an id survives 10 lost frames", "tracking.json", gaps, "simulated videos, 10 and 20 black frames"),
    Goal("tracking: a new id after a cut to another person", "cuts.json", cuts, "real faces in simulated videos"),
]


def goal_rows(records: Records) -> list[dict]:
    "Return a row per goal: what was measured, whether the goal is met, how the measurement differs, and the record."
    rows = []
    for goal in GOALS:
        measured = goal.measure(records[goal.record]) if records.get(goal.record) else None
        rows.append({"goal": goal.text, "measured": measured.value if measured else "not measured", "met": {True: "yes", False: "no", None: "unknown"}[measured.met if measured else None],
                     "measured on": goal.instead if measured else "", "record": goal.record if measured else ""})
    return rows


def tried_lines(record: dict) -> list[str]:
    "Return the changes that were tried for speed, as a list."
    return [f"- {in_terms(step)}" for step in record.get("tried", [])]
