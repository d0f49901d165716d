"The locked development environment contains every dependency of pyproject.toml, within its bounds."

from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("dev", "docs", "browser", "deploy")  # dev includes the others


def test_the_lock_holds_every_dependency_within_its_bounds():
    lines = [Requirement(line) for line in (ROOT / ".github" / "dev-lock.txt").read_text().splitlines() if line and not line.startswith("#")]
    locked = {}
    for line in lines:
        locked.setdefault(canonicalize_name(line.name), []).append(str(line.specifier).removeprefix("=="))
    asked = [one for one in map(Requirement, requires("facekp")) if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in EXTRAS)]
    for one in asked:
        if one.name != "facekp":
            versions = locked.get(canonicalize_name(one.name))
            assert versions and all(one.specifier.contains(version) for version in versions), f"refresh .github/dev-lock.txt: {one} is locked as {versions}"
