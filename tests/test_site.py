"""The built site in a browser: the book's own pages and the page kit's."""

import contextlib
import functools
import gzip
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urlparse

import convert
import pytest
import rlbook_proofs
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from toy_book import ToyBook

ROOT = Path(__file__).resolve().parents[1]
SITE = Path(os.environ.get("RLBOOK_SITE", ROOT / "_build" / "html"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)

PAGES = {
    "landing": ("book", "book/intro.html"),
    "chapter": ("book", "chapters/bandits.html"),
    "notation": ("book", "book/notation.html"),
    "tables": ("book", "book/tables.html"),
    "kit": ("kit", "chapters/kit.html"),
}
WIDTHS = (320, 390, 768, 1400)
THEMES = ("light", "dark")
LIMITS = {"landing": 400_000, "chapter": 1_200_000}

each_page = pytest.mark.parametrize("address", PAGES, indirect=True)
each_width = pytest.mark.parametrize("width", WIDTHS)
each_theme = pytest.mark.parametrize("theme", THEMES)


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    """The page kit, built as the only chapter of a toy book."""
    toy = ToyBook(tmp_path_factory.mktemp("kit"))
    for name in ("one", "two"):
        (toy.root / f"book/chapters/{name}.md").unlink()
    shutil.copy(ROOT / "book/kit.md", toy.root / "book/chapters/kit.md")
    shutil.copy(ROOT / "book/references.bib", toy.root / "book/references.bib")
    toy.edit("_toc.yml", "chapters/one", "chapters/kit")
    toy.edit("_toc.yml", "  - file: chapters/two\n", "")
    done = toy.make_notebooks()
    assert done.returncode == 0, done.stderr
    done = toy.command("book/tools/render.py")
    assert done.returncode == 0, done.stdout + done.stderr
    return toy.root / "_build" / "html"


class Quiet(SimpleHTTPRequestHandler):
    """A file server that logs nothing."""

    def log_message(self, *args):
        """Say nothing."""


@contextlib.contextmanager
def serving(folder):
    """Serve a folder, as `http://127.0.0.1:port`."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def served(kit):
    """The page kit's site over HTTP."""
    with serving(kit) as address:
        yield address


@pytest.fixture(scope="session")
def book():
    """The book's own site over HTTP."""
    assert SITE.exists(), "build the site first: make book"
    with serving(SITE) as address:
        yield address


@pytest.fixture
def address(request, book, served):
    """The address of one of `PAGES`."""
    site, path = PAGES[request.param]
    return f"{book if site == 'book' else served}/{path}"


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    made = context.new_page()
    made.problems = []
    made.on("console", lambda m: m.type == "error" and made.problems.append(m.text))
    made.on("pageerror", lambda error: made.problems.append(str(error)))
    yield made
    assert made.problems == []
    context.close()


@pytest.fixture
def figure(page, served):
    """The figure with one slider, ready to move."""
    page.goto(f"{served}/chapters/kit.html")
    live = page.locator('.rl-live[data-name="kit-slider"]')
    live.locator("xpath=self::*[contains(@class, 'rl-ready')]").wait_for()
    live.scroll_into_view_if_needed()
    return live


def frame(live):
    return int(live.get_attribute("data-frame"))


def at_frame(live, number):
    expect(live).to_have_attribute("data-frame", str(number))


def settle(page):
    page.wait_for_timeout(400)


# ------------------------------------------------------------ numbers


def test_the_numbers_are_those_of_the_built_page():
    made = convert.read_book(ROOT)
    for name in made.chapters:
        page = SITE / "chapters" / f"{name}.html"
        assert page.exists(), "build the site first: make book"
        html = page.read_text(encoding="utf-8")
        # What is near an anchor is text: drawings and frames do not count.
        html = re.sub(r"<svg.*?</svg>", "", html, flags=re.S)
        html = re.sub(r"<script.*?</script>", "", html, flags=re.S)
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
                near = re.sub(r"<[^>]+>", "", html[where : where + 60000])
                assert shown in near, f"{name}: {shown} is not at #{anchor}"


# ------------------------------------------------------------ interactive figures


def test_the_keyboard_moves_a_slider(page, figure):
    slider = figure.locator("input[type=range]")
    slider.focus()
    start = frame(figure)
    picture = figure.locator(".rl-frame").screenshot()
    page.keyboard.press("ArrowRight")
    at_frame(figure, start + 1)
    assert figure.locator(".rl-frame").screenshot() != picture
    page.keyboard.press("ArrowLeft")
    at_frame(figure, start)
    assert figure.locator(".rl-frame").screenshot() == picture
    for key, expected in (("End", 11), ("Home", 0), ("PageUp", 1), ("PageDown", 0)):
        page.keyboard.press(key)
        at_frame(figure, expected)


def test_the_value_is_said_to_those_who_cannot_see_it(page, figure):
    slider = figure.locator("input[type=range]")
    assert slider.get_attribute("aria-valuetext") == "3"
    slider.focus()
    page.keyboard.press("End")
    settle(page)
    assert slider.get_attribute("aria-valuetext") == "12"
    assert figure.locator(".rl-value").inner_text() == "12"
    assert figure.locator(".rl-say").inner_text() == "At the edge the height is 0.7."
    assert figure.locator(".rl-say").get_attribute("aria-live") == "polite"
    assert figure.get_attribute("role") == "group"


def test_the_sentence_waits_until_the_slider_rests(page, figure):
    figure.locator("input[type=range]").focus()
    before = figure.locator(".rl-say").inner_text()
    page.evaluate(
        """() => {
          window.said = 0;
          const say = document.querySelector('[data-name=kit-slider] .rl-say');
          new MutationObserver(() => window.said++).observe(say, {childList: true});
        }"""
    )
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    settle(page)
    assert page.evaluate("window.said") == 1
    assert figure.locator(".rl-say").inner_text() != before


def test_dragging_with_the_mouse_moves_the_picture(page, figure):
    box = figure.locator("input[type=range]").bounding_box()
    y = box["y"] + box["height"] / 2
    before = figure.locator(".rl-frame").screenshot()
    page.mouse.move(box["x"] + box["width"] * 2 / 11, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.98, y, steps=20)
    page.mouse.up()
    at_frame(figure, 11)
    assert figure.locator(".rl-frame").screenshot() != before


def test_one_frame_is_painted_a_tick(page, figure):
    painted = page.evaluate(
        """() => new Promise(resolve => {
          const figure = document.querySelector('[data-name=kit-slider]');
          const field = figure.querySelector('input');
          const before = Number(figure.dataset.paints || 0);
          for (let k = 0; k < 12; k++) {
            field.value = k;
            field.dispatchEvent(new Event('input', {bubbles: true}));
          }
          const seen = () => resolve(
            [Number(figure.dataset.paints) - before, figure.dataset.frame]);
          requestAnimationFrame(() => requestAnimationFrame(seen));
        })"""
    )
    assert painted == [1, "11"]


def test_a_finger_moves_it(browser, served):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(f"{served}/chapters/kit.html")
    live = page.locator(".rl-live.rl-ready").first
    live.wait_for()
    slider = live.locator("input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box["height"] >= 44
    page.touchscreen.tap(box["x"] + box["width"] * 0.98, box["y"] + box["height"] / 2)
    at_frame(live, 11)
    context.close()


def test_a_list_and_a_box_choose_frames(page, served):
    page.goto(f"{served}/chapters/kit.html")
    live = page.locator('.rl-live.rl-ready[data-name="kit-list"]')
    live.wait_for()
    live.scroll_into_view_if_needed()
    live.locator("select").select_option(label="root")
    expect(live.locator(".rl-say")).to_have_text("The root ends at 1.")
    live.locator("input[type=checkbox]").focus()
    page.keyboard.press("Space")
    expect(live.locator(".rl-say")).to_have_text("The root ends at 2.")
    assert frame(live) == 5


def test_figures_move_on_their_own(page, served):
    page.goto(f"{served}/chapters/kit.html")
    page.locator('.rl-live.rl-ready[data-name="kit-list"]').wait_for()
    other = page.locator('.rl-live[data-name="kit-list"]')
    before = frame(other)
    page.locator('[data-name="kit-slider"] input').focus()
    page.keyboard.press("End")
    settle(page)
    assert frame(other) == before


def test_narrow_screens_get_the_narrow_frames(page, figure):
    wide, narrow = figure.locator(".rl-wide"), figure.locator(".rl-narrow")
    assert wide.is_visible() and not narrow.is_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    assert narrow.is_visible() and not wide.is_visible()


def test_it_follows_light_and_dark(page, figure):
    line = figure.locator(".rl-wide path[style*='--fig-1']").first
    color = "element => getComputedStyle(element).stroke"
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    light = line.evaluate(color)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert line.evaluate(color) != light


def test_without_javascript_the_default_frame_stands(browser, served):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served}/chapters/kit.html")
    live = page.locator('.rl-live[data-name="kit-slider"]')
    assert live.locator(".rl-wide svg").is_visible()
    assert not live.locator("input").is_visible()
    page.wait_for_timeout(1800)
    assert live.locator(".rl-offline").is_visible()
    assert "height is 11.1" in live.locator(".rl-say").inner_text()
    context.close()


def test_it_works_from_a_file(page, kit):
    page.goto((kit / "chapters/kit.html").as_uri())
    live = page.locator('.rl-live.rl-ready[data-name="kit-slider"]')
    live.wait_for()
    live.locator("input").focus()
    page.keyboard.press("End")
    at_frame(live, 11)


# ------------------------------------------------------------ boxes


def test_a_quiz_hides_its_answers_and_works_by_keyboard(page, served):
    page.goto(f"{served}/chapters/kit.html")
    quiz = page.locator(".rl-quiz")
    assert "4 \\cdot 5" not in quiz.inner_text() and "Yes." not in quiz.inner_text()
    choices = quiz.locator("summary")
    assert choices.count() == 3
    choices.nth(1).focus()
    page.keyboard.press("Enter")
    assert quiz.locator(".rl-reason").nth(1).is_visible()
    assert "Yes." in quiz.inner_text() and "Not quite." not in quiz.inner_text()
    choices.nth(0).focus()
    page.keyboard.press("Space")
    assert "Not quite. That is" in quiz.inner_text().replace("\n", " ")


def test_the_strip_folds(page, served):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{served}/chapters/kit.html")
    strip = page.locator(".rl-strip")
    before = strip.locator("dl").is_visible()
    strip.locator("summary").click()
    assert strip.locator("dl").is_visible() is not before


def test_claims_values_and_solutions_are_on_the_page(page, served):
    page.goto(f"{served}/chapters/kit.html")
    assert page.locator("#claim-fast-is-twice").inner_text() == (
        "Checked The fast line rises 2.0 times as fast as the slow one "
        "(claimed: at least 1.9)."
    )
    assert page.locator(".rl-val").first.inner_text() == "2"
    assert "triangle: not attempted yet" in page.inner_text("main")
    assert "Pitfall: The last term is left out" in page.inner_text(".rl-pitfall")


def test_every_figure_has_a_name_for_those_who_cannot_see_it(page, served):
    page.goto(f"{served}/chapters/kit.html")
    for box in page.locator(".rl-figure, .rl-live").all():
        assert len(box.get_attribute("aria-label")) >= 20
    assert page.locator(".rl-figure svg:not([aria-hidden=true])").count() == 0
    ids = page.eval_on_selector_all("[id]", "nodes => nodes.map(n => n.id)")
    assert len(ids) == len(set(ids))


# ------------------------------------------------------------ every page


def visit(page, address, width=1400, theme="light"):
    """Open a page at a width, in a theme, and wait until it is quiet."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    page.goto(address)
    page.wait_for_load_state("networkidle")


def axe_finds(page, **options):
    """List axe's violations; the page has logged no error until then."""
    page.wait_for_timeout(300)
    assert page.problems == []
    # Preloading would ask for imported style sheets in a wrong place.
    options |= {"resultTypes": ["violations"], "preload": False}
    found = Axe().run(page, options=options).response["violations"]
    return [
        (v["id"], v["impact"], [node["target"] for node in v["nodes"]][:3])
        for v in found
        if v["impact"] in ("critical", "serious", "moderate")
    ]


def scrolls_sideways(page, width):
    """Tell whether the page is wider than its window, once that has a width."""
    page.set_viewport_size({"width": width, "height": 900})
    return page.evaluate("document.documentElement.scrollWidth") > width


def watch(page, address):
    """Log what the page asks of others and what it asks in vain."""
    here = urlparse(address).netloc
    page.on(
        "request",
        lambda r: urlparse(r.url).netloc in ("", here) or page.problems.append(r.url),
    )
    page.on("response", lambda r: r.status >= 400 and page.problems.append(r.url))


@each_page
@each_theme
@each_width
def test_a_page_asks_no_other_host_logs_no_error_and_can_be_read_by_all(
    page, address, theme, width
):
    watch(page, address)
    visit(page, address, width, theme)
    assert not scrolls_sideways(page, width)
    assert axe_finds(page) == []


# The reference and its index: axe takes minutes there. Of the reference a part is read.
LONG = ("book/api.html", "genindex.html")
# All colors stand on the pages above; to look for them takes half of axe's time.
COLORS_ARE_KNOWN = {"color-contrast": {"enabled": False}}


@pytest.mark.parametrize("part", range(6))
def test_so_can_every_other_page(page, book, part):
    names = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    # The index leads on to the cover at once.
    names = [n for n in names if not n.startswith("_static/") and n != "index.html"]
    assert len(names) > 25
    watch(page, book)
    for name in names[part::6]:
        visit(page, f"{book}/{name}", 320)
        wide = [w for w in (320, 768, 1400, 390) if scrolls_sideways(page, w)]
        if name in LONG:
            page.evaluate(
                "document.querySelectorAll('section section section:nth-of-type(n+3),"
                " .indextable:not(:first-of-type)').forEach(e => e.remove())"
            )
        found = axe_finds(page, rules=COLORS_ARE_KNOWN)
        assert (name, wide, found) == (name, [], [])


@each_page
def test_it_works_from_the_file_system(page, address, kit):
    path = urlparse(address).path
    root = kit if "kit" in path else SITE
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    visit(page, (root / path[1:]).as_uri())
    assert page.locator("h1").first.is_visible()
    assert [u for u in asked if not u.startswith(("file:", "data:", "blob:"))] == []


@each_page
@each_width
def test_the_layout_does_not_shift(page, address, width):
    page.add_init_script(
        """window.shift = 0;
        new PerformanceObserver(list => {
          for (const entry of list.getEntries())
            if (!entry.hadRecentInput) window.shift += entry.value;
        }).observe({type: 'layout-shift', buffered: true});"""
    )
    visit(page, address, width)
    page.wait_for_timeout(800)
    assert page.evaluate("window.shift") < 0.05


@each_page
def test_images_and_figures_say_what_they_show(page, address):
    visit(page, address)
    for image in page.locator("img").all():
        assert (image.get_attribute("alt") or "").strip(), image.get_attribute("src")
    for svg in page.locator("main svg:visible").all():
        named = svg.evaluate(
            "e => e.getAttribute('aria-label') || e.closest('[aria-hidden=true], "
            "button, a, [role=img][aria-label], [role=group][aria-label]') !== null"
        )
        assert named, svg.evaluate("e => e.outerHTML.slice(0, 200)")


def test_reduced_motion_is_respected(page, book):
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{book}/book/intro.html")
    slider = page.locator(".rl-world input[type=range]")
    slider.scroll_into_view_if_needed()
    page.get_by_role("button", name="Play").click()
    assert slider.input_value() == slider.get_attribute("max")
    page.goto(f"{book}/chapters/bandits.html")
    moving = page.evaluate(
        """() => Array.from(
          document.querySelectorAll("*:not(.rl-offline)")).filter(e => {
          const style = getComputedStyle(e);
          return style.animationName !== 'none'
            || style.transitionDuration.split(', ').some(t => parseFloat(t) > 0);
        }).length"""
    )
    assert moving == 0


@pytest.mark.parametrize("name", LIMITS)
def test_a_page_is_light(page, book, name):
    sizes = {}

    def count(response):
        body = response.body()
        packed = response.url.endswith((".woff2", ".woff", ".png"))
        sizes[response.url] = len(body if packed else gzip.compress(body))

    page.on("requestfinished", lambda request: count(request.response()))
    visit(page, f"{book}/{PAGES[name][1]}")
    total = sum(sizes.values())
    heaviest = sorted(sizes.items(), key=lambda item: -item[1])[:4]
    assert total <= LIMITS[name], f"{total:,} bytes: {heaviest}"


def test_formulas_are_the_only_reason_to_load_mathjax(page, book):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    visit(page, f"{book}/book/claims.html")
    assert not any("mathjax" in url for url in asked)
    visit(page, f"{book}/chapters/bandits.html")
    assert any("mathjax" in url for url in asked)
    assert not any("fontawesome" in url for url in asked)


QUESTIONS = {
    "Thompson sampling": "chapters/bandits",
    "UCB": "chapters/bandits",
    "regret": "chapters/bandits",
    "lai_robbins_constant": "book/api",
    "Markov property": "chapters/mdp",
    "occupancy": "chapters/mdp",
    "TabularMDP": "book/api",
    "Bellman optimality": "chapters/bellman",
    "value iteration": "chapters/bellman",
    "policy iteration": "chapters/bellman",
    "prioritized_value_iteration": "book/api",
    "contraction": "chapters/bellman",
    "Q-learning": "chapters/td",
    "Sarsa": "chapters/td",
    "maximization bias": "chapters/td",
    "double Q-learning": "chapters/td",
    "n_step_td": "book/api",
    "REINFORCE": "chapters/policy_gradient",
    "baseline": "chapters/policy_gradient",
    "log-derivative": "chapters/refresher",
    "exact_gradient": "book/api",
    "generalized advantage estimation": "chapters/actor_critic",
    "generalized_advantage_estimation": "book/api",
    "truncated": "chapters/actor_critic",
    "trust region": "chapters/ppo",
    "clip range": "chapters/ppo",
    "conjugate gradient": "chapters/ppo",
    "soft value iteration": "chapters/maxent",
    "temperature": "chapters/maxent",
    "exponential tilt": "chapters/maxent",
    "KV cache": "chapters/lm_policy",
    "label shift": "chapters/lm_policy",
    "reward model": "chapters/rlhf",
    "Bradley-Terry": "chapters/rlhf",
    "best-of-n": "chapters/rlhf",
    "reward hacking": "chapters/rlhf",
    "DPO": "chapters/dpo",
    "KTO": "chapters/dpo",
    "GRPO": "chapters/grpo",
    "leave-one-out": "chapters/grpo",
    "pass@k": "chapters/grpo",
    "interquartile mean": "chapters/statistics",
    "bootstrap": "chapters/statistics",
    "epsilon": "book/notation",
    "Colab": "book/how-to-read",
    "assignments": "book/teaching",
    "learning_rate": "book/tables",
}


@pytest.mark.parametrize("question, found", QUESTIONS.items())
def test_the_search_finds_what_a_reader_asks_for(page, book, question, found):
    """The page must be among the first ten results."""
    page.goto(f"{book}/search.html?q={quote(question)}")
    page.locator(".search-summary").filter(
        has_text=re.compile(r"\d|not match")
    ).wait_for()
    links = [
        a.get_attribute("href") for a in page.locator("#search-results li > a").all()
    ]
    assert any(link.startswith(f"{found}.html") for link in links[:10]), links[:10]


def test_the_search_is_asked_enough():
    assert len(QUESTIONS) >= 40


@pytest.mark.parametrize("name", convert.chapter_names(ROOT))
def test_words_of_the_glossary_are_linked_once_where_they_first_stand(page, book, name):
    visit(page, f"{book}/chapters/{name}.html")
    # Some stand in a folded solution, where inner_text would be empty.
    words = [a.text_content().lower() for a in page.locator("a.rl-term").all()]
    assert len(words) > 3 and len(words) == len(set(words))
    assert all(
        "glossary.html#term-" in a
        for a in page.locator("a.rl-term").evaluate_all(
            "found => found.map(one => one.getAttribute('href'))"
        )
    )
    links = page.locator(".bd-article p a[href*='glossary.html#term-']")
    linked = {a.text_content().lower() for a in links.all()}
    prose = page.locator(".bd-article section > p").evaluate_all(
        """found => found.map(one => {
            const copy = one.cloneNode(true);
            copy.querySelectorAll("a:not(.rl-term)").forEach(a => a.remove());
            return copy.textContent;
        })"""
    )
    for word in ("policy", "episode"):
        if any(re.search(rf"(?<![\w-]){word}s?(?![\w-])", text) for text in prose):
            assert linked & {word, f"{word}s"} or any(word in one for one in linked), (
                word
            )


@pytest.mark.parametrize("kind", ["identity", "group"])
def test_the_small_proofs_compute_what_python_does(page, book, kind):
    """Move both sliders; the line's numbers are those of the extension's functions."""
    visit(page, f"{book}/book/intro.html")
    root = page.locator(f".rl-proof[data-proof={kind}]")
    first, second = root.locator("[type=range]").all()
    for a, b in (
        ((0.4, 0.85), (0.9, 0.2)) if kind == "identity" else ((0.1, 4), (0.5, 0))
    ):
        for slider, value in ((first, a), (second, b)):
            slider.evaluate(
                "(one, value) => { one.value = value;"
                " one.dispatchEvent(new Event('input')); }",
                str(value),
            )
        found = [
            float(x)
            for x in re.findall(r"\d\.\d+", root.locator(".rl-sentence").inner_text())
        ]
        if kind == "identity":
            *_, lacks, divergence = rlbook_proofs.both_sides(a, b)
            assert found == [round(lacks, 4), round(divergence, 4)]
        else:
            size = rlbook_proofs.GROUPS[b]
            most = math.sqrt(size) * (1 - 1 / size)
            made = rlbook_proofs.multiplier(a, size)
            assert found == [round(made, 2), round(most, 2)]
        assert root.locator(".rl-check-word").inner_text() == "Checked"


def test_a_chapter_offers_colab_download_and_a_report(page, book):
    visit(page, f"{book}/chapters/bandits.html")
    links = page.locator(".rl-links a")
    words = {a.inner_text(): a.get_attribute("href") for a in links.all()}
    repository = convert.read_book(ROOT).repository.removeprefix("https://github.com/")
    colab = words["Open in Colab"]
    assert colab.endswith(f"{repository}/blob/main/chapters/bandits.ipynb")
    assert words["Download the notebook"].endswith("bandits.ipynb")
    assert f"{repository}/issues/new" in words["Report an error on this page"]
    assert "CC BY 4.0" in page.inner_text("footer.bd-footer-content")
    assert page.locator("button.copybtn").count() > 5


def test_every_claim_is_listed_and_linked(page, book):
    visit(page, f"{book}/book/claims.html")
    made = convert.read_book(ROOT)
    import notebooks

    expected = []
    for name in made.chapters:
        notebook = notebooks.stored(ROOT / "chapters" / f"{name}.ipynb")
        expected += [r["id"] for r in convert.records(notebook, "claim")]
    listed = page.eval_on_selector_all(
        ".rl-claims a", "links => links.map(a => a.textContent)"
    )
    assert listed == expected and len(expected) > 10
    page.locator(".rl-claims a").first.click()
    page.wait_for_load_state()
    assert page.locator(f"#claim-{expected[0]}").is_visible()


# ------------------------------------------------------------ links and sources


class Links(HTMLParser):
    """Collects a page's links, sources and anchors."""

    def __init__(self):
        super().__init__()
        self.links, self.anchors, self.sources = [], set(), []

    def handle_starttag(self, tag, attrs):
        """Note what a tag points to."""
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        source = given.get("src") or (given.get("href") if tag == "link" else None)
        if source and given.get("rel") != "canonical":
            self.sources.append(source)


def read_pages(site):
    """Parse every page of a site."""
    pages = {}
    for path in site.rglob("*.html"):
        if "_static" in path.parts:
            continue
        parser = Links()
        parser.feed(path.read_text(encoding="utf-8"))
        pages[path.resolve()] = parser
    return pages


def broken_links(site):
    """List the internal links and anchors that lead nowhere."""
    pages, broken = read_pages(site), []
    for path, parser in pages.items():
        for link in parser.links + parser.sources:
            parts = urlparse(link)
            if parts.scheme or parts.netloc or link.startswith("#!"):
                continue
            file, anchor = urldefrag(link)
            target = path if not file else (path.parent / unquote(urlparse(file).path))
            target = target.resolve()
            if target.is_dir():
                target = target / "index.html"
            if not target.exists():
                broken.append(f"{path.name}: {link}")
            elif anchor and target in pages:
                known = pages[target].anchors
                broken += [f"{path.name}: {link}"] * (unquote(anchor) not in known)
    return broken


def outside_sources(site):
    """List what the pages load from another host."""
    return [
        f"{path.name}: {source}"
        for path, parser in read_pages(site).items()
        for source in parser.sources
        if urlparse(source).netloc
    ]


def test_no_internal_link_or_anchor_is_broken():
    assert broken_links(SITE) == []


def test_no_page_loads_anything_from_another_host():
    assert outside_sources(SITE) == []


@pytest.mark.parametrize("name", convert.chapter_names(ROOT))
def test_every_interactive_figure_of_a_chapter_moves(page, book, name):
    visit(page, f"{book}/chapters/{name}.html")
    figures = page.locator(".rl-live")
    for live in figures.all():
        expect(live).to_have_class(re.compile("rl-ready"))
        before = live.locator(".rl-wide").inner_html()
        live.locator("input, select").first.focus()
        drawn = []
        for key in ("End", "Home"):  # one of them may be where it stands
            page.keyboard.press(key)
            settle(page)
            drawn.append(live.locator(".rl-wide").inner_html())
        assert drawn != [before, before]


FAULTS = {
    "an external image": (
        "test_no_page_loads_anything_from_another_host",
        lambda site: append(site, '<img alt="x" src="https://host.test/x.png">'),
    ),
    "a broken anchor": (
        "test_no_internal_link_or_anchor_is_broken",
        lambda site: append(site, '<a href="bandits.html#nowhere">x</a>'),
    ),
    "a missing script": (
        "test_every_interactive_figure_of_a_chapter_moves[bandits]",
        lambda site: (site / "_static" / "live.js").unlink(),
    ),
}


def append(site, markup):
    page = site / "chapters" / "bandits.html"
    page.write_text(
        page.read_text(encoding="utf-8").replace("</main>", f"{markup}</main>")
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_site_turns_its_test_red(tmp_path, fault):
    name, spoil = FAULTS[fault]
    copy = tmp_path / "html"
    shutil.copytree(SITE, copy)
    command = [sys.executable, "-m", "pytest", "-q", f"tests/test_site.py::{name}"]

    def run():
        env = {**os.environ, "RLBOOK_SITE": str(copy)}
        env = {k: v for k, v in env.items() if not k.startswith("PYTEST")}
        return subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True
        ).returncode

    assert run() == 0
    spoil(copy)
    assert run() == 1


def test_the_sheets_hold_the_contrast_that_they_promise():
    tokens = (ROOT / "book/static/tokens.css").read_text(encoding="utf-8")
    blocks = re.findall(r"([^{}]+)\{([^{}]*)\}", tokens)
    themes = {}
    for selector, body in blocks:
        colors = dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", body))
        if "paper" in colors and "ink" in colors:
            themes.setdefault("dark" if "dark" in selector else "light", {}).update(
                colors
            )
    assert set(themes) == {"light", "dark"}
    for colors in themes.values():
        text = (
            "ink",
            "soft",
            "accent",
            "warn",
            "ok",
            "fig-1",
            "fig-2",
            "fig-3",
            "fig-4",
        )
        for name, least in [("edge", 3.0), *((name, 4.5) for name in text)]:
            for ground in ("paper", "tint"):
                assert contrast(colors[name], colors[ground]) >= least, (name, ground)
        assert contrast(colors["on-accent"], colors["accent"]) >= 4.5


def contrast(a, b):
    """Return the contrast of two colors by WCAG 2."""

    def luminance(color):
        parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        line = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        ]
        return 0.2126 * line[0] + 0.7152 * line[1] + 0.0722 * line[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)
