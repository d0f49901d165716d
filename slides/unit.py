"Parts that the deck of a unit takes from its lesson and from the teacher's notes: title, goals, figures, tables, printed results, sentences, quiz, take-aways."

import base64
import functools
import io
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

from front import reader_minutes
from lessons import FIGURE, lesson_paths, read_cells

LARGEST_SCALE = 2.4  # of a stored figure; beyond it, pixels become visible
SAME_WORDS = 0.8  # share of the words that an edited sentence must keep
LONG_LINE = 78  # letters of printed text that fit on a line
OUTLINES = Path(__file__).parent / "units"
GLOSSARY_LINK = re.compile(r"\[([^\]]+)\]\([^()\s]*/teaching/glossary\.html#[^)]*\)")  # a deck has no glossary
TEACHER_NOTES = ROOT / "nbs" / "teaching" / "teacher_notes.md"
QUIZ = re.compile(r"\*\*Quiz(?: \d+)?\.\*\* (.+?)\s*<details><summary>Answer</summary>(.+?)</details>", re.DOTALL)


def plain(markdown: str) -> str:
    "Return text without links, on one line."
    return " ".join(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", markdown).split())


def list_items(markdown: str) -> list[str]:
    "Return the items of the first bulleted list."
    found = re.search(r"^- (?:.|\n)*?(?=\n\n|\Z)", markdown, re.MULTILINE)
    return [plain(item) for item in re.split(r"^- ", found.group(0), flags=re.MULTILINE)[1:]]


def whole_paragraphs(markdown: str) -> list[str]:
    "Return the paragraphs that can be spoken: no headings, lists, tables, formulas or tasks, and no last sentence that announces code."
    found = [plain(part) for part in markdown.split("\n\n") if not part.startswith((">", "#", "$", "|", "```", "-", "1.", "**Task", "**Further"))]
    return [spoken for part in found if (spoken := re.sub(r"(?:^|(?<=[.!?] ))[^.!?]*:$", "", part).strip())]


@functools.cache
def discussion(number: int) -> dict[str, str]:
    "Return the teacher's notes on a unit: aim, timing, questions and common mistakes, by their bold words."
    notes = TEACHER_NOTES.read_text(encoding="utf-8")
    part = re.search(rf"^## Unit {number} · .+?\n((?:.|\n)*?)(?=^## |\Z)", notes, re.MULTILINE).group(1)
    return {name: plain(text) for name, text in re.findall(r"\*\*(.+?)\.\*\* ((?:.|\n)+?)(?=\n\n|\Z)", part)}


class Lesson:
    "A lesson as its deck uses it. Every method that returns a part of the lesson raises an error if the lesson has no such part."

    def __init__(self, path: Path):
        self.path, self.number = path, int(path.stem[:2])
        self.cells = [cell | {"source": GLOSSARY_LINK.sub(r"\1", cell["source"])} for cell in read_cells(path)]
        opening = self.cells[0]["source"]
        self.title, self.promise = (re.search(rf"^{sign} (.+)$", opening, re.MULTILINE).group(1) for sign in ("#", ">"))
        self.minutes, self.goals = reader_minutes(opening), list_items(opening)
        head, row = (re.search(rf"^\|(.*{word}.*)\|$", opening, re.MULTILINE).group(1).split("|") for word in ("Prerequisites", "minutes"))
        self.needs = plain(row[[name.strip() for name in head].index("Prerequisites")])
        self.prose = "\n\n".join(cell["source"] for cell in self.cells if cell["cell_type"] == "markdown")
        self.takeaways = list_items(self.prose.partition("## Take-aways")[2])
        self.used: list[int] = []  # positions of the cells that the current slide shows
        self.spoken: list[str] = []  # the paragraphs of its sentences, for the notes

    def section(self, heading: str) -> list[int]:
        "Return the positions of the code cells under the headings that have these words."
        found, inside = [], False
        for position, cell in enumerate(self.cells):
            headings = re.findall(r"^#+ (?:\d+\. )?(.+)$", cell["source"], re.MULTILINE) if cell["cell_type"] == "markdown" else []
            inside = heading in headings[-1] if headings else inside
            if inside and cell["cell_type"] == "code":
                found.append(position)
        if not found:
            raise ValueError(f"{self.path.name} has no section '{heading}' with code")
        return found

    def outputs(self, heading: str, kind: str, number: int) -> tuple[int, str]:
        "Return position and content of the section's output of a kind, counted from 1."
        found = [(position, "".join(output["text"] if kind == "stream" else output["data"][kind]))
                 for position in self.section(heading) for output in self.cells[position]["outputs"]
                 if (output["output_type"] == "stream" if kind == "stream" else kind in output.get("data", {}))]
        if len(found) < number:
            raise ValueError(f"{self.path.name}: section '{heading}' has {len(found)} outputs of kind {kind}, expected at least {number}")
        self.used.append(found[number - 1][0])
        return found[number - 1]

    def figure(self, heading: str, number: int = 1, height: int = 420, width: int = 1168, part: tuple[float, float, float, float] = (0, 0, 1, 1)) -> str:
        "Return the section's figure with a maximum height and width in pixels of the slide; `part` is the visible part: left, top, right, bottom as shares of its sides."
        from PIL import Image

        position, data = self.outputs(heading, "image/png", number)
        whole = Image.open(io.BytesIO(base64.b64decode(data)))
        shown = whole.crop([round(share * side) for share, side in zip(part, whole.size * 2)])
        file = io.BytesIO()
        shown.save(file, "PNG")
        words = FIGURE.search(self.cells[position]["source"]).group(1).replace('"', "&quot;")
        scale = min(height / shown.height, width / shown.width, LARGEST_SCALE)
        return (f'<img class="figure" style="width:{shown.width * scale:.0f}px" alt="{words}" '
                f'src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">')

    def table(self, heading: str, number: int = 1) -> str:
        "Return the section's table as its cell printed it, without row numbers and with the name of its rows in the header."
        html = re.sub(r"\n\s*", "", self.outputs(heading, "text/html", number)[1])
        head, body = (re.search(rf"<{part}>(.*?)</{part}>", html).group(1) for part in ("thead", "tbody"))
        lines = re.findall(r"<tr.*?</tr>", head)
        names = re.findall(r"<th[^>]*>(.*?)</th>", lines[-1])
        if len(lines) > 1 and not any(names[1:]):
            lines = [re.sub(r"<th[^>]*>.*?</th>", f"<th>{names[0]}</th>", line, count=1) for line in lines[:-1]]
        rows = re.findall(r"<tr.*?</tr>", body)
        if all(re.search(r"<th[^>]*>(.*?)</th>", row).group(1) == str(count) for count, row in enumerate(rows)):
            lines, rows = ([re.sub(r"<th[^>]*>.*?</th>", "", line, count=1) for line in part] for part in (lines, rows))
        return f'<table class="printed"><thead>{"".join(lines)}</thead><tbody>{"".join(rows)}</tbody></table>'

    def written_table(self, heading: str, rows: int = 99, columns: tuple[int, ...] | None = None) -> str:
        "Return the table in the section's text without links: its first rows, and the given columns."
        text = re.search(rf"^#+ (?:\d+\. )?{re.escape(heading)}(?:.|\n)*?^(\|(?:.|\n)*?\|)\n(?!\|)", self.prose + "\n", re.MULTILINE)
        if text is None:
            raise ValueError(f"{self.path.name} has no table under '{heading}'")
        self.spoken += whole_paragraphs(text.group(0))[:1]
        lines = [re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", line) for line in text.group(1).splitlines()[:rows + 2]]
        lines = [re.sub(r"(\d)-(?=\d)", "\\1\N{NON-BREAKING HYPHEN}", re.sub(r"(\d) (?=\(\d)", "\\1\N{NO-BREAK SPACE}", line)) for line in lines]  # ranges stay on one line
        if columns is not None:
            parts = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines]
            lines = [f"|{'|'.join(part[column] for column in columns)}|" for part in parts]
        return '<div class="written">\n\n' + "\n".join(lines) + "\n\n</div>"

    def printed(self, heading: str, number: int = 1, lines: int = 9) -> str:
        "Return the first lines of the section's printed text; a long line is broken at its semicolons."
        text = self.outputs(heading, "stream", number)[1].rstrip().splitlines()[:lines]
        text = [re.sub(r"; +", "\n", line) if len(line) > LONG_LINE else line for line in text]
        return '<pre class="printed">' + "\n".join(text).replace("&", "&amp;").replace("<", "&lt;") + "</pre>"

    def code(self, start: str, lines: int) -> str:
        "Return coloured lines of code from the one that begins with `start`; `keras.layers` is shortened to `layers`, `keras.ops` to `ops`."
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        for position, cell in enumerate(self.cells):
            source = cell["source"].splitlines() if cell["cell_type"] == "code" else []
            first = next((row for row, line in enumerate(source) if line.strip().startswith(start)), None)
            if first is not None:
                self.used.append(position)
                shown = source[first:first + lines]
                indent = min(len(line) - len(line.lstrip()) for line in shown if line.strip())
                text = re.sub(r"\bkeras\.(layers|ops)\b", r"\1", "\n".join(line[indent:] for line in shown))
                return f'<pre class="code">{highlight(text, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip()}</pre>'
        raise ValueError(f"{self.path.name} has no line of code that begins with '{start}'")

    def say(self, start: str, sentences: int = 1) -> str:
        "Return the lesson's sentences from the one that begins with `start`, or has nearly all of its words; they are in one paragraph or list item."
        found: list[tuple[float, list[str], str]] = []
        words = set(re.findall(r"\w+", start.lower()))
        for block in re.split(r"\n\n|^(?:-|\d+\.) ", self.prose, flags=re.MULTILINE):
            text = " ".join(block.split())
            at = text.find(start)
            said = re.findall(r".+?[.!?](?:\*\*)?(?:\s|$)", text[max(at, 0):])
            found += [(2.0, said, text)] if at >= 0 and said else []
            found += [(len(words & set(re.findall(r"\w+", sentence.lower()))) / len(words), said[number:], text) for number, sentence in enumerate(said)]
        score, said, text = max(found, key=lambda candidate: candidate[0])
        if score < SAME_WORDS:
            raise ValueError(f"{self.path.name} has no whole sentence that begins with '{start}'")
        self.spoken.append(plain(text))
        words_said = plain("".join(said[:sentences]))
        return words_said[0].upper() + words_said[1:]

    def quiz(self, number: int) -> str:
        "Return a question of the lesson, counted from 1, and its answer, which the deck shows after one more key press."
        found = QUIZ.findall(re.sub(r"^> ?", "", self.prose, flags=re.MULTILINE))
        if len(found) < number:
            raise ValueError(f"{self.path.name} has {len(found)} quiz questions, no number {number}")
        question, answer = (plain(re.sub(r"</?em>", "*", text)) for text in found[number - 1])
        self.spoken.append("Let students write down an answer before the next key press shows ours.")
        answer = re.sub(r"^(\d+)\.", r"\1\\.", answer)  # a number is no list
        return f'{question}\n\n<div class="fragment answer">\n\n{answer}\n\n</div>'

    def paragraph_about(self, position: int) -> str:
        "Return the lesson's text on a cell: the paragraph after it, or the last complete one before it."
        behind = self.cells[position + 1]["source"] if position + 1 < len(self.cells) and self.cells[position + 1]["cell_type"] == "markdown" else "#"
        before = next(cell["source"] for cell in self.cells[position - 1::-1] if cell["cell_type"] == "markdown")
        found = [] if behind.startswith(("#", "**Further")) else whole_paragraphs(behind)[:1]
        return next(iter(found or whole_paragraphs(before)[-1:]), "")

    def frame(self) -> tuple[str, str]:
        "Return the slides before and after those of the outline: title and goals; take-aways and discussion."
        notes = discussion(self.number)
        questions = "\n".join(f"- {question}" for question in re.split(r"(?<=[?)]) (?=[A-Z])", notes["Discuss"]))
        return (f"class: unit\n# {self.title}\n\n{self.promise}\n\n<p class=\"facts\"><b>Unit {self.number}</b> {self.minutes} minutes with exercises. "
                f"Before it: {self.needs}.</p>\n\nNote:\n{notes['Aim']} For 90 minutes in class: {notes['Timing']}\n\n---\n"
                f"# After this unit you can\n\n" + "\n".join(f"- {goal}" for goal in self.goals) + "\n\nNote:\nMention which of these your course will examine.\n\n---\n",
                "\n---\n# Take-aways\n\n" + "\n".join(f"- {item}" for item in self.takeaways) + "\n\nNote:\nThe exercises of the lesson follow, in the notebook.\n\n---\n"
                f"class: big\n# Discuss\n\n{questions}\n\nNote:\nCommon mistakes. {notes['Common mistakes']}\n")


@functools.cache
def unit_slides(name: str) -> list[tuple[str, str, str]]:
    "Return class, text and speaker's notes of each slide of a unit."
    from deck import split_slides
    from jinja2 import Environment, StrictUndefined

    lesson = Lesson(next(path for path in lesson_paths() if path.stem == name))
    outline = (OUTLINES / f"{name}.md").read_text(encoding="utf-8").strip()
    environment, slides = Environment(undefined=StrictUndefined), []
    first, last = lesson.frame()
    for kind, shown, note in split_slides(outline):
        lesson.used, lesson.spoken = [], []
        names = {method: getattr(lesson, method) for method in ("figure", "table", "written_table", "printed", "code", "say", "quiz")}
        try:
            text = environment.from_string(shown).render(names)
            spoken = lesson.spoken[:1]
            own = environment.from_string(note).render(names)
        except ValueError as error:
            raise ValueError(f"slides/units/{name}.md, slide '{shown.splitlines()[0]}': {error}; the lesson has changed, so change the outline") from error
        about = own or (spoken[0] if spoken else lesson.paragraph_about(lesson.used[0]))
        slides.append((kind, text, about))
    return [*split_slides(first), *slides, *split_slides(last)]
