import base64
import json
import re
import time
import zlib

import pytest

from rlbook_utils.page import claims, interact, plotting

ALT = "A line that rises with the slope."


def draw(fig, slope=1.0, **others):
    ax = plotting.axes(fig, x="t", y="y", xlim=(0, 1), ylim=(0, 9))
    plotting.line(ax, [0, 1], [0, slope], series=1)
    return {"line": [0, slope]}


def make(**changes):
    call = {
        "draw": draw,
        "name": "slope",
        "alt": ALT,
        "prompt": "Make it steep.",
        "describe": lambda **values: f"Now {values}.",
        "slope": interact.slider([1.0, 2.0, 3.0], "Slope", default=2.0),
    }
    call |= changes
    return interact.interactive(call.pop("draw"), **call)


@pytest.fixture
def static(monkeypatch):
    monkeypatch.setenv("RLBOOK_STATIC", "1")
    claims.start("scratch")
    interact._drawing.clear()


def frames(page):
    packed = re.search(r'class="rl-frames">([^<]+)<', page)[1]
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_the_page_holds_every_frame_and_sentence(static):
    page = make().data["text/html"]
    packed = frames(page)
    assert [len(packed[key]) for key in ("wide", "narrow", "say")] == [3, 3, 3]
    assert len(set(packed["wide"])) == 3
    assert packed["say"][2] == "Now {'slope': 3.0}."
    assert 'viewBox="0 0 520 276"' in packed["wide"][0]
    assert 'viewBox="0 0 340 300"' in packed["narrow"][0]


def test_the_default_frame_stands_in_the_page(static):
    page = make().data["text/html"]
    assert frames(page)["wide"][1] in page
    assert "Now {&#x27;slope&#x27;: 2.0}." in page
    assert "Run this cell to move it." in page
    assert '<div class="rl-controls" hidden>' in page


def test_the_page_is_accessible(static):
    page = make().data["text/html"]
    assert f'role="group" aria-label="{ALT}"' in page
    assert 'aria-valuetext="2"' in page and 'aria-live="polite"' in page
    assert 'class="rl-frame" id="live-slope" aria-hidden="true"' in page


def test_two_controls_give_the_product_last_one_fastest(static):
    shown = interact.interactive(
        lambda fig, mode, on: draw(fig, 1 + on),
        name="two",
        alt=ALT,
        prompt="Try both.",
        describe=lambda mode, on: f"{mode} {on}",
        mode=interact.choice(["a", "b"], "Mode", default="b"),
        on=interact.switch("On"),
    )
    packed = frames(shown.data["text/html"])
    assert packed["say"] == ["a False", "a True", "b False", "b True"]
    assert packed["wide"][2] in shown.data["text/html"]


def test_the_digest_is_the_same_static_and_live(static, monkeypatch):
    still = make().data["text/plain"]
    monkeypatch.delenv("RLBOOK_STATIC")
    assert make().data["text/plain"] == still
    assert still == "slope: 1 curve x 2, mean 1.000, last 2.000"


def test_the_frames_are_the_same_each_time(static):
    assert make().data["text/html"] == make().data["text/html"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(alt=""), r"'slope' has the alt text ''"),
        (dict(name="Bad name"), r"figure name 'Bad name'"),
        (dict(prompt=" "), r"'slope' has no prompt"),
        (dict(slope=[1, 2]), r"slope=\[1, 2\] is no control"),
        (dict(a=interact.switch("A"), b=interact.switch("B")), r"has 3 controls"),
        (dict(draw=lambda fig, slope: None), r"at slope=2.0: draw returned None"),
        (dict(describe=lambda slope: ""), r"at slope=1.0: describe returned ''"),
        (
            dict(slope=interact.slider(list(range(1, 501)), "Slope", default=2)),
            r"has 500 frames: at most 121",
        ),
    ],
)
def test_bad_figures_are_refused_with_which_and_where(static, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_no_controls_are_refused(static):
    with pytest.raises(ValueError, match="has 0 controls: one or two"):
        interact.interactive(
            draw, name="none", alt=ALT, prompt="x", describe=lambda: "x"
        )


def test_a_draw_that_fails_on_one_value_is_named(static):
    def fails(fig, slope):
        return draw(fig, 1 / (slope - 3))

    with pytest.raises(RuntimeError, match=r"at slope=3.0: draw failed: ZeroDivision"):
        make(draw=fails)


def test_too_many_bytes_are_refused_with_the_count(static, monkeypatch):
    size = len(make().data["text/html"])
    monkeypatch.setattr(interact, "MOST_BYTES", size - 1)
    with pytest.raises(
        ValueError, match=rf"takes {size:,} bytes: at most {size - 1:,}"
    ):
        make()


def test_too_long_drawing_is_refused_with_the_seconds(static, monkeypatch):
    clock = iter([0.0, 16.0])
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    with pytest.raises(
        RuntimeError, match=r"'scratch' has drawn for 16 s: at most 15 s"
    ):
        make()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: interact.slider([], "S", default=1), "'S' has 0 values"),
        (lambda: interact.slider([1], "S", default=1), "'S' has 1 values"),
        (lambda: interact.slider([2, 1], "S", default=1), "do not increase"),
        (lambda: interact.slider([1, 2], "S", default=3), "default 3 is none of"),
        (lambda: interact.slider([1, 2], " ", default=1), "a slider needs a label"),
        (
            lambda: interact.slider([1.01, 1.02], "S", default=1.01, spec=".1f"),
            "read the",
        ),
        (lambda: interact.choice(["a"], "C", default="a"), "'C' has 1 values"),
        (lambda: interact.choice([1, 2], "C", default=1), "'C' has 1: names are"),
        (lambda: interact.choice(["a", "b"], "C", default="c"), "default 'c' is none"),
    ],
)
def test_bad_controls_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# ---------------------------------------------------------------- live widgets


def test_a_live_figure_follows_its_widgets(monkeypatch):
    import ipywidgets

    monkeypatch.delenv("RLBOOK_STATIC", raising=False)
    made = []
    monkeypatch.setattr(
        ipywidgets,
        "VBox",
        lambda children: made.append(children) or ipywidgets.Box(children),
    )
    shown = make()
    view = shown.data["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] and "text/html" not in shown.data
    assert "image/svg+xml" in shown.data and "image/png" in shown.data
    _, frame, field, sentence = made[0]
    before = frame.value
    field.value = 3.0
    assert frame.value != before and sentence.value == "Now {&#x27;slope&#x27;: 3.0}."
    field.value = 2.0
    assert frame.value == before


def test_each_kind_of_control_has_a_core_widget():
    made = [
        interact._widget(interact.slider([1, 2], "S", default=2)),
        interact._widget(interact.choice(["a", "b"], "C", default="b")),
        interact._widget(interact.switch("B", default=True)),
    ]
    assert [type(w).__name__ for w in made] == [
        "SelectionSlider",
        "Dropdown",
        "Checkbox",
    ]
    assert [w.value for w in made] == [2, "b", True]


LIVE = """
from rlbook_utils.page import interactive, plotting, slider

def draw(fig, slope):
    ax = plotting.axes(fig, x="t", y="y", xlim=(0, 1), ylim=(0, 9))
    plotting.line(ax, [0, 1], [0, slope], series=1)
    return {"line": [0, slope]}

interactive(draw, name="slope", alt="A line that rises with the slope.",
            prompt="Make it steep.", describe=lambda slope: f"{slope}",
            slope=slider([1.0, 2.0], "Slope", default=1.0))
"""


def test_in_a_real_kernel_the_widget_is_shown_and_moves(monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.delenv("RLBOOK_STATIC", raising=False)
    move = (
        "import ipywidgets\n"
        "boxes = [w for w in ipywidgets.Widget.widgets.values()\n"
        "         if isinstance(w, ipywidgets.SelectionSlider)]\n"
        "frames = [w for w in ipywidgets.Widget.widgets.values()\n"
        "          if isinstance(w, ipywidgets.HTML) and '<svg' in w.value]\n"
        "before = frames[0].value\n"
        "boxes[0].value = 2.0\n"
        "print(len(boxes), frames[0].value != before)"
    )
    cells = [nbformat.v4.new_code_cell(source) for source in (LIVE, move)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60).execute()
    data = notebook.cells[0].outputs[0].data
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == "slope: 1 curve x 2, mean 0.5000, last 1.000"
    assert notebook.cells[1].outputs[0].text == "1 True\n"
