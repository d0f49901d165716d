"""Run notebooks of nbs/ from top to bottom and store their outputs; stored outputs are made in no other way.

python nbs/_site/run.py [NAME ...]: all notebooks, or those whose names below nbs/ begin with NAME, such as course/03 or library/geometry. Each cell's id becomes the hash of its source, so that a test can
tell whether a source was changed after its outputs were made. Standard error and overwritten progress bars are not stored.
"""

import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1]


def cell_ids(cells: list[dict]) -> list[str]:
    "Return the id of each cell: a hash of its type and source, made unique for repeated cells; the id of the set-up cell is kept."
    ids, seen = [], {}
    for cell in cells:
        source = "".join(cell["source"])
        digest = hashlib.sha1(f"{cell['cell_type']}{source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        again = digest if seen[digest] == 1 else hashlib.sha1(f"{digest}{seen[digest]}".encode()).hexdigest()[:8]
        ids.append(cell["id"] if "set-up" in cell["metadata"].get("tags", []) else again)
    return ids


def left_standing(text: str) -> str:
    "Return the text that a terminal would finally show, without overwritten progress bars."
    return re.sub(r"[^\n]*\r(?!\n)", "", text)


def compress_png(data: str) -> str:
    "Return a PNG image (base64) with the same pixels in fewer bytes: without an opaque alpha channel, and with a palette if it has at most 256 colours."
    before = base64.b64decode(data)
    image = Image.open(io.BytesIO(before))
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")
    if image.mode == "RGB" and (colors := image.getcolors(256)):
        palette = image.quantize(len(colors), dither=Image.Dither.NONE)
        image = palette if palette.convert("RGB").tobytes() == image.tobytes() else image
    after = io.BytesIO()
    image.save(after, "png", optimize=True)
    return base64.b64encode(after.getvalue()).decode() if after.tell() < len(before) else data


def kept_outputs(outputs: list[dict]) -> list[dict]:
    "Return a cell's outputs without standard error and overwritten text; consecutive prints become one text."
    kept = []
    for output in outputs:
        before = kept[-1] if kept else {"output_type": ""}
        if output["output_type"] != "stream":
            kept.append(output)
        elif output["name"] == "stdout" and before["output_type"] == "stream":
            before["text"] += "".join(output["text"])
        elif output["name"] == "stdout":
            output["text"] = "".join(output["text"])
            kept.append(output)
    for output in kept:
        if output["output_type"] == "stream":
            output["text"] = left_standing(output["text"])
        elif "image/png" in output.get("data", {}):
            output["data"]["image/png"] = compress_png(output["data"]["image/png"])
    return [output for output in kept if output.get("text") or output["output_type"] != "stream"]


def run(path: Path) -> float:
    "Run a notebook in its folder and store its outputs; return the seconds it took."
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    started = time.perf_counter()
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell, name in zip(notebook.cells, cell_ids(notebook.cells)):
        cell.id = name
        if cell.cell_type == "code":
            cell.outputs = kept_outputs(cell.outputs)
    nbformat.write(notebook, path)
    subprocess.run([Path(sys.executable).with_name("nbdev-clean"), "--fname", path], cwd=NOTEBOOKS.parent, check=True)
    return time.perf_counter() - started


def main() -> None:
    os.environ.setdefault("FACEKP_PROFILE", "quick")
    wanted = tuple(sys.argv[1:]) or ("",)
    for path in sorted(NOTEBOOKS.rglob("*.ipynb")):
        name = path.relative_to(NOTEBOOKS).as_posix()
        if name.startswith(wanted) and "solutions" not in path.parts:
            print(f"{name}: ran in {run(path):.0f} s", flush=True)


if __name__ == "__main__":
    main()
