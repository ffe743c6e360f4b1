"""The way from text to executed notebook, on a toy book in an empty folder."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from toy_book import ToyBook


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A toy book that has been executed once."""
    toy = ToyBook(tmp_path_factory.mktemp("toy"))
    done = toy.make_notebooks()
    assert done.returncode == 0, done.stdout + done.stderr
    assert toy.ran() == ["one", "two"]
    return toy


@pytest.fixture
def toy(made, tmp_path):
    """A copy of it that a test may spoil."""
    fresh = ToyBook.__new__(ToyBook)
    fresh.root = tmp_path / "book"
    shutil.copytree(made.root, fresh.root)
    return fresh


def test_an_unchanged_book_runs_nothing_and_writes_nothing(toy):
    before = toy.notebooks()
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == []
    assert toy.notebooks() == before


def test_executing_again_gives_the_same_bytes(toy):
    before = toy.notebooks()
    assert toy.make_notebooks(FORCE="1").returncode == 0
    assert toy.ran() == ["one", "two"]
    assert toy.notebooks() == before


def test_only_names_one_chapter(toy):
    assert toy.make_notebooks(ONLY="two", FORCE="1").returncode == 0
    assert toy.ran() == ["two"]


def test_a_changed_helper_runs_the_chapters_that_reach_it_and_no_other(toy):
    toy.edit("rlbook_utils/gamma.py", "a + b", "a + b + 1")
    before = toy.notebooks()
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == ["one"]
    assert toy.notebooks()["two.ipynb"] == before["two.ipynb"]
    assert "total 5" in toy.read("chapters/one.ipynb")


def test_changed_prose_runs_nothing(toy):
    toy.edit("book/chapters/one.md", "Some prose", "Better prose")
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == []
    assert "Better prose about 4" in toy.read("chapters/one.ipynb")


def test_changed_code_and_changed_tags_run_the_chapter(toy):
    toy.edit("book/chapters/two.md", 'print("half"', 'print("a half"')
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == ["two"]
    toy.edit(
        "book/chapters/two.md",
        "```{code-cell} ipython3\nfrom",
        "```{code-cell} ipython3\n:tags: [hide-input]\n\nfrom",
    )
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == ["two"]


def test_a_changed_pin_runs_everything(toy):
    toy.edit("requirements.txt", "numpy==", "numpy==9.")
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == ["one", "two"]


def test_what_a_run_took_is_on_record_until_the_code_changes(toy):
    """Another run of the same code leaves the record as it is."""
    first = json.loads(toy.read("book/runs.json"))
    assert sorted(first) == ["one", "two"]
    assert first["one"]["seconds"] >= 1 and first["one"]["device"] == "cpu"
    required = toy.read("requirements.txt")
    pins = re.findall(r"(?m)^(torch|numpy|matplotlib|ipywidgets)==(\S+)$", required)
    found = first["one"]["versions"]
    assert {name: found[name].split("+")[0] for name, _ in pins} == dict(pins)
    first["one"]["seconds"] = first["two"]["seconds"] = 77
    toy.write("book/runs.json", json.dumps(first))
    toy.edit("book/chapters/two.md", "half(3))", "half(4))")
    assert toy.make_notebooks(FORCE="1").returncode == 0
    second = json.loads(toy.read("book/runs.json"))
    assert second["one"] == first["one"]
    assert second["two"]["seconds"] != 77


def test_a_changed_address_runs_nothing_and_reaches_every_notebook(toy):
    done = toy.command(
        "book/tools/render.py", "--repository", "https://host.test/me/mine.git"
    )
    assert done.returncode == 0, done.stderr
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == []
    for name in ("one", "two"):
        source = toy.read(f"chapters/{name}.ipynb")
        assert "OWNER/rl" not in source and "OWNER.github" not in source
        assert '\\"https://host.test/me/mine\\", \\"0.1.0\\"' in source


def test_a_malformed_address_is_refused(toy):
    before = toy.read("_config.yml")
    done = toy.command("book/tools/render.py", "--repository", "mine")
    assert done.returncode == 1
    assert "URL is 'mine'" in done.stderr
    assert toy.read("_config.yml") == before


def test_a_failing_cell_is_named_and_the_notebook_stays(toy):
    before = toy.notebooks()
    toy.edit("book/chapters/two.md", "half(3))", "half(3) / 0)")
    done = toy.make_notebooks()
    assert done.returncode == 1
    assert re.search(
        r"chapter two, code cell 2 \(book/chapters/two\.md:\d+\) failed: "
        r"ZeroDivisionError",
        done.stderr,
    )
    assert toy.notebooks() == before


def test_a_false_claim_fails_the_command(toy):
    before = toy.notebooks()
    toy.edit("book/chapters/one.md", "0, 10, says", "0, 1, says")
    done = toy.make_notebooks()
    assert done.returncode == 1
    assert "claim one/total-is-small: 4.00000 is outside [0, 1]" in done.stderr
    assert toy.notebooks() == before


def test_a_figure_without_alt_text_fails_the_command(toy):
    toy.edit("book/chapters/one.md", 'alt="A line that rises from nought."', 'alt=""')
    done = toy.make_notebooks()
    assert done.returncode == 1
    assert "figure 'one' has the alt text ''" in done.stderr


def test_one_id_in_two_cells_fails_the_command(toy):
    claim = (
        'claims.check("total-is-small", total(3), 0, 10, says="The total is {value}.")'
    )
    toy.edit(
        "book/chapters/one.md",
        "fig = plotting.canvas()",
        f"{claim}\nfig = plotting.canvas()",
    )
    done = toy.make_notebooks()
    assert done.returncode == 1
    assert "claim or value 'total-is-small' stands in one-3 and one-4" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Prose.", "```{nonsense}\nx\n```", "two.md:20: unknown directive {nonsense}"),
        ("Prose.", "{nonsense}`x`", "two.md:20: unknown role {nonsense}"),
        ("Prose.", "{cite:t}`nobody`", "two.md:20: citation key 'nobody'"),
        ("Prose.", "{val}`nothing`", "two.md:20: {val}`nothing`: no cell calls"),
        ("nbval-ignore-output", "nbval-nonsense", "unknown tag 'nbval-nonsense'"),
        ("  name: python3", "  name: [python3", "two.md:6: broken front matter"),
    ],
)
def test_a_broken_text_is_refused_before_anything_is_written(toy, old, new, message):
    before = toy.notebooks()
    toy.edit("book/chapters/two.md", old, new)
    done = toy.make_notebooks()
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert toy.notebooks() == before
    assert toy.ran() == []


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (dict(ONLY="three"), "unknown chapter 'three': known are one, two"),
        (dict(DEVICE="tpu"), "unknown device 'tpu': choose cpu, cuda, mps"),
    ],
)
def test_bad_arguments_are_one_line(toy, env, message):
    done = toy.make_notebooks(**env)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {message}"
    assert toy.ran() == []


def test_a_missing_gpu_is_one_line(toy):
    done = toy.make_notebooks(DEVICE="cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert len(done.stderr.strip().split("\n")) == 1
    assert "cuda" in done.stderr and "GPU" in done.stderr
    assert toy.ran() == []


def test_a_text_that_is_missing_is_named(toy):
    (toy.root / "book/chapters/two.md").unlink()
    done = toy.make_notebooks()
    assert done.returncode == 1
    assert "_toc.yml names 'two', which has no text" in done.stderr


def test_an_interrupted_run_keeps_what_was_finished_and_goes_on(toy):
    toy.edit(
        "book/chapters/two.md",
        "log.write",
        "import time; time.sleep(0.5 if Path('../go').exists() else 60)\n    log.write",
    )
    toy.edit("rlbook_utils/gamma.py", "a + b", "a + b + 1")
    before = toy.notebooks()
    process = subprocess.Popen(
        [sys.executable, "book/tools/notebooks.py"],
        cwd=toy.root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=toy.environment(),
    )
    deadline = time.monotonic() + 60
    while toy.notebooks()["one.ipynb"] == before["one.ipynb"]:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    after = toy.notebooks()
    assert set(after) == set(before)
    assert after["two.ipynb"] == before["two.ipynb"]
    toy.ran()
    toy.write("go", "")
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == ["two"]


def test_no_environment_or_time_is_in_a_notebook(made):
    for name in ("one", "two"):
        notebook = json.loads(made.read(f"chapters/{name}.ipynb"))
        assert set(notebook["metadata"]) == {"kernelspec", "language_info", "rlbook"}
        assert notebook["metadata"]["language_info"] == {"name": "python"}
        assert str(made.root) not in json.dumps(notebook)
        for cell in notebook["cells"]:
            assert "execution" not in cell["metadata"]


ON_A_DEVICE = """
import sys
sys.path.insert(0, "book/tools")
import notebooks
notebooks.check_device = lambda name: None
sys.exit(notebooks.main(["--device", "cuda"]))
"""


def test_a_run_on_a_gpu_leaves_the_chapters_and_compares_the_claims(toy):
    before = toy.notebooks()
    done = toy.command("-c", ON_A_DEVICE)
    assert done.returncode == 0, done.stderr
    assert toy.notebooks() == before
    written = {path.name for path in (toy.root / "_build/notebooks-cuda").iterdir()}
    assert written == {"one.ipynb", "two.ipynb"}
    line = "one/total-is-small: 4.00, committed 4.00, range 0 to 10"
    assert line in done.stdout


STUDY = """from rlbook_utils import beta, page


def grow():
    return {"n": [1, 2], "half": [beta.half(1), beta.half(2)]}


stored = page.study("growth", grow, seeds=[0], modules=[beta])
print("half", stored["half"][1])
"""


def test_a_full_run_stores_the_study_and_a_plain_run_draws_it(toy):
    toy.edit("book/chapters/two.md", 'print("half", half(3))\n', STUDY)
    done = toy.make_notebooks(ONLY="two")
    assert done.returncode == 1 and "run `make notebooks FULL=1`" in done.stderr
    assert toy.make_notebooks(ONLY="two", FULL="1").returncode == 0
    stored = toy.read("rlbook_utils/data/two_growth.csv")
    assert "# seeds: 0" in stored and stored.endswith("n,half\n1,0.5\n2,1\n")
    toy.ran()
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == []
    toy.edit("rlbook_utils/data/two_growth.csv", "2,1", "2,7")
    assert toy.make_notebooks().returncode == 0
    assert toy.ran() == ["two"]
    assert "half 7.0" in toy.read("chapters/two.ipynb")


def test_figures_are_written_with_their_data(toy):
    done = toy.command("book/tools/figures.py", ONLY="one", THEME="dark")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = toy.root / "_build/figures/one"
    assert {path.suffix for path in folder.iterdir()} == {
        ".svg",
        ".pdf",
        ".png",
        ".csv",
    }
    assert (folder / "one.csv").read_text() == "y\n0\n4\n"
    svg = (folder / "one.svg").read_text()
    assert "#7b9bee" in svg and "#1b5fc1" not in svg and "var(" not in svg
    assert (folder / "one.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (dict(THEME="sepia"), "unknown theme 'sepia': choose light or dark"),
        (dict(ONLY="three"), "unknown chapter 'three': known are one, two"),
    ],
)
def test_figures_refuse_bad_arguments(toy, env, message):
    done = toy.command("book/tools/figures.py", **env)
    assert done.returncode == 1 and done.stderr.strip() == f"error: {message}"


# ------------------------------------------------- faults that a stage must see


def test_a_sound_copy_passes_nbval_and_the_contract(toy):
    done = toy.pytest("--nbval", "chapters")
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
    done = toy.pytest("tests/test_chapters.py")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("total 4\\n", "total 5\\n"),
        ("total-is-small: 4.00 in [0, 10]", "total-is-small: 11.0 in [0, 10]"),
        ("total-is-small: 4.00 in [0, 10]", "total-is-small: 4.00 in [0, 20]"),
        ("total = 4", "total = 5"),
        ("one: 1 curve x 2, mean 2.000", "one: 1 curve x 2, mean 2.100"),
    ],
)
def test_a_wrong_stored_number_fails_nbval(toy, old, new):
    toy.edit("chapters/one.ipynb", old, new)
    done = toy.pytest("--nbval", "chapters/one.ipynb")
    assert done.returncode == 1, done.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Some prose", "Hand-edited prose"),
        ('print(\\"total\\"', 'print(\\"sum\\"'),
        ('"execution_count": 2', '"execution_count": 7'),
        ('"execution_count": 2', '"execution_count": null'),
        ("nbval-ignore-output", "nbval-nonsense"),
        ('"code_sha": "', '"code_sha": "0'),
        (
            '"output_type": "stream"',
            '"output_type": "error", "ename": "E", "evalue": "", "traceback": []',
        ),
    ],
)
def test_a_spoiled_notebook_fails_the_contract(toy, old, new):
    toy.edit("chapters/one.ipynb", old, new)
    done = toy.pytest("tests/test_chapters.py")
    assert done.returncode == 1, done.stdout


def test_a_helper_changed_without_execution_fails_the_contract(toy):
    toy.edit("rlbook_utils/gamma.py", "a + b", "a + b + 0")
    done = toy.pytest("tests/test_chapters.py")
    assert done.returncode == 1
    assert "one is stale in ['helper_sha']: run `make notebooks`" in done.stdout


def test_a_chapter_that_lost_its_draft_mark_fails_the_contract(toy):
    toy.edit("book/chapters/two.md", "draft: true", "draft: false")
    assert toy.make_notebooks().returncode == 0
    done = toy.pytest("tests/test_chapters.py")
    assert done.returncode == 1
    assert "two lacks: the strip" in done.stdout
