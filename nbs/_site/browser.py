"Find a Chromium for the tests of the site and the PDFs of the slides: playwright's own, else the system's; run as a script, install one if there is none."

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome-headless-shell", "chromium-headless-shell", "msedge")


def _of_playwright() -> str | None:
    "Return where playwright keeps its own Chromium; the file exists after `playwright install chromium`."
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as started:
            return started.chromium.executable_path
    except Exception:  # playwright is missing or cannot start, or an event loop is already running
        return None


def _starts(path: str) -> bool:
    "Return whether a program is a Chromium that starts."
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "Chrom" in done.stdout + done.stderr


def _candidates() -> Iterator[str | None]:
    "Yield where a Chromium may be, first choice first; None where there is none."
    yield os.environ.get("FACEKP_BROWSER")
    yield _of_playwright()
    yield from map(shutil.which, NAMES)


def find_browser() -> str | None:
    "Return the first Chromium that starts: FACEKP_BROWSER, playwright's own, or the system's; None if there is none."
    return next((path for path in _candidates() if path and _starts(path)), None)


def install_browser() -> None:
    "Install playwright's Chromium; if it cannot be downloaded, install Debian's, if this is Debian and the user is root."
    commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        commands += [["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"]]
    for command in commands:
        try:
            subprocess.run(command, check=False, capture_output=True, timeout=600, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{' '.join(command[:3])}: {error}")
        if find_browser():
            return


def main() -> int:
    "Print which browser is used; install one if there is none. Without a browser the tests that need one are skipped."
    if find_browser() is None:
        install_browser()
    print(find_browser() or "no Chromium: install one, or set FACEKP_BROWSER to its path; tests that need a browser are skipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
