"""Measure the size of the base installation in a new environment, package by package: installed files, with and without the bytecode that Python adds.

python benchmarks/install.py [--python python3.12] [--save results/benchmarks/install.json]. pip downloads the newest versions that pyproject.toml admits. MB are millions of bytes of the files, not of disk blocks.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from facekp.experiments.measurement import write_measurement

ROOT = Path(__file__).resolve().parents[1]
SIZES = """
import importlib.metadata, json, os, platform
found = {}
for package in importlib.metadata.distributions():
    paths = [str(package.locate_file(file)) for file in package.files or []]
    sizes = {path: os.path.getsize(path) for path in paths if os.path.isfile(path)}
    bytecode = sum(size for path, size in sizes.items() if path.endswith(".pyc"))
    found[package.metadata["Name"].lower()] = {"version": package.version, "files": sum(sizes.values()) - bytecode, "bytecode": bytecode}
found.pop("pip", None)
print(json.dumps({"python": platform.python_version(), "packages": found}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="Python interpreter")
    parser.add_argument("--save", type=Path, help="also write a JSON record to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.python, "-m", "venv", folder], check=True)
        python, started = Path(folder) / "bin" / "python", time.perf_counter()
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", ROOT], check=True, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        made = json.loads(subprocess.run([python, "-c", SIZES], check=True, capture_output=True, text=True).stdout)
    packages = dict(sorted(made["packages"].items(), key=lambda item: -item[1]["files"]))
    sums = {f"megabytes_of_{kind}": round(sum(package[kind] for package in packages.values()) / 1e6, 1) for kind in ("files", "bytecode")}
    for name, package in packages.items():
        print(f"{name:26} {package['version']:14} {package['files'] / 1e6:7.1f} MB, bytecode {package['bytecode'] / 1e6:6.1f} MB")
    print(f"Python {made['python']}: {sums}, {seconds:.0f} s")
    if options.save:
        write_measurement(options.save, {"python": made["python"], **sums, "packages": packages}, f"python benchmarks/install.py --python python{'.'.join(made['python'].split('.')[:2])}", seconds=seconds)


if __name__ == "__main__":
    main()
