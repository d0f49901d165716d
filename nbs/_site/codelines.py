"Format code and its output: on a narrow page, long lines wrap with a deeper indent."

import re
from collections.abc import Iterator
from html import unescape

from pygments.formatters import HtmlFormatter


class CodeLines(HtmlFormatter):
    "Write every line of code into a separate element with its indentation as a property; site.css does the rest."

    def wrap(self, source: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        parts = list(source)
        columns = any(re.search(r"\S {2,}\S", text_of(html)) for kind, html in parts if kind)
        return super().wrap((kind, with_indent(html, columns) if kind else html) for kind, html in parts)


def text_of(html: str) -> str:
    "Return the text of a coloured line."
    return unescape(re.sub(r"<[^>]+>", "", html)).rstrip("\n")


def with_indent(html: str, columns: bool) -> str:
    "Return a coloured line in an element that gives its indent and whether it has columns; return an empty line unchanged."
    line = text_of(html)
    if not line.strip():
        return html
    indent = len(line) - len(line.lstrip(" "))
    html = re.sub(r"^((?:<span[^>]*>)?)( +)", r'\1<span class="in">\2</span>', html.rstrip("\n"))
    return f'<span class="line{" columns" * columns}"{f" style={chr(34)}--in:{indent}{chr(34)}" if indent else ""}>{html}</span>\n'
