"""Check a version before its release: build wheel and sdist, check their contents, and test the wheel in new environments.

python tools/release_check.py [--faces FILE.npz] [--python PYTHON ...] [--out FOLDER]: with --faces, also check that no archive contains an image of that file.
The base installation and the one with the extra `train` are tested with each Python given; by default with the oldest and the newest that are
installed here, from the oldest that pyproject.toml allows.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST_BASE = 450  # MB of the base installation, without pip
NEWEST = 10  # minor versions above the oldest Python to look for
LARGEST = 1_500_000  # bytes; the shipped models are the largest files of the package
PICTURES = {".png", ".jpg", ".jpeg", ".npz", ".npy", ".zip", ".csv", ".h5", ".keras"}
SMALLEST = "[course]\ndata = synthetic:60\nprofile = quick\n[quick]\nmodels = mean baseline\nlabels = complete masked\naugment = 1\nbaseline_images = 300\n"


def run(*command: str | Path, cwd: Path, **options) -> str:
    "Run a command and return its output; if it fails, exit with its error message."
    print("$", *(Path(part).name if isinstance(part, Path) else part for part in command), flush=True)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\nfailed with {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def read_members(archive: Path) -> dict[str, bytes]:
    "Read all files of a wheel or sdist."
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}
    with tarfile.open(archive) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened.getmembers() if member.isfile()}


def faults(members: dict[str, bytes], faces: list[bytes]) -> list[str]:
    "List files that must not be in an archive, and files that are missing from it."
    found = [f"{name} has {len(content):,} bytes, more than {LARGEST:,}" for name, content in members.items() if len(content) > LARGEST]
    found += [f"{name} is a picture, a table or a data set" for name in members if Path(name).suffix.lower() in PICTURES]
    found += [f"{name} holds a face of the given file" for name, content in members.items() if any(face in content for face in faces)]
    inside = {name.split("facekp/", 1)[1] for name in members if re.search(r"(^|/)facekp/", name)}
    wanted = {path.relative_to(ROOT / "facekp").as_posix() for path in (ROOT / "facekp").rglob("*")
              if path.suffix in (".py", ".pyi", ".onnx", ".txt", ".ini", ".typed") or path.name == "py.typed"}
    return found + [f"{name} of the package is missing" for name in sorted(wanted - inside)]


def licence_faults(members: dict[str, bytes]) -> list[str]:
    "List faults in the licences of a wheel; code and weights have separate licence texts."
    metadata = next(content.decode() for name, content in members.items() if name.endswith(".dist-info/METADATA"))
    files = {Path(name).name for name in members if "/licenses/" in name}
    return [f"{name} is missing" for name in ("LICENSE", "LICENSE-WEIGHTS.md") if name not in files] + \
        ([] if "License-Expression: Apache-2.0 AND LicenseRef-" in metadata else ["the licence expression does not separate code and weights"])


def parts_of_faces(path: Path | None) -> list[bytes]:
    "Return two rows of pixels from the middle of each face, to search for in an archive."
    if path is None:
        return []
    import numpy as np

    return [image[40:42].tobytes() for image in np.load(path, allow_pickle=False)["images"] if image[40:42].std() > 5]


def installed_mb(folder: Path) -> float:
    "Return the size of an environment's site-packages without pip, in MB."
    packages = next(folder.rglob("site-packages"))
    return sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and path.relative_to(packages).parts[0].split("-")[0] not in ("pip", "setuptools")) / 2**20


def python_version(python: str) -> tuple[int, int] | None:
    "Return the version of a Python that starts and can create environments, or None."
    code = "import ensurepip, sys, venv; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


def find_pythons() -> list[str]:
    "Return the oldest and the newest Python of the search path that pyproject.toml allows; this one if there is no other."
    oldest = int(re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")).group(1))
    found = [path for minor in range(oldest, oldest + NEWEST) if (path := shutil.which(f"python3.{minor}")) and python_version(path) == (3, minor)]
    return list(dict.fromkeys([found[0], found[-1]])) if found else [sys.executable]


def create_environment(python: str, folder: Path) -> Path:
    "Create an environment and return the folder of its programs."
    run(python, "-m", "venv", folder, cwd=folder.parent)
    return folder / ("Scripts" if os.name == "nt" else "bin")


def try_base(wheel: Path, folder: Path, environment: dict[str, str], python: str) -> None:
    "Test the base installation in a new environment: predict, read data, and check the message that training needs the extra `train`."
    scripts, desk = create_environment(python, folder / "base"), folder / "desk"
    started = time.perf_counter()
    run(scripts / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", wheel, cwd=folder)
    seconds, size = time.perf_counter() - started, installed_mb(folder / "base")
    print(f"base installation: {size:.0f} MB in {seconds:.0f} s")
    if size > LARGEST_BASE:
        raise SystemExit(f"the base installation has {size:.0f} MB, expected at most {LARGEST_BASE}")
    draw = ("import cv2, numpy, facekp; face = facekp.synthetic_faces(1, seed=3, workers=1).images[0]; "
            "photo = numpy.full((600, 800), 90, numpy.uint8); photo[100:484, 200:584] = cv2.resize(face, (384, 384)); cv2.imwrite('photo.png', photo)")
    run(scripts / "python", "-c", draw, cwd=desk, env=environment)
    print(run(scripts / "facekp", "predict", "photo.png", "--out", "out", cwd=desk, env=environment, timeout=300))
    if not list((desk / "out").rglob("*.png")):
        raise SystemExit("facekp predict wrote no image")
    print(run(scripts / "facekp", "data", "info", "synthetic:20", cwd=desk, env=environment, timeout=300))
    done = subprocess.run([scripts / "facekp", "course"], cwd=desk, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 2 or "pip install" not in done.stderr or "Traceback" in done.stderr:
        raise SystemExit(f"without the extra `train`, facekp course ended with {done.returncode}: {done.stderr}")
    print(done.stderr.strip())


def try_wheel(wheel: Path, folder: Path, python: str) -> None:
    "Test the wheel in new environments outside the repository: the base installation, and the one with the extra `train`."
    print(f"Python {'.'.join(map(str, python_version(python)))}: {python}")
    desk = folder / "desk"
    desk.mkdir(parents=True)
    (desk / "settings.ini").write_text(SMALLEST)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FACEKP", "PYTHON"))}
    try_base(wheel, folder, environment, python)
    scripts = create_environment(python, folder / "env")
    run(scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[train]", cwd=folder)
    print(run(scripts / "facekp", "--version", cwd=desk, env=environment).strip())
    print(run(scripts / "facekp", "course", cwd=desk, env=environment, timeout=900))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faces", type=Path, help="an .npz file with images that must not be in an archive")
    parser.add_argument("--python", nargs="*", help="Pythons to test with; by default the oldest and the newest that are installed here")
    parser.add_argument("--out", type=Path, help="folder for the checked archives; without, they are deleted")
    options = parser.parse_args()
    pythons = options.python or find_pythons()
    if broken := [python for python in pythons if python_version(python) is None]:
        parser.error(f"no Python that can create environments: {', '.join(broken)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
        archives = sorted((folder / "dist").iterdir())
        print(run(sys.executable, "-m", "twine", "check", "--strict", *archives, cwd=folder))
        faces = parts_of_faces(options.faces)
        for archive in archives:
            members = read_members(archive)
            wrong = faults(members, faces) + (licence_faults(members) if archive.suffix == ".whl" else [])
            print(f"{archive.name}: {len(members)} files, {archive.stat().st_size:,} bytes, searched for {len(faces)} faces")
            if wrong:
                raise SystemExit("\n".join(wrong))
        for number, python in enumerate(pythons):
            try_wheel(next(path for path in archives if path.suffix == ".whl"), folder / f"python{number}", python)
            shutil.rmtree(folder / f"python{number}")  # an environment has more than 2 GB
        if options.out:
            shutil.copytree(folder / "dist", options.out, dirs_exist_ok=True)
    print("ready for release")
    return 0


if __name__ == "__main__":
    sys.exit(main())
