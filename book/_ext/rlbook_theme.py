"""The theme's side of the extension: options, scripts, icons, links, licenses."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

STYLES = ("tokens.css", "theme.css", "components.css")
PRELOADED = ("serif", "display", "sans", "serif-italic")
LICENSES = (
    'Text: <a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>. '
    'Code: <a href="{repository}/blob/{branch}/LICENSE">MIT</a>.'
)


def set_theme(app: Sphinx, config: Any) -> None:
    """Add to the theme's options; those that Jupyter Book computed stay."""
    del app
    config.html_theme_options.update(
        navbar_persistent=[],
        back_to_top_button=False,
        use_fullscreen_button=False,
        toc_title="On this page",
        search_bar_text="Search this book",
        logo={"text": config.html_title},
        primary_sidebar_end=[],
        footer_content_items="author.html, copyright.html, extra-footer.html",
        pygments_light_style="default",
        pygments_dark_style="default",
    )
    # The contextual menu would fetch parts of MathJax that are not shipped.
    math = dict(config.mathjax3_config or {})
    math["options"] = {**math.get("options", {}), "enableMenu": False}
    config.mathjax3_config = math
    config.numfig_format = {
        **config.numfig_format,
        "figure": "Figure %s",
        "table": "Table %s",
    }
    config.nb_code_prompt_show = "Show the code"
    config.nb_code_prompt_hide = "Hide the code"
    config.html_context.setdefault("default_mode", "auto")
    config.mathjax_path = "mathjax/tex-mml-chtml.js"
    config.ogp_site_url = config.html_baseurl
    config.ogp_image = "_static/card.png"
    config.html_favicon = "book/static/favicon.svg"
    if "book/static" not in config.html_static_path:
        config.html_static_path.append("book/static")


def add_files(app: Sphinx) -> None:
    """Put our styles and scripts on every page, after the theme's."""
    for name in STYLES:
        app.add_css_file(name, priority=900)
    app.add_js_file("rlbook.js", priority=900)
    app.add_js_file("live.js", priority=900)


# A page needs none of these: the search page loads its own.
UNUSED = re.compile(r"thebe|design-tabs|(searchtools|language_data|searchindex)\.js")


def trim_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Drop scripts that come twice or unused, and MathJax where nothing needs it."""
    del templatename
    formulas = doctree is not None and next(
        (n for n in doctree.findall() if isinstance(n, (nodes.math, nodes.math_block))),
        None,
    )
    seen: set[str] = set()
    kept = []
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body") or ""
        name = str(getattr(script, "filename", script) or "")
        is_math = "mathjax" in name.lower() or "window.MathJax" in body
        if body in seen or (is_math and not formulas):
            continue
        if pagename != "search" and UNUSED.search(name or body[:200]):
            continue
        if body:
            seen.add(body)
        kept.append(script)
    context["script_files"] = kept
    # The style sheet of an extension comes only with something that it styles.
    unused = ["sphinx-thebe"] + (
        [] if " sd-" in context.get("body", "") else ["sphinx-design"]
    )
    context["css_files"] = [
        sheet
        for sheet in context.get("css_files", [])
        if not any(name in str(getattr(sheet, "filename", sheet)) for name in unused)
    ]
    pathto = context["pathto"]
    fonts = [pathto(f"_static/fonts/{name}.woff2", 1) for name in PRELOADED]
    # From file:// a preload counts as a request to another origin and logs an error.
    context["metatags"] = context.get("metatags", "") + (
        "<script>if(location.protocol!='file:')"
        f"{fonts!r}.forEach(function(u){{var l=document.createElement('link');"
        "l.rel='preload';l.as='font';l.type='font/woff2';l.crossOrigin='';l.href=u;"
        "document.head.appendChild(l)})</script>\n"
    )
    del app


def page_links(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Flatten a menu of one button; end a chapter with its three links."""
    del templatename, doctree
    options = app.config.html_theme_options
    repository = options.get("repository_url", "").rstrip("/")
    branch = options.get("repository_branch", "main")
    context["theme_extra_footer"] = LICENSES.format(
        repository=repository, branch=branch
    )
    links = []
    buttons = context.get("header_buttons", [])
    for place, button in enumerate(buttons):
        inner = button.get("buttons", [])
        if button.get("label") == "launch-buttons" and len(inner) == 1:
            links.append(("Open in Colab", inner[0]["url"]))
            # The image of a service is a request more; the word is in the tooltip.
            buttons[place] = {
                **inner[0],
                "text": "",
                "tooltip": "Open in Colab",
                "icon": button["icon"],
            }
        links += [
            ("Download the notebook", one["url"])
            for one in inner
            if str(one.get("label")).startswith("download-")
            and one.get("text") == ".ipynb"
        ]
    if not pagename.startswith("chapters/"):
        return
    if repository:
        title = quote(f"Error in {pagename}")
        links.append(
            ("Report an error on this page", f"{repository}/issues/new?title={title}")
        )
    items = "".join(
        f'<li><a href="{html.escape(url)}">{word}</a></li>' for word, url in links
    )
    context["body"] += f'\n<ul class="rl-links">{items}</ul>\n'


ICONS = {
    "bars": "M2 4h12M2 8h12M2 12h12",
    "list": "M6 4h8M6 8h8M6 12h8M2 4h.5M2 8h.5M2 12h.5",
    "magnifying-glass": "M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9M10.4 10.4 14 14",
    "download": "M8 2v8M4.5 7 8 10.5 11.5 7M2.5 11v3h11v-3",
    "rocket": "M6.5 3H3v10h10V9.5M9 3h4v4M13 3 7 9",
    "github": "M4.5 2.5v8M4.5 10.5a1.5 1.5 0 1 0 .01 0M4.5 5.5c0 3 7 1.5 7 4"
    "M11.5 2.5a1.5 1.5 0 1 0 .01 0",
    "circle-half-stroke": "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11M8 2.5v11"
    "M9.5 3.5v9M11 4.5v7M12.5 6v4",
    "sun": "M8 5.2a2.8 2.8 0 1 0 .01 0M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15"
    "M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
    "moon": "M13 9.8A5.6 5.6 0 1 1 6.2 3a4.5 4.5 0 0 0 6.8 6.8Z",
    "code": "M5.5 4 1.5 8l4 4M10.5 4l4 4-4 4",
    "file": "M4 2h5.5L12.5 5v9H4ZM9.5 2v3h3",
    "file-pdf": "M4.5 6V2h7v4M4.5 11.5h-3V6h13v5.5h-3M4.5 9.5h7V14h-7Z",
    "chevron-down": "M4 6l4 4 4-4",
    "chevron-right": "M6 4l4 4-4 4",
    "outdent": "M2 4h12M2 8h8M2 12h12",
    "pencil": "M3 13l1-4 7-7 3 3-7 7Z",
    "lightbulb": "M8 2.5v7M8 13v.5",
}
ICON = re.compile(r'<(i|span) class="([^"]*\bfa-[^"]*)"([^>]*)>\s*</\1>')
SIZES = {
    "fa-solid",
    "fa-regular",
    "fa-brands",
    "fa-lg",
    "fa-fw",
    "fas",
    "fab",
    "far",
    "fa",
}


def icon(found: re.Match[str]) -> str:
    """Return the SVG for a Font Awesome element; its other classes stay."""
    words = found[2].split()
    name = next((w[3:] for w in words if w.startswith("fa-") and w not in SIZES), "")
    if name in ("angle-left", "angle-right"):
        return ""
    if name not in ICONS:
        raise ExtensionError(f"no icon is drawn for {found[0]}: add it to ICONS")
    kept = " ".join(["rl-icon", *(w for w in words if not w.startswith("fa"))])
    data = re.sub(r'\s+title="[^"]*"', "", found[3])
    return (
        f'<svg class="{kept}"{data} viewBox="0 0 16 16" aria-hidden="true">'
        f'<path d="{ICONS[name]}"/></svg>'
    )


# (what the theme writes, what the page needs instead, why)
PATCHES = (
    # the icon script: 1.5 MB
    (r"<!-- So that users [^>]*-->\s*<script[^>]*fontawesome[^>]*></script>", ""),
    # the search index belongs to the search page: it grows with the book
    (
        r'<script src="[^"]*(searchtools|language_data|searchindex)\.js[^>]*></script>',
        "",
    ),
    # an accessible name must contain the visible label
    (
        r'(<button class="btn search-button-field[^>]*?) title="\w+" aria-label="\w+"',
        r"\1",
    ),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    # a folded solution is not just code
    (
        r'(<div class="cell [^"]*tag_solution\b[^>]*>\s*<details.*?Show) the code'
        r"(.*?Hide) the code",
        r"\1 the solution\2 the solution",
    ),
    # a click on the link in a solution's title would jump instead of opening it
    (r'(<p class="admonition-title">Solution to)<a [^>]*>(.*?)</a>', r"\1\2"),
    # a list may hold only list items, and the entry's role is deprecated
    (r' role="list"(?= class="citation-list")| role="doc-biblioentry"', ""),
    # a heading of the third level shows no number
    (r'(<li class="toc-h3[^>]*><a[^>]*>)[\d.]+\s+', r"\1"),
    # nothing starts a kernel from the site
    (r'<script type="text/x-thebe-config">.*?</script>', ""),
    (r"<script>kernelName[^<]*</script>", ""),
    # the theme before the first paint: the theme's own script knows it only at the end
    (
        r"document\.documentElement\.dataset\.mode = .*?dataset\.theme = [^\n]*",
        "{ const data = document.documentElement.dataset; "
        'data.mode = localStorage.getItem("mode") || "auto"; '
        'data.theme = data.mode != "auto" ? data.mode : '
        'matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"; }',
    ),
    # everything outside <main> in a landmark
    (
        r'<div id="pst-primary-sidebar"',
        '<div id="pst-primary-sidebar" role="complementary" aria-label="The book"',
    ),
    # a second title and table of contents for print, which ours does not show
    (r'<div id="jb-print-docs-body" class="onlyprint">.*?(?=<div id="searchbox">)', ""),
)


def finish(page: str, name: str) -> str:
    """Correct one rendered page of the theme."""
    for pattern, new in PATCHES:
        if name == "search.html" and "searchtools" in pattern:
            continue
        page = re.sub(pattern, new, page, flags=re.S)
    return ICON.sub(icon, page)


def wrap_templates(app: Sphinx) -> None:
    """Pass every rendered page through `finish` before it is written."""
    if app.builder.format != "html":
        return
    templates = app.builder.templates
    render = templates.render
    templates.render = lambda name, context: finish(render(name, context), name)
