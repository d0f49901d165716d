"Formulas as MathML, which browsers render without scripts or network, in a font that is part of the site."

import importlib.util
import io
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

FONT = "STIXTwoMath-Regular.ttf"  # of the package ziamath; STIX Two Math, Copyright 2001-2020 The STIX Fonts Project Authors, SIL Open Font License 1.1
SIGNS = (range(0x20, 0x7F), range(0xA0, 0x180), range(0x2B0, 0x400), range(0x2010, 0x2070), range(0x210E, 0x210F), range(0x2190, 0x2300), range(0x27E8, 0x27EA),
         range(0x1D434, 0x1D468), range(0x1D6E2, 0x1D71C))  # letters, accents, Greek, arrows, operators, italics


def font_data() -> bytes | None:
    "Return a font (woff) with the characters of formulas and the font's licence note; None if the package ziamath is missing."
    found = importlib.util.find_spec("ziamath")
    if found is None:
        return None
    from fontTools import subset

    options = subset.Options(flavor="woff", layout_features=["*"], name_IDs=["*"], notdef_outline=True)
    font, chosen = subset.load_font(str(Path(found.origin).parent / "fonts" / FONT), options), subset.Subsetter(options)
    chosen.populate(unicodes=[sign for signs in SIGNS for sign in signs])
    chosen.subset(font)
    file = io.BytesIO()
    subset.save_font(font, file, options)
    return file.getvalue()


def write_font(app: Sphinx, error: Exception | None) -> None:
    "Copy the font of the formulas into the site."
    if error is None and app.builder.format == "html" and (data := font_data()) is not None:
        (Path(app.outdir) / "_static" / "math.woff").write_bytes(data)


def _inline(translator: nodes.NodeVisitor, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(translator: nodes.NodeVisitor, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula" tabindex="0">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.connect("build-finished", write_font)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
