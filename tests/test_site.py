"""The built site, `_build/html`."""

import re
from pathlib import Path

import convert

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"


def test_the_numbers_are_those_of_the_built_page():
    made = convert.read_book(ROOT)
    for name in made.chapters:
        page = SITE / "chapters" / f"{name}.html"
        assert page.exists(), "build the site first: make book"
        html = page.read_text(encoding="utf-8")
        plain = re.sub(r"<[^>]+>", "", html)
        for item in convert.numbered(made.texts[name], made.chapters.index(name) + 1):
            if item.kind == "equation":
                anchor, shown = f"equation-{item.label}", f"({item.number})"
            elif item.kind == "section":
                anchor, shown = item.label, item.number
            else:
                names = {"figure": "Figure", "exercise": "Exercise"}
                word = names.get(item.kind, item.kind.capitalize())
                anchor, shown = item.label or "", f"{word} {item.number}"
            assert shown in plain, f"{name}: {shown} is not on the page"
            if anchor:
                where = html.index(f'id="{anchor}"')
                near = re.sub(r"<[^>]+>", "", html[where : where + 30000])
                assert shown in near
