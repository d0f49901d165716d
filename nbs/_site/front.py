"The README's tables, its sentence on other tools and its figure, each made from a record or from the shipped model."

import re
from typing import Any

import numpy as np
import pandas as pd
from lessons import ROOT, colab_url, lesson_paths, page_name, read_cells, title_of

FACES = 300  # synthetic faces among which the median and the worst prediction are shown
SEED = 2026  # of these faces


def reader_minutes(opening: str) -> int:
    "Return the sum of the minutes in the column `Reader time` of a lesson's opening table."
    head, _, row = re.search(r"^\|(.*Reader time.*)\|\n(\|[-:| ]+\|)\n\|(.*)\|$", opening, re.MULTILINE).groups()
    column = [name.strip() for name in head.split("|")].index("Reader time")
    return sum(int(found) for found in re.findall(r"(\d+) minutes", row.split("|")[column]))


def course_rows() -> pd.DataFrame:
    "Return the units: number, title with the link to Colab, minutes with exercises."
    rows = [{"unit": str(int(path.name[:2])), "opens in Colab": f"[{title_of(path).split(':')[0]}]({colab_url(page_name(path))})",
             "minutes": str(reader_minutes(read_cells(path)[0]["source"]))} for path in lesson_paths()]
    return pd.DataFrame(rows)


def course_hours() -> int:
    "Return the reader time of all units in hours, rounded."
    return round(course_rows().minutes.astype(int).sum() / 60)


def course_sentence() -> str:
    "Return a sentence on the number of units and their time."
    minutes = course_rows().minutes
    return f"{len(minutes)} units, about {course_hours()} hours with exercises; unit 1 ({minutes[0]} minutes) trains a detector."


def compact_markdown(table: pd.DataFrame) -> str:
    "Return a table in Markdown without the spaces that align its columns: for a file whose size matters."
    from facekp.tables import to_markdown

    padded = to_markdown(table, text_columns=tuple(table))
    return re.sub(r" {2,}", " ", re.sub(r":?-{3,}", "-", padded))


def peers_sentence() -> str:
    "Return the error and speed of the shipped model and of MediaPipe, from the record."
    from facekp.experiments.measurement import read_measurement

    record = read_measurement(ROOT / "results" / "deploy" / "peers.json")
    own, other = record["models"]["facekp default"], record["models"]["MediaPipe face_landmark"]
    low, high = own["interval"]
    return (f"On {record['data']['faces']} photographs of HELEN and AFW not used in training, the model has an RMSE of {own['rmse']:.2f} px (95% CI {low:.2f}–{high:.2f}), "
            f"MediaPipe's face_landmark {other['rmse']:.2f} px ({other['interval'][0]:.2f}–{other['interval'][1]:.2f}). Per face, without detection: {own['median_ms']:.1f} and {other['median_ms']:.1f} ms on one core. "
            "dlib's landmark model was not run. [More](https://facekp.github.io/facekp/prediction.html).")


def first_result() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    "Return images, points, predictions and RMSE per face of the median and the worst of FACES new synthetic faces."
    from facekp.inference.keypoint_model import load_keypoint_model
    from facekp.metrics import rmse
    from facekp.synthetic.renderer import synthetic_faces

    faces = synthetic_faces(FACES, seed=SEED)
    images, points = faces.images, faces.points
    predicted = load_keypoint_model().predict(images).points
    errors = np.array([rmse(found[None], true[None]) for found, true in zip(predicted, points)])
    order = np.argsort(errors)
    chosen = order[[len(order) // 2, -1]]
    return images[chosen], points[chosen], predicted[chosen], errors[chosen]


def show_first_result() -> Any:
    "Draw a face, its predicted and true points, and the worst of FACES faces."
    import matplotlib.pyplot as plt

    images, points, predicted, errors = first_result()
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.2), layout="constrained")
    titles = ("A synthetic face goes in", f"15 keypoints come out\nmedian of {FACES} faces: {errors[0]:.1f} px", f"The worst of {FACES} faces\n{errors[1]:.1f} px")
    for axis, row, title in zip(axes, (0, 0, 1), titles):
        axis.imshow(images[row], cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
        axis.set_title(title, fontsize=12)
        axis.axis("off")
    for axis, row in zip(axes[1:], (0, 1)):
        axis.plot(*np.stack([points[row], predicted[row]]).transpose(2, 0, 1), color="white", linewidth=1.5)
        axis.scatter(*points[row].T, s=60, facecolors="none", edgecolors="#f0e442", linewidths=1.8, label="true position")
        axis.scatter(*predicted[row].T, s=45, marker="x", color="#56b4e9", linewidths=1.8, label="prediction")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=11, frameon=False)
    return figure
