"""The Colab contract: a notebook alone in a folder, with Colab's packages, runs.

Works on a copy of the repository that `make repo URL=...` has given the address of a
host that does not exist. Git, through variables of the environment, maps it to a
local clone, so that the committed first cell installs the helper unchanged.

Writes `.venv-colab/`, made once and again when its pins change, for each worker one,
and pytest's own temporary folders. A test leaves its environment without the helper.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import convert
import nbformat
import notebooks
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-colab"
HOST = "https://host.invalid/me/mine"
PLACEHOLDER = "https://host.invalid/OWNER/mine"
KERNEL = "colab"
NEVER_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "_build", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis"
)

COLAB = (
    "numpy==2.1.3",
    "matplotlib==3.10.0",
    "ipykernel==6.17.1",
    "ipython==7.34.0",
    "jupyter_client==7.4.9",
    "pyzmq==26.2.1",
    "tornado==6.5.1",
    "traitlets==5.7.1",
    "setuptools",
)
# Their dependencies bring the whole notebook server, which runs no kernel.
COLAB_ALONE = ("ipywidgets==7.7.1", "ipython_genutils==0.2.0")
TORCH = re.search(r"(?m)^torch==(\S+)$", (ROOT / "requirements.txt").read_text())[1]
STUB = '"""Stands for the package that is there on Colab only."""\n'

LIST = """
import importlib.metadata, json
print(json.dumps({d.name: d.version for d in importlib.metadata.distributions()}))
"""
ORIGIN = """
import importlib.metadata
print(importlib.metadata.distribution("rlbook_utils").read_text("direct_url.json"))
"""


# ---------------------------------------------------------------- the environment


class Colab(NamedTuple):
    """A Python with Colab's packages."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    def call(self, *parts: str, cwd: Path | None = None) -> str:
        return call(self.python, *parts, cwd=cwd or self.root)

    def packages(self) -> dict[str, str]:
        return json.loads(self.call("-c", LIST))

    def origin(self) -> dict[str, str]:
        return json.loads(self.call("-c", ORIGIN))["vcs_info"]

    def forget_the_helper(self) -> None:
        self.call("-m", "pip", "uninstall", "--quiet", "--yes", "rlbook_utils")
        assert "rlbook_utils" not in self.packages()


def surroundings() -> dict[str, str]:
    """Return the environment's variables without ours, Jupyter's and git's."""
    ours = ("RLBOOK_", "PYTHON", "PYTEST_", "JUPYTER_", "IPYTHON", "MPL", "GIT_CONFIG")
    make = ("ONLY", "FORCE", "FULL", "DEVICE", "THEME")
    return {
        k: v for k, v in os.environ.items() if not k.startswith(ours) and k not in make
    }


def call(*parts: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        list(map(str, parts)),
        cwd=cwd,
        env={**surroundings(), "PIP_ROOT_USER_ACTION": "ignore"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, f"{parts}:\n{done.stdout}{done.stderr}"
    return done.stdout


def interpreter(version: str) -> str | None:
    """Return a Python of that version that starts, or None."""
    if sys.version.startswith(f"{version}."):
        return sys.executable
    path = shutil.which(f"python{version}")
    started = path and subprocess.run([path, "-c", ""], capture_output=True)
    return path if started and started.returncode == 0 else None


def colab(use_torch: bool) -> Colab:
    """Return the environment for chapters with or without torch, one a worker."""
    newer = None if use_torch else interpreter("3.13")
    mine = FOLDER / os.environ.get("PYTEST_XDIST_WORKER", "alone")
    if newer:
        return made(mine / "without-torch", newer, False)
    return made(mine / "with-torch", interpreter("3.11") or sys.executable, True)


def made(folder: Path, base: str, use_torch: bool) -> Colab:
    """Make an environment, unless it stands with these pins and nothing else."""
    version = call(base, "--version", cwd=ROOT).strip()
    pins = [version, *COLAB, *COLAB_ALONE, TORCH, STUB, str(use_torch), str(folder)]
    wanted = hashlib.sha256("\n".join(pins).encode()).hexdigest()
    environment, stamp = Colab(folder), folder / "made.json"
    if not stands(environment, stamp, wanted):
        stamp.unlink(missing_ok=True)
        call(base, "-m", "venv", "--clear", str(folder), cwd=ROOT)
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        torch = [f"torch=={TORCH}"] if use_torch else []
        environment.call(*pip, *torch, *COLAB)
        environment.call(*pip, "--no-deps", *COLAB_ALONE)
        complete(environment, use_torch)
        record = {"pins": wanted, "packages": environment.packages()}
        stamp.write_text(json.dumps(record))
    return environment


def stands(environment: Colab, stamp: Path, wanted: str) -> bool:
    """Tell whether an environment was made from these pins and is as it was."""
    if not stamp.exists() or not environment.python.exists():
        return False
    record = json.loads(stamp.read_text())
    if record["pins"] != wanted:
        return False
    packages = environment.packages()
    packages.pop("rlbook_utils", None)
    return packages == record["packages"]


def complete(environment: Colab, use_torch: bool) -> None:
    """Add the stub of google.colab, the kernel and, without torch, its name."""
    paths = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(environment.call("-c", paths).strip())
    for package in (site / "google", site / "google" / "colab"):
        package.mkdir()
        (package / "__init__.py").write_text(STUB)
    kernel = environment.root / "share" / "jupyter" / "kernels" / KERNEL
    kernel.mkdir(parents=True)
    argv = [str(environment.python), "-m", "ipykernel_launcher", "-f"]
    spec = {"argv": [*argv, "{connection_file}"], "display_name": KERNEL}
    (kernel / "kernel.json").write_text(json.dumps({**spec, "language": "python"}))
    if not use_torch:
        named = site / f"torch-{TORCH}.dist-info"
        named.mkdir()
        lines = f"Metadata-Version: 2.1\nName: torch\nVersion: {TORCH}\n"
        (named / "METADATA").write_text(lines)


# ---------------------------------------------------------------- the repository


class Copy(NamedTuple):
    """A copy of the repository with an address of its own."""

    root: Path
    address: str

    def notebook(self, name: str) -> nbformat.NotebookNode:
        return nbformat.read(self.root / "chapters" / f"{name}.ipynb", as_version=4)


class Served(NamedTuple):
    """What stands at the address: a bare clone, and what its names mean."""

    clone: Path
    release: str
    branch: str


def addressed(root: Path, address: str) -> Copy:
    """Copy the repository and do what `make repo URL=address` does."""
    shutil.copytree(ROOT, root, ignore=NEVER_COPIED)
    call(sys.executable, "book/tools/render.py", "--repository", address, cwd=root)
    book = convert.read_book(root)
    for name in book.chapters:
        old = notebooks.stored(root / "chapters" / f"{name}.ipynb")
        stale = notebooks.is_stale(root, book.texts[name], old)
        assert not stale, f"{name} is stale: run `make notebooks`"
    said = call(sys.executable, "book/tools/notebooks.py", cwd=root)
    assert "executed" not in said
    return Copy(root, address)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return addressed(tmp_path_factory.mktemp("address") / "copy", HOST)


@pytest.fixture(scope="module")
def clones(copy, tmp_path_factory):
    """The copy with its release and a later commit, with and without the tag."""
    folder = tmp_path_factory.mktemp("clones")
    version = re.search(
        r'(?m)^version = "(.+)"$', (copy.root / "pyproject.toml").read_text()
    )

    def git(*parts: str, cwd: Path = copy.root) -> str:
        me = ("-c", "user.name=Me", "-c", "user.email=me@host.invalid")
        quiet = ("-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false")
        return call("git", *me, *quiet, *parts, cwd=cwd).strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--no-verify", "--message=Release")
    git("tag", f"v{version[1]}")
    release = git("rev-parse", "HEAD")
    git("commit", "--quiet", "--no-verify", "--allow-empty", "--message=Go on")
    branch = git("rev-parse", "HEAD")
    for name, options in {"tagged": [], "untagged": ["--no-tags"]}.items():
        git("clone", "--quiet", "--bare", *options, ".", str(folder / name))
        git("config", "uploadpack.allowFilter", "true", cwd=folder / name)
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=folder / name)
    return {
        name: Served(folder / name, release, branch) for name in ("tagged", "untagged")
    }


# ---------------------------------------------------------------- running


class Reader:
    """Someone who opens a notebook in an empty folder and runs it."""

    def __init__(self, folder: Path, environment: Colab, monkeypatch) -> None:
        self.folder, self.colab = folder / "content", environment
        self.folder.mkdir()
        self.env = surroundings()
        self.env.update(
            PATH=os.pathsep.join([str(environment.root / "bin"), self.env["PATH"]]),
            IPYTHONDIR=str(folder / "ipython"),
            GIT_TERMINAL_PROMPT="0",
            OMP_NUM_THREADS="1",
            OPENBLAS_NUM_THREADS="1",
            MKL_NUM_THREADS="1",
            PYDEVD_DISABLE_FILE_VALIDATION="1",
        )
        monkeypatch.setenv("JUPYTER_PATH", str(environment.root / "share" / "jupyter"))

    def reaches(self, served: Served, address: str) -> None:
        """Let git find the clone at the address."""
        self.env.update(
            GIT_CONFIG_COUNT="1",
            GIT_CONFIG_KEY_0=f"url.{served.clone.as_uri()}.insteadOf",
            GIT_CONFIG_VALUE_0=address,
        )

    def runs(self, notebook: nbformat.NotebookNode, most: int | None = None):
        """Run the code cells, or the first of them; return them with their outputs."""
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        notebook.cells = code[:most]
        nbformat.write(notebook, self.folder / "chapter.ipynb")
        client = NotebookClient(
            notebook,
            kernel_name=KERNEL,
            timeout=900,
            coalesce_streams=True,
            # The tag is for cells that need a GPU or a big download.
            skip_cells_with_tag="nbval-skip",
            resources={"metadata": {"path": str(self.folder)}},
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
        with client.setup_kernel(env=self.env):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
        assert [path.name for path in self.folder.iterdir()] == ["chapter.ipynb"]
        return notebook.cells


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A function that makes a reader, in an environment without the helper."""
    used = []

    def make(use_torch: bool) -> Reader:
        environment = colab(use_torch)
        if "rlbook_utils" in environment.packages():
            environment.forget_the_helper()
        used.append(environment)
        return Reader(tmp_path, environment, monkeypatch)

    yield make
    for environment in used:
        environment.forget_the_helper()


def first_cell(notebook: nbformat.NotebookNode) -> str:
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


def uses_torch(notebook: nbformat.NotebookNode) -> bool:
    return "use_torch=True" in first_cell(notebook)


def says_one_line(cell: nbformat.NotebookNode) -> bool:
    """Tell whether a first cell printed its line and nothing of pip's."""
    texts = [
        (out.output_type, out.get("name"), out.get("text")) for out in cell.outputs
    ]
    line = re.compile(r"rlbook_utils \S+, (torch \S+, )?numpy 2\.1\.3(, on \w+)?\n")
    return [t[:2] for t in texts] == [("stream", "stdout")] and bool(
        line.fullmatch(texts[0][2])
    )


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", convert.chapter_names(ROOT))
def test_a_chapter_runs_alone_and_changes_no_package(name, copy, clones, reader):
    notebook = copy.notebook(name)
    committed = first_cell(Copy(ROOT, "").notebook(name))
    address = convert.read_book(ROOT).repository
    assert committed.replace(address, HOST) == first_cell(notebook)

    person = reader(uses_torch(notebook))
    person.reaches(clones["tagged"], HOST)
    before = person.colab.packages()
    cells = person.runs(notebook)

    assert says_one_line(cells[0]), cells[0].outputs
    after = person.colab.packages()
    assert after.pop("rlbook_utils")
    assert after == before
    assert person.colab.origin()["commit_id"] == clones["tagged"].release


def test_the_page_kit_moves_under_old_widgets(copy, clones, reader):
    path = copy.root / "book" / "chapters" / "kit.md"
    shutil.copy(ROOT / "book" / "kit.md", path)
    book = convert.read_book(copy.root)
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                convert.code_source(book, "kit", cell), metadata=cell.metadata
            )
            for cell in convert.read_text(copy.root, "kit").cells
            if cell.kind == "code"
        ]
    )
    path.unlink()
    person = reader(uses_torch(notebook))
    person.reaches(clones["tagged"], HOST)
    cells = person.runs(notebook)
    assert says_one_line(cells[0]), cells[0].outputs
    shown = {
        mime for cell in cells for out in cell.outputs for mime in out.get("data", ())
    }
    assert "application/vnd.jupyter.widget-view+json" in shown


def test_without_a_tag_the_default_branch_is_installed(copy, clones, reader):
    notebook = copy.notebook(convert.chapter_names(ROOT)[0])
    person = reader(uses_torch(notebook))
    person.reaches(clones["untagged"], HOST)
    (cell,) = person.runs(notebook, most=1)
    assert says_one_line(cell), cell.outputs
    assert person.colab.origin()["commit_id"] == clones["untagged"].branch


@pytest.fixture
def trapped(tmp_path):
    """Commands and a module that write their arguments into a log, and fail."""
    log, folder = tmp_path / "calls.log", tmp_path / "trap"
    (folder / "pip").mkdir(parents=True)
    (folder / "pip" / "__init__.py").write_text("")
    (folder / "pip" / "__main__.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        f"with Path({str(log)!r}).open('a') as log:\n"
        "    print('module pip', *sys.argv[1:], file=log)\n"
        "sys.exit('the trap closed')\n"
    )
    (folder / "bin").mkdir()
    for name in ("git", "pip", "pip3"):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\necho "{name} $*" >> "{log}"\nexit 1\n')
        script.chmod(0o755)

    def trap(person: Reader) -> Path:
        path = os.pathsep.join([str(folder / "bin"), person.env["PATH"]])
        person.env.update(PATH=path, PYTHONPATH=str(folder))
        return log

    return trap


def test_the_trap_sees_what_an_address_makes_the_cell_fetch(copy, reader, trapped):
    notebook = copy.notebook(convert.chapter_names(ROOT)[0])
    person = reader(uses_torch(notebook))
    log = trapped(person)
    with pytest.raises(CellExecutionError) as caught:
        person.runs(notebook, most=1)
    assert caught.value.evalue.startswith(f"pip could not install git+{HOST}:\n")
    assert "the trap closed" in caught.value.evalue
    tried = [line.split()[-1] for line in log.read_text().splitlines()]
    assert len(tried) == 2
    assert re.fullmatch(rf"git\+{re.escape(HOST)}@v\S+", tried[0])
    assert tried[1] == f"git+{HOST}"


def test_the_placeholder_refuses_and_fetches_nothing(tmp_path, reader, trapped):
    unset = addressed(tmp_path / "unset", PLACEHOLDER)
    notebook = unset.notebook(convert.chapter_names(ROOT)[0])
    person = reader(uses_torch(notebook))
    log = trapped(person)
    before = person.colab.packages()
    with pytest.raises(CellExecutionError) as caught:
        person.runs(notebook, most=1)
    assert caught.value.ename == "RuntimeError"
    assert caught.value.evalue == (
        "The repository's address is still a placeholder. Set it with "
        "`make repo URL=...`, or name a source in RLBOOK_SRC."
    )
    assert not log.exists()
    assert person.colab.packages() == before


def test_an_environment_is_made_again_only_if_its_pins_or_packages_change(tmp_path):
    folder = tmp_path / "small"
    environment, stamp = Colab(folder), tmp_path / "made.json"
    assert not stands(environment, stamp, "pins")
    call(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=tmp_path)
    stamp.write_text(json.dumps({"pins": "pins", "packages": {}}))
    assert stands(environment, stamp, "pins")
    assert not stands(environment, stamp, "other pins")
    site = next(folder.glob("lib/python*/site-packages"))
    for name, sound in {"rlbook_utils": True, "stranger": False}.items():
        named = site / f"{name}-1.0.dist-info"
        named.mkdir()
        lines = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        (named / "METADATA").write_text(lines)
        assert stands(environment, stamp, "pins") is sound
