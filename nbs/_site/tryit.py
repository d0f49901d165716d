"""The page `Try it`: the shipped models in the reader's browser, with ONNX Runtime Web.

The runtime is a package of the npm registry, downloaded once into .venv/web, checked against its hash, and served with the site.
Without it (no network) the site is built without the page.
"""

import base64
import configparser
import functools
import hashlib
import inspect
import io
import json
import os
import shutil
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from lessons import ROOT, page_about

from facekp.geometry import FACE_SCALE
from facekp.inference.confidence import CONFIDENCE_WEIGHTS, HIDDEN_POINTS, HIDDEN_RATIO, USUAL_SIGMA
from facekp.inference.face_detector import BEST_BOX, DETECTOR_SIZE, LEVEL_STEP, MAX_ENLARGEMENT, MIN_BOX, find_candidates, nms
from facekp.inference.head_pose import MEAN_HEAD
from facekp.inference.landmarker import (
    ASSUMED_SHIFT,
    CLEAR_CONFIDENCE,
    CLEAR_DETECTION,
    DETECTOR_POINTS_IN_CROP,
    FAINT_PLACES,
    FAINT_SCORE,
    FAINT_SECOND_SCORE,
    HOPELESS_CONFIDENCE,
    SECOND_PASS_SCALE,
    SMALL_FACE,
    SURE_CONFIDENCE,
    TURNED_LIMIT,
    TURNED_PLACES,
    FaceLandmarker,
)
from facekp.inference.pyramid import SHARPENING, SMOOTHING
from facekp.keypoints import IMAGE_SIZE, KEYPOINT_COLORS, KEYPOINTS, LEFT_COLOR, MEAN_FACE, MIDDLE_COLOR, RIGHT_COLOR

HERE = Path(__file__).parent
PACKAGE, VERSION = "onnxruntime-web", "1.22.0"  # 1.22: its runtime for one core has 11 MB; that of later versions is larger
SHA512 = "Ud/+EBo6mhuaQWt/OjaOk0iNWjXqJoeeMFr6xQEERZdIZH2OWpGzuujz7lfuOBjUa6TEE/sc4nb7Da5dNL34fg=="  # of the package, as published in the registry
PARTS = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
RUNTIME = ROOT / ".venv" / "web" / f"{PACKAGE}-{VERSION}"
LICENSE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
"Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the
following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY
CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def registry() -> str:
    "Return the npm registry of this machine: npm_config_registry, ~/.npmrc, or npm's own."
    found = next((value for key, value in os.environ.items() if key.lower() == "npm_config_registry" and value), None)
    settings, path = configparser.ConfigParser(interpolation=None, strict=False), Path.home() / ".npmrc"
    if not found and path.is_file():
        try:
            settings.read_string("[npm]\n" + path.read_text(encoding="utf-8"))
            found = settings.get("npm", "registry", fallback=None)
        except (configparser.Error, OSError, UnicodeDecodeError):
            pass
    return (found or "https://registry.npmjs.org").rstrip("/")


def fetch_runtime() -> None:
    "Download ONNX Runtime Web; a file with another hash is refused."
    with urllib.request.urlopen(f"{registry()}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz", timeout=60) as answer:
        content = answer.read()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        raise OSError(f"{PACKAGE} {VERSION} from {registry()} is not what was expected: its SHA-512 differs")
    RUNTIME.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RUNTIME.parent) as folder, tarfile.open(fileobj=io.BytesIO(content)) as archive:
        waiting = Path(folder) / "whole"
        waiting.mkdir()
        for part in PARTS:
            (waiting / part).write_bytes(archive.extractfile(f"package/dist/{part}").read())
        if not RUNTIME.exists():
            waiting.replace(RUNTIME)


@functools.cache
def has_runtime() -> bool:
    "Return whether the runtime is present or could be downloaded; print a line if not."
    if not RUNTIME.exists():
        try:
            fetch_runtime()
        except (OSError, KeyError, tarfile.TarError) as error:
            print(f"the page `Try it` is left out: {PACKAGE} {VERSION} could not be fetched ({error})")
    return RUNTIME.exists()


def known() -> dict:
    "Return the constants that the page's script takes from the package."
    import numpy as np

    head = np.column_stack([MEAN_HEAD, np.ones(len(KEYPOINTS))])  # the page has all keypoints, so one matrix serves every face
    numbers = {"imageSize": IMAGE_SIZE, "netSize": DETECTOR_SIZE, "seenFrom": MIN_BOX, "bestSeen": BEST_BOX, "levelStep": LEVEL_STEP,
               "maxEnlargement": MAX_ENLARGEMENT,
               "secondLook": SECOND_PASS_SCALE, "hopeless": HOPELESS_CONFIDENCE, "sharpening": SHARPENING, "smoothing": SMOOTHING, "frameWidth": FACE_SCALE, "clear": CLEAR_CONFIDENCE, "small": SMALL_FACE,
               "turned": TURNED_LIMIT, "sure": SURE_CONFIDENCE, "turnedPlaces": TURNED_PLACES, "usualShift": ASSUMED_SHIFT,
               "faintScore": FAINT_SCORE, "faintSecondScore": FAINT_SECOND_SCORE, "faintPlaces": FAINT_PLACES,
               "confidence": CONFIDENCE_WEIGHTS, "hiddenRatio": HIDDEN_RATIO, "hiddenPoints": HIDDEN_POINTS, "usualSigma": USUAL_SIGMA.tolist(), "seenWell": CLEAR_DETECTION}
    numbers |= {"keypoints": KEYPOINTS, "colors": KEYPOINT_COLORS, "meanFace": np.round(MEAN_FACE.astype(float), 4).tolist(),
                "detectedFrame": DETECTOR_POINTS_IN_CROP.tolist(), "headFit": np.linalg.pinv(head)[:3].tolist()}
    defaults = {name: parameter.default for function in (find_candidates, nms, FaceLandmarker.__init__)
                for name, parameter in inspect.signature(function).parameters.items()}
    return numbers | {"smallest": defaults["min_face_size"], "leastScore": defaults["min_score"], "overlap": defaults["overlap"],
                      "leastConfidence": defaults["min_confidence"], "passes": defaults["passes"]}


def _sample(faces: list[tuple[int, int, int]], size: tuple[int, int]):
    "Return an image [H,W] of a wall with synthetic faces, each given by its number in the series, its width and its left edge in pixels."
    import cv2
    import numpy as np

    from facekp.synthetic.renderer import synthetic_face

    rows, columns = np.mgrid[:size[1], :size[0]]
    wall = (150 - rows * 30 / size[1] + columns * 40 / size[0]).astype(np.uint8)
    for number, width, left in faces:
        steps = {}
        synthetic_face(29, number, steps)
        face = np.clip(list(steps.values())[-1] * 255, 0, 255).astype(np.uint8)  # before the simulated camera reduces it
        card = cv2.resize(face, (width, width), interpolation=cv2.INTER_AREA if width < len(face) else cv2.INTER_CUBIC)
        top = (size[1] - width) // 2
        wall[top - 3:top + width + 3, left - 3:left + width + 3] = 235
        wall[top:top + width, left:left + width] = card
    return wall


def write_samples(folder: Path) -> None:
    "Write the sample images."
    import cv2

    cv2.imwrite(str(folder / "one.png"), _sample([(14, 288, 96)], (480, 360)))
    cv2.imwrite(str(folder / "five.png"), _sample([(2, 232, 24), (12, 176, 284), (0, 128, 486), (11, 96, 640), (18, 72, 762)], (860, 300)))


def write_try(static: Path) -> str:
    "Copy the files of the page into the site's static files, and return the page."
    from facekp.inference.session import DEFAULT_MODEL, DETECTOR_FILE

    folder = static / "try"
    shutil.copytree(HERE / "try", folder, ignore=shutil.ignore_patterns("*.md"))
    shutil.copytree(RUNTIME, folder / "onnxruntime")
    (folder / "onnxruntime" / "LICENSE.txt").write_text(LICENSE, encoding="utf-8")
    for path in (DEFAULT_MODEL, DETECTOR_FILE):
        shutil.copy(path, folder)
    (folder / "known.js").write_text(f"export default {json.dumps(known())};\n", encoding="utf-8")
    write_samples(folder)
    size = round(sum(path.stat().st_size for path in (*RUNTIME.iterdir(), DEFAULT_MODEL, DETECTOR_FILE)) / 1e6)
    sides = {"the person's left": LEFT_COLOR, "the person's right": RIGHT_COLOR, "nose and centre of the mouth": MIDDLE_COLOR}
    legend = "\n".join(f'<li><span style="background:{color}"></span>{side}</li>' for side, color in sides.items())
    lesson = page_about("_applications", "library/inference/landmarker")
    page = (HERE / "try" / "page.md").read_text(encoding="utf-8")
    card = "The [model card](model.md) states its error and its limits."
    for name, value in {"size": size, "legend": legend, "lesson": lesson, "card": card}.items():
        page = page.replace(f"{{{name}}}", str(value))
    return page
