"""Is this version fit to be released? Builds wheel and sdist, looks into them, and tries the wheel in a fresh environment.

python tools/release_check.py [--faces FILE.npz]: with --faces, also that no picture of that file is inside.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 1_500_000  # bytes; the shipped models are the largest files of the package
PICTURES = {".png", ".jpg", ".jpeg", ".npz", ".npy", ".zip", ".csv", ".h5", ".keras"}
SMALLEST = "[course]\ndata = synthetic:60\nprofile = quick\n[quick]\nmodels = mean baseline\nlabels = complete masked\naugment = 1\nbaseline_images = 300\n"


def run(*command: str | Path, cwd: Path, **options) -> str:
    "Run a command and return what it printed; its own message where it fails."
    print("$", *(Path(part).name if isinstance(part, Path) else part for part in command), flush=True)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\nfailed with {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def read_members(archive: Path) -> dict[str, bytes]:
    "Every file of a wheel or sdist."
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}
    with tarfile.open(archive) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened.getmembers() if member.isfile()}


def faults(members: dict[str, bytes], faces: list[bytes]) -> list[str]:
    "What should not be in an archive."
    found = [f"{name} has {len(content):,} bytes, more than {LARGEST:,}" for name, content in members.items() if len(content) > LARGEST]
    found += [f"{name} is a picture, a table or a data set" for name in members if Path(name).suffix.lower() in PICTURES]
    found += [f"{name} holds a face of the given file" for name, content in members.items() if any(face in content for face in faces)]
    modules = {Path(name).name for name in members if Path(name).parent.name == "facekp"}
    wanted = {path.name for path in (ROOT / "facekp").iterdir() if path.suffix in (".py", ".onnx", ".json", ".tflite")}
    return found + [f"{name} of the package is missing" for name in sorted(wanted - modules)]


def parts_of_faces(path: Path | None) -> list[bytes]:
    "Two rows of pixels from the middle of each face: what would be found of it in an archive."
    if path is None:
        return []
    import numpy as np

    return [image[40:42].tobytes() for image in np.load(path, allow_pickle=False)["images"] if image[40:42].std() > 5]


def try_wheel(wheel: Path, folder: Path) -> None:
    "Install the wheel in a fresh environment outside the repository and run the command."
    venv.create(folder / "env", with_pip=True)
    scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    desk = folder / "desk"
    desk.mkdir()
    (desk / "settings.ini").write_text(SMALLEST)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FACEKP", "PYTHON"))}
    print(run(scripts / "facekp", "--version", cwd=desk, env=environment).strip())
    print(run(scripts / "facekp", "course", cwd=desk, env=environment, timeout=900))
    if "predict" in run(scripts / "facekp", "--help", cwd=desk, env=environment):
        draw = ("import cv2, numpy, facekp.draw as d; face = d.draw_faces(1, seed=3, workers=1).images[0]; "
                "photo = numpy.full((600, 800), 90, numpy.uint8); photo[100:484, 200:584] = cv2.resize(face, (384, 384)); cv2.imwrite('photo.png', photo)")
        run(scripts / "python", "-c", draw, cwd=desk, env=environment)
        print(run(scripts / "facekp", "predict", "photo.png", "--out", "out", cwd=desk, env=environment, timeout=300))
        if not list((desk / "out").rglob("*.png")):
            raise SystemExit("facekp predict wrote no picture")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faces", type=Path, help="an .npz with images that must not be inside")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
        archives = sorted((folder / "dist").iterdir())
        print(run(sys.executable, "-m", "twine", "check", "--strict", *archives, cwd=folder))
        faces = parts_of_faces(options.faces)
        for archive in archives:
            members = read_members(archive)
            wrong = faults(members, faces)
            print(f"{archive.name}: {len(members)} files, {archive.stat().st_size:,} bytes, {len(faces)} faces looked for")
            if wrong:
                raise SystemExit("\n".join(wrong))
        try_wheel(next(path for path in archives if path.suffix == ".whl"), folder)
    print("fit to be released")
    return 0


if __name__ == "__main__":
    sys.exit(main())
