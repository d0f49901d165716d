"Find a Chromium for the checks of the site and for the slides' PDF; run as a program, fetch one from npm's registry where there is none."

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from lessons import ROOT

FOLDER = ROOT / ".venv" / "browser"
PACKAGE = "@sparticuz/chromium@147.0.0"  # a Chromium as an npm package; needs Node 20 or newer to unpack
NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome-headless-shell", "chromium-headless-shell", "msedge")
UNPACK = "const [a, b] = process.argv.slice(1); const z = require('zlib'), f = require('fs'); " \
         "f.createReadStream(a).pipe(z.createBrotliDecompress()).pipe(f.createWriteStream(b, {mode: 0o755}))"


def find_browser() -> str | None:
    "A Chromium that starts: FACEKP_BROWSER, one on the path, or the one that was fetched; None where there is none."
    found = [os.environ.get("FACEKP_BROWSER"), *map(shutil.which, NAMES), FOLDER / "chromium"]
    for path in filter(None, found):
        try:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and "Chrom" in done.stdout + done.stderr:
            return str(path)
    return None


def fetch_browser() -> None:
    "Fetch Chromium from npm's registry into .venv/browser."
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, timeout=600)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            archive.extract("package/bin/chromium.br", folder)
        FOLDER.mkdir(parents=True, exist_ok=True)
        waiting = FOLDER / "waiting"
        subprocess.run(["node", "-e", UNPACK, Path(folder) / "package" / "bin" / "chromium.br", waiting], check=True, timeout=300)
        waiting.replace(FOLDER / "chromium")


def main() -> int:
    "Say which browser there is; fetch one if there is none, and do without where that fails."
    if find_browser() is None:
        try:
            fetch_browser()
        except (OSError, subprocess.SubprocessError, StopIteration) as error:
            print(f"no Chromium could be fetched ({error}); what needs a browser is skipped")
    print(find_browser() or "no Chromium here: install one, or npm and Node 20, or set FACEKP_BROWSER to its path")
    return 0


if __name__ == "__main__":
    sys.exit(main())
