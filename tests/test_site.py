"""The built site in a browser: the book's own pages and the page kit's."""

import functools
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import convert
import pytest
from playwright.sync_api import sync_playwright
from toy_book import ToyBook

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


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


@pytest.fixture(scope="session")
def served(kit):
    """The kit's site over HTTP, as `http://127.0.0.1:port`."""
    handler = functools.partial(Quiet, directory=str(kit))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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


def settle(page):
    page.wait_for_timeout(250)


# ------------------------------------------------------------ numbers


def test_the_numbers_are_those_of_the_built_page():
    made = convert.read_book(ROOT)
    for name in made.chapters:
        page = SITE / "chapters" / f"{name}.html"
        assert page.exists(), "build the site first: make book"
        html = page.read_text(encoding="utf-8")
        html = re.sub(r"<svg.*?</svg>", "", html, flags=re.S)
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
    settle(page)
    assert frame(figure) == start + 1
    assert figure.locator(".rl-frame").screenshot() != picture
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert frame(figure) == start
    assert figure.locator(".rl-frame").screenshot() == picture
    for key, expected in (("End", 11), ("Home", 0), ("PageUp", 1), ("PageDown", 0)):
        page.keyboard.press(key)
        settle(page)
        assert frame(figure) == expected, key


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
    settle(page)
    assert frame(figure) == 11
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
    settle(page)
    assert frame(live) == 11
    context.close()


def test_a_list_and_a_box_choose_frames(page, served):
    page.goto(f"{served}/chapters/kit.html")
    live = page.locator('.rl-live.rl-ready[data-name="kit-list"]')
    live.wait_for()
    live.scroll_into_view_if_needed()
    live.locator("select").select_option(label="root")
    settle(page)
    assert live.locator(".rl-say").inner_text() == "The root ends at 1."
    live.locator("input[type=checkbox]").focus()
    page.keyboard.press("Space")
    settle(page)
    assert live.locator(".rl-say").inner_text() == "The root ends at 2."
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
    assert live.locator(".rl-offline").is_visible()
    assert "height is 11.1" in live.locator(".rl-say").inner_text()
    context.close()


def test_it_works_from_a_file(page, kit):
    page.goto((kit / "chapters/kit.html").as_uri())
    live = page.locator('.rl-live.rl-ready[data-name="kit-slider"]')
    live.wait_for()
    live.locator("input").focus()
    page.keyboard.press("End")
    settle(page)
    assert frame(live) == 11


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
    page.goto(f"{served}/chapters/kit.html")
    strip = page.locator(".rl-strip")
    assert strip.locator("dl").is_visible()
    strip.locator("summary").click()
    assert not strip.locator("dl").is_visible()


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
