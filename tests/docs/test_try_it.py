"""The page Try it: its script gives the same results as Python. Needs Node.js and the runtime that the site downloads; skipped without them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import facekp
from facekp.inference.expression import measure_expression
from facekp.inference.head_pose import head_pose
from facekp.inference.session import DEFAULT_MODEL, DETECTOR_FILE
from facekp.synthetic.renderer import synthetic_faces

SITE = Path(__file__).parents[2] / "nbs" / "_site"
sys.path.insert(0, str(SITE))

import tryit  # noqa: E402

PROGRAM = """
import { readFileSync } from "node:fs";
import { findFaces, headPose, measureExpression } from "./find.mjs";
const ort = await import(process.argv[2]);
ort.env.wasm.numThreads = 1;
const open = (path) => ort.InferenceSession.create(new Uint8Array(readFileSync(path)));
const nets = { detector: await open(process.argv[3]), model: await open(process.argv[4]), Tensor: ort.Tensor };
const answers = [];
for (const { width, height, file } of JSON.parse(readFileSync("pictures.json"))) {
  const faces = await findFaces(nets, { data: new Uint8ClampedArray(readFileSync(file)), width, height });
  answers.push(faces.map(({ points, confidence, flags }) => ({ points, confidence, flags, measures: measureExpression(points), pose: headPose(points) })));
}
console.log(JSON.stringify(answers));
"""


def pictures() -> list[np.ndarray]:
    "Return images [H,W,3] with synthetic faces: one, five, one that is blurred, one on its side, and one so blurred that the detector gives it a low score."
    one, five = tryit._sample([(14, 288, 96)], (480, 360)), tryit._sample([(2, 232, 24), (12, 176, 284), (0, 128, 486), (11, 96, 640), (18, 72, 762)], (860, 300))
    faint = np.full((360, 480), 120, np.uint8)
    faint[90:250, 150:310] = cv2.resize(cv2.GaussianBlur(synthetic_faces(60, seed=3, workers=1).images[35], (0, 0), 4), (160, 160))
    greys = (one, five, cv2.GaussianBlur(one, (0, 0), 10), np.ascontiguousarray(np.rot90(one)), cv2.GaussianBlur(faint, (0, 0), 2))
    return [np.repeat(grey[..., None], 3, axis=2) for grey in greys]


@pytest.mark.site
@pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")
def test_browser_gives_what_python_gives(tmp_path):
    "The faces are the same, points agree within 0.5 px of the 96-pixel crop, measures within 0.02 (of the faint face: each point within two predicted sigmas, and all together within half of their mean), and the pose of the same points is equal. The script crops the image itself, Python a reduced copy."
    if not tryit.has_runtime():
        pytest.skip("the runtime of the page is not here and could not be fetched")
    images = pictures()
    for number, image in enumerate(images):
        (tmp_path / f"{number}.rgba").write_bytes(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]).tobytes())
    (tmp_path / "pictures.json").write_text(json.dumps([{"width": image.shape[1], "height": image.shape[0], "file": f"{number}.rgba"} for number, image in enumerate(images)]))
    (tmp_path / "find.mjs").write_text((SITE / "try" / "find.js").read_text(encoding="utf-8").replace("./known.js", "./known.mjs"), encoding="utf-8")
    (tmp_path / "known.mjs").write_text(f"export default {json.dumps(tryit.known())};\n", encoding="utf-8")
    (tmp_path / "program.mjs").write_text(PROGRAM, encoding="utf-8")
    run = subprocess.run(["node", "program.mjs", (tryit.RUNTIME / "ort.wasm.min.mjs").as_uri(), str(DETECTOR_FILE), str(DEFAULT_MODEL)],
                         cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    landmarker = facekp.load(threads=1)
    for image, answers, count, faint in zip(images, json.loads(run.stdout), (1, 5, 1, 1, 1), (False, False, False, False, True), strict=True):
        faces = landmarker.find_faces(image)
        assert len(faces) == len(answers) == count
        for face in faces:
            answer = min(answers, key=lambda one: np.abs(np.array(one["points"]) - face.points).max())
            apart = np.abs(np.array(answer["points"]) - face.points)
            if faint:
                assert (apart <= 2 * face.sigma[:, None]).all() and np.sqrt(np.mean(apart**2)) <= face.sigma.mean() / 2
            else:
                assert apart.max() <= 0.5 * face.crop.pixel
            assert answer["flags"] == list(face.flags) and abs(answer["confidence"] - face.confidence) < 0.05
            assert list(answer["pose"].values()) == pytest.approx(list(head_pose(np.array(answer["points"]))), abs=1e-6)
            if not faint:
                assert list(answer["pose"].values()) == pytest.approx(list(face.pose), abs=2)
                assert answer["measures"] == pytest.approx(measure_expression(face.points), abs=0.02)
