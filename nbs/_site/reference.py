"Write reference entries from the package's source, without importing the modules described: every exported name with its docments."

import ast
import io
import re
import tokenize
from pathlib import Path

import pandas as pd

from facekp.tables import to_markdown


def _comments(source: str) -> dict[int, str]:
    "Return the trailing comment of each line."
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def plain(text: str) -> str:
    "Escape text for Markdown, except code in backticks; the table writer escapes vertical bars."
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]$~^#])", r"\\\1", part) for part in parts)


def code(text: str) -> str:
    "Return text as code."
    return f"`{' '.join(text.split())}`" if text else ""


def _parameters(node: ast.FunctionDef, comments: dict[int, str]) -> list[tuple[str, str, str, str]]:
    "Return name, type, default and meaning of each parameter."
    given = node.args
    plain_ones = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain_ones) - len(given.defaults)) + list(given.defaults)
    pairs = [*zip(plain_ones, defaults), *zip(given.kwonlyargs, given.kw_defaults)]
    pairs += [(argument, None) for argument in (given.vararg, given.kwarg) if argument]
    rows, last = [], node.body[0].lineno
    for argument, default in pairs:
        if argument.arg in ("self", "cls"):
            continue
        line = max(argument.end_lineno, default.end_lineno if default is not None else 0)
        only_one = line != (node.returns.end_lineno if node.returns is not None else 0)
        meaning = comments.get(line, "") if line < last and only_one else ""
        rows.append((argument.arg, ast.unparse(argument.annotation) if argument.annotation else "",
                     ast.unparse(default) if default is not None else "", meaning))
    return rows


def _returned(node: ast.FunctionDef, comments: dict[int, str]) -> tuple[str, str]:
    "Return type and meaning of the return value; without a type, the comment beside the closing bracket."
    last = node.body[0].lineno
    if node.returns is not None:
        returns = ast.unparse(node.returns)
        return ("", "") if returns == "None" else (returns, comments.get(node.returns.end_lineno, "") if node.returns.end_lineno < last else "")
    given = [*ast.iter_child_nodes(node.args)]
    closing = range(max((part.end_lineno for part in given), default=node.lineno) + 1, last)
    return "", next((comments[line] for line in closing if line in comments), "")


def _table(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> list[str]:
    "Return a Markdown table in a container that site.css stacks on a narrow page."
    return ["", "`````{container} parameters", *to_markdown(pd.DataFrame(rows, columns=list(head)), text_columns=head).splitlines(), "`````", ""]


def _signature(node: ast.FunctionDef) -> str:
    "Return the signature without types, which are in the table below it."
    bare = ast.parse(ast.unparse(node)).body[0]
    for argument in [*bare.args.posonlyargs, *bare.args.args, *bare.args.kwonlyargs, bare.args.vararg, bare.args.kwarg]:
        if argument is not None:
            argument.annotation = None
    bare.args.args = [argument for argument in bare.args.args if argument.arg not in ("self", "cls")]
    return f"{node.name}({ast.unparse(bare.args)})"


def _function(node: ast.FunctionDef, comments: dict[int, str], prefix: str, kind: str = "function") -> list[str]:
    "Return the entry of a function."
    lines = [f"``````{{py:{kind}}} {prefix}{_signature(node)}", "", plain(ast.get_docstring(node) or ""), ""]
    rows = [(code(name), code(annotation), code(default), plain(meaning)) for name, annotation, default, meaning in _parameters(node, comments)]
    returns, meaning = _returned(node, comments)
    if returns or meaning:
        rows.append(("**returns**", code(returns), "", plain(meaning)))
    return [*lines, *(_table(rows, ("parameter", "type", "default", "meaning")) if rows else []), "``````", ""]


def _class(node: ast.ClassDef, comments: dict[int, str], prefix: str, definitions: dict[str, ast.stmt]) -> list[str]:
    "Return the entry of a class: its fields, the parameters of its constructor and its methods, with those of private base classes in the same module."
    bases = [definitions.get(getattr(base, "id", "")) for base in node.bases if getattr(base, "id", "").startswith("_")]
    body = [*(part for base in bases if isinstance(base, ast.ClassDef) for part in base.body), *node.body]
    lines = [f"``````{{py:class}} {prefix}{node.name}", "", plain(ast.get_docstring(node) or ""), ""]
    fields = list({part.target.id: (code(part.target.id), code(ast.unparse(part.annotation)), code(ast.unparse(part.value)) if part.value else "",
                                    plain(comments.get(part.end_lineno, ""))) for part in body if isinstance(part, ast.AnnAssign)}.values())
    if fields:
        lines += _table(fields, ("field", "type", "default", "meaning"))
    constructors = [part for part in body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    parameters = [(code(name), code(annotation), code(default), plain(meaning)) for name, annotation, default, meaning
                  in (_parameters(constructors[-1], comments) if constructors else [])]
    if any(meaning for *_, meaning in parameters):
        lines += _table(parameters, ("parameter", "type", "default", "meaning"))
    lines += ["``````", ""]
    for part in body:
        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_") and ast.get_docstring(part):
            lines += _function(part, comments, f"{prefix}{node.name}.", "method")
    return lines


def _constant(node: ast.Assign, name: str, source: str, comments: dict[int, str], prefix: str) -> list[str]:
    "Return the entry of a constant: its value, shortened if necessary."
    value = " ".join(ast.get_source_segment(source, node.value).split())
    value = re.sub(r"\s*#[^\"']*$", "", value)
    shown = value if len(value) <= 90 else value[:85] + " …"
    return [f"``````{{py:data}} {prefix}{name}", "", code(shown), "", plain(comments.get(node.end_lineno, "")), "``````", ""]


def exported_names(path: Path) -> list[str]:
    "Return the names that a module exports: its `__all__`."
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    "Return every top-level definition by its name."
    found = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            for name in ast.walk(target) if target is not None else ():
                if isinstance(name, ast.Name):
                    found.setdefault(name.id, node)
    return found


def module_summary(path: Path) -> str:
    "Return the first line of a module's docstring, without emphasis."
    return plain((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0].replace("*", ""))


def module_name(path: Path) -> str:
    "Return a module's full name."
    parts = path.with_suffix("").parts
    return ".".join(parts[parts.index("facekp"):]) if "facekp" in parts else f"facekp.{path.stem}"


def _entry(name: str, definitions: dict[str, ast.stmt], source: str, comments: dict[int, str], prefix: str) -> list[str]:
    "Return one name's entry."
    node = definitions[name]
    if isinstance(node, ast.FunctionDef):
        return _function(node, comments, prefix)
    if isinstance(node, ast.ClassDef):
        return _class(node, comments, prefix, definitions)
    return _constant(node, name, source, comments, prefix) if getattr(node, "value", None) is not None else []


def entries(path: Path, names: list[str] | None = None) -> list[str]:
    "Return the entries of a module's exported names, or of some of them."
    source = path.read_text(encoding="utf-8")
    comments, definitions = _comments(source), _definitions(ast.parse(source))
    wanted = [name for name in exported_names(path) if names is None or name in names]
    return [line for name in wanted if name in definitions for line in _entry(name, definitions, source, comments, f"{module_name(path)}.")]


def cell_entries(path: Path, source: str) -> str:
    "Return the entries of the definitions in an exported cell of a notebook."
    return "\n".join(entries(path, list(_definitions(ast.parse(source)))))


def reference_page(path: Path, lesson: str) -> str:
    "Return the page of a module that a lesson exports."
    return "\n".join([f"# {module_name(path)}", "", module_summary(path), "", f"[The lesson]({lesson}) explains and uses this module.", "", *entries(path)]) + "\n"
