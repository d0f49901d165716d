"Imports of the modules: no cycles, not even through lazy imports, and the base installation needs no package of the extras."

import ast
import graphlib
import importlib
import importlib.resources
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import facekp
import facekp.models.zoo

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "facekp"
EXTRAS = ["ai_edge_litert", "albumentations", "distributed", "jax", "kagglehub", "keras", "onnx", "ray", "scipy", "sklearn", "tensorflow", "tf2onnx", "torch"]
# modules that import others by a name built at run time, and the imported modules
DYNAMIC = {"facekp.models.registry": [f"facekp.models.zoo.{module.name}" for module in pkgutil.iter_modules(facekp.models.zoo.__path__)],
           "facekp.export.tools": [], "facekp.models.backbones": [], "facekp.training.seeds": []}  # packages of the extras only
# modules that must work in the base installation
BASE = ("cli", "completion", "labels", "inference.formats", "export.targets", "jobs", "config", "errors", "faces", "files", "images", "video", "geometry", "keypoints", "conventions", "plots", "clear_faces", "metrics", "evaluation",
        "eda", "eda_plots", "tables", "statistics", "label_errors", "label_audit", "audit", "audit_report", "models.registry",
        "data.sources", "data.kaggle", "data.kaggle_download", "data.npz", "data.w300", "data.label_columns", "data.split", "data.duplicates", "synthetic.renderer", "synthetic.dataset",
        "inference.landmarker", "inference.outputs", "inference.prediction", "inference.results", "inference.schema", "inference.alignment", "inference.head_pose", "inference.expression", "inference.tracking", "inference.tracked_video", "inference.keypoint_model")


def module_files() -> dict[str, Path]:
    "Return each module's name and file, without the index that nbdev writes."
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")}
    return {name: path for name, path in paths.items() if not name.endswith("._modidx")}


FILES = module_files()


# names with one role in each module of a family, or in any module
SHARED_NAMES = {"__all__",  # what a module exports
                "SPEC", "_build",  # what each module of models.zoo registers, and its builder
                "main"}  # starts the command: in cli, and for `python -m facekp`


def defined_names(tree: ast.Module) -> set[str]:
    "Return the functions, classes and constants that a module defines at its top level."
    names = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []:
            names |= {one.id for one in ast.walk(target) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return names


def test_no_name_is_defined_in_two_modules():
    modules_of: dict[str, list[str]] = {}
    for module, path in FILES.items():
        for name in defined_names(ast.parse(path.read_text(encoding="utf-8"))) - SHARED_NAMES:
            modules_of.setdefault(name, []).append(module)
    assert len(modules_of) > 500
    assert {name: found for name, found in modules_of.items() if len(found) > 1} == {}, "a name has one meaning: choose another"


def is_there(dotted: str) -> bool:
    "Tell whether a name of the package, of one of its modules or classes, or of another package exists."
    first, *rest = (dotted if dotted.startswith(("facekp.", "albumentations.")) else f"facekp.{dotted}").split(".")
    found = importlib.import_module(first)
    for part in rest:
        name = f"{getattr(found, '__name__', '')}.{part}"
        if name in FILES:
            found = importlib.import_module(name)
        elif hasattr(found, part):
            found = getattr(found, part)
        else:
            return part in getattr(found, "__dataclass_fields__", {})
    return True


@pytest.mark.parametrize(("dotted", "there"), [("config.SOURCES", True), ("config.HELP", False), ("experiments.plan.PlannedTrial.budget", True), ("experiments.plan.Trial.size", False),
                                               ("experiments.plan.Experiment.results_folder", True), ("albumentations.Affine", True), ("nowhere.SOURCES", False)])
def test_names_are_looked_up(dotted, there):
    assert is_there(dotted) == there


def test_the_changelog_names_what_is_there():
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    names = {name for row in rows for name in re.findall(r"`([a-z_]\w*(?:\.\w+)+)[`(,]", row[1])}
    assert len(rows) > 300 and len(names) > 250
    assert [row for row in rows if len(row) == 2 and not re.match(r"`[a-z_]\w*(\.\w+)+`|removed", row[1])] == [], "a row names the new place of a name, or states that it was removed"
    assert [name for name in sorted(names) if not name.endswith(".csv") and not is_there(name)] == []


def imported_names(name: str, tree: ast.AST, is_package: bool, modules) -> set[str]:
    "Return the modules that a module imports: at its top, in functions, through importlib with a constant, or as listed in DYNAMIC."
    package = name.split(".") if is_package else name.split(".")[:-1]
    found = set(DYNAMIC.get(name, []))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[:len(package) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            found |= {f"{base}.{one.name}" if f"{base}.{one.name}" in modules else base for one in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__"):
            if isinstance(node.args[0], ast.Constant):
                found.add(node.args[0].value)
            else:
                assert name in DYNAMIC, f"{name} imports by a name made at run time: list in DYNAMIC which modules"
    return {one for one in found if one in modules and one != name}


def import_graph() -> dict[str, set[str]]:
    "Return the modules of the package that each module imports; the lazy names at the top of the package do not count."
    return {name: imported_names(name, ast.parse(path.read_text(encoding="utf-8")), path.name == "__init__.py", FILES) - {"facekp"} for name, path in FILES.items()}


def test_the_import_graph_has_no_cycle():
    graph = import_graph()
    assert sum(map(len, graph.values())) > 100
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert set(order) >= set(FILES) - {"facekp"}


@pytest.mark.parametrize("text, edges", [
    ("from ..faces import Faces", {"facekp.faces"}), ("def f():\n    from facekp.data import split", {"facekp.data.split"}), ("import facekp.files", {"facekp.files"}),
    ("import importlib\nimportlib.import_module('facekp.metrics')", {"facekp.metrics"}), ("from .kaggle import read", {"facekp.data.kaggle"}), ("import numpy", set())])
def test_every_kind_of_import_is_an_edge(text, edges):
    assert imported_names("facekp.data.cache", ast.parse(text), False, FILES) == edges


def test_a_cycle_is_found():
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(import_graph() | {"facekp.errors": {"facekp.jobs"}}).prepare()


LOADED = """
import importlib, json, os, sys
names = json.loads(sys.argv[1])
import numpy, pandas, matplotlib.pyplot, cv2, PIL.Image
try:
    import facekp.training.backend, albumentations, sklearn.impute, sklearn.linear_model, scipy.optimize, seaborn
except Exception:
    pass
for name in [name for name in sys.modules if name.split(".")[0] == "facekp"]:
    del sys.modules[name]
for name in names:  # each in a separate process, which starts without any module of the package
    sys.stdout.flush()
    if os.fork() == 0:
        importlib.import_module(name)
        print(json.dumps([name, sorted(one for one in sys.modules if one.split(".")[0] == "facekp")]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_importing_a_module_loads_only_what_its_source_imports():
    graph = import_graph()

    def reachable(name):
        seen, waiting = {"facekp"}, [name]
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                parts = one.split(".")
                waiting += [*graph[one], *(".".join(parts[:length]) for length in range(1, len(parts)))]
        return seen

    names = sorted(name for name in FILES if not name.endswith("__main__"))
    done = subprocess.run([sys.executable, "-c", LOADED, json.dumps(names)], capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)})
    loaded = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    assert set(loaded) == set(names), done.stderr[-2000:]
    for name, modules in loaded.items():
        assert set(modules) <= reachable(name), f"{name} loads {sorted(set(modules) - reachable(name))}, which its source does not import"


WITHOUT = """
import importlib, importlib.abc, json, sys
extras = set({extras!r})
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in extras:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
{code}
"""


def run_without_extras(code: str, *arguments: str, cwd: Path = ROOT) -> str:
    "Run Python in which no package of the extras can be imported, and return its output."
    done = subprocess.run([sys.executable, "-c", WITHOUT.format(extras=EXTRAS, code=code), *arguments], capture_output=True, text=True, timeout=300, cwd=cwd,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return done.stdout


def test_the_base_installation_imports_its_modules_and_the_others_name_their_extra():
    told = json.loads(run_without_extras("""
told = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
        told[name] = ""
    except Exception as error:
        told[name] = f"{type(error).__name__}: {error}"
print(json.dumps(told))""", json.dumps(sorted(FILES.keys() - {"facekp.__main__"}))))
    assert {name: told[f"facekp.{name}"] for name in BASE if told[f"facekp.{name}"]} == {}
    silent = {name: message for name, message in told.items() if message and not (message.startswith("UserError") and "pip install 'facekp[train]" in message)}
    assert silent == {}, "these fail without naming the extra"


def test_the_base_installation_predicts_and_reads_data(tmp_path):
    code = """
import cv2, numpy, facekp
from facekp.cli import main
face = facekp.synthetic_faces(1, seed=3, workers=1).images[0]
photo = numpy.full((600, 800), 90, numpy.uint8)
photo[100:484, 200:584] = cv2.resize(face, (384, 384))
cv2.imwrite("photo.png", photo)
assert main(["predict", "photo.png", "--out", "out"]) in (None, 0)
assert main(["data", "info", "synthetic:20"]) in (None, 0)
assert len(facekp.predict("photo.png")) == 1
assert len(facekp.predict(numpy.full((600, 800), 90, numpy.uint8))) == 0
try:
    facekp.build_model("baseline")
except facekp.UserError as error:
    print("said:", error)
"""
    told = run_without_extras(code, cwd=tmp_path)
    assert "said: Training needs TensorFlow: pip install 'facekp[train]" in told
    assert list((tmp_path / "out").rglob("*"))


def test_the_base_requires_no_package_of_the_extras():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {re.match(r"[\w-]+", line).group() for line in project["dependencies"]}
    assert "numpy" in base and not base & {"tensorflow", "keras", "albumentations", "scikit-learn", "scipy", "onnx", "tf2onnx", "ai-edge-litert"}


def test_every_public_name_is_typed_and_can_be_loaded():
    assert importlib.resources.files("facekp").joinpath("py.typed").is_file()
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    typed = {one.asname: (node.module, one.name) for node in stub.body if isinstance(node, ast.ImportFrom) for one in node.names}
    assert set(dir(facekp)) == typed.keys() >= {"predict", "load_faces", "Faces", "train"}
    for name, (module, original) in typed.items():
        assert getattr(facekp, name) is getattr(importlib.import_module(f"facekp.{module}"), original), name


# modules that only compute: they neither read files nor draw nor read the command line; `label_audit` and `kaggle_score` call the modules that do
COMPUTES = ("annotation_sources", "audit", "clear_faces", "conventions", "eda", "error_curves", "evaluation", "experiments.kaggle_score", "experiments.planned",
            "experiments.statistics", "geometry", "impute", "inference.alignment", "inference.confidence", "inference.expression", "inference.head_pose", "inference.shots", "inference.tracking",
            "label_audit", "label_errors", "metrics", "normalization", "statistics")
DRAWS = ("eda_plots", "experiments.charts", "inference.drawing", "plots")
READING = {"read_csv", "read_bytes", "read_text", "open", "load", "loadtxt", "imread", "read_frames", "VideoCapture", "imdecode", "read_parquet", "read_record", "read_study"}
DRAWING = {"subplots", "imshow", "scatter", "plot", "circle", "line", "rectangle", "putText", "draw_predictions", "encode_png", "savefig", "show_faces"}
COMMAND = {"ArgumentParser", "add_argument", "parse_args", "print", "input"}


def called_names(tree: ast.AST) -> set[str]:
    "Return the names of the functions and methods that a module calls."
    return {getattr(node.func, "attr", getattr(node.func, "id", "")) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("module, others", [*((name, READING | DRAWING | COMMAND) for name in COMPUTES), *((name, READING | COMMAND) for name in DRAWS)])
def test_no_module_mixes_computing_reading_drawing_and_the_command_line(module, others):
    assert called_names(ast.parse(FILES[f"facekp.{module}"].read_text(encoding="utf-8"))) & others == set()


@pytest.mark.parametrize("text, found", [("frame = pd.read_csv(path)", "read_csv"), ("with open(path) as file:\n    pass", "open"), ("def f():\n    axis.imshow(image)", "imshow"),
                                         ("parser.add_argument('--out')", "add_argument")])
def test_calls_that_read_draw_or_parse_options_are_found(text, found):
    assert found in called_names(ast.parse(text)) & (READING | DRAWING | COMMAND)


def test_the_package_lists_each_module_and_folder_once():
    listed = re.findall(r"^facekp\.(\w+) ", facekp.__doc__, re.MULTILINE)
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
    assert sorted(listed) == sorted(modules | folders)
