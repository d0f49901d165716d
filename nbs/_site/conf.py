"Sphinx's settings for the site; build.py writes the pages that they apply to."

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from codelines import CodeLines
from lessons import ROOT, repository_url
from sphinx.highlighting import PygmentsBridge

PygmentsBridge.html_formatter = CodeLines

project = "facekp"
author = "The facekp authors"
copyright = "The facekp authors, Apache-2.0"
release = version = re.search(r'__version__ = "(.+?)"', (ROOT / "facekp" / "__init__.py").read_text()).group(1)
extensions = ["myst_nb", "mathml"]
exclude_patterns = ["extra", "static", "html", "jupyter_execute", ".doctrees"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
nb_render_markdown_format = "gfm"
myst_enable_extensions = ["dollarmath", "attrs_inline", "deflist"]
myst_dmath_double_inline = True
myst_heading_anchors = 3
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = "facekp"
html_favicon = str(HERE / "static" / "favicon.svg")
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_use_index = html_domain_indices = False  # search and the reference are better
html_show_search_summary = False  # a summary is fetched, which a browser refuses for pages opened as files
html_context = {"default_mode": "auto"}
html_theme_options = {
    "repository_url": repository_url(),
    "use_repository_button": True,
    "use_download_button": False,
    "logo": {"text": "facekp"},
    "navbar_persistent": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], "comparison": [], "try": []},
    "show_toc_level": 2,
    "toc_title": "On this page",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "extra_footer": "The synthetic faces may be used and shared freely.",
}
