"""What a contributor finds: the ten lines work, and the files agree with each other."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def guide():
    """Return the commands of CONTRIBUTING.md."""
    (block,) = re.findall(r"(?ms)^```bash\n(.*?)^```$", read("CONTRIBUTING.md"))
    return block


def test_a_chapter_is_edited_in_ten_lines():
    assert len(guide().splitlines()) == 10


def test_the_guide_works_from_a_fresh_clone(tmp_path):
    """Follow it literally; the editor and the pushed-to repository are stand-ins."""
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "-q", "--bare", ROOT, origin], check=True)
    editor = tmp_path / "editor"
    before = "A courier is paid"
    assert before in read("book/chapters/mdp.md")
    editor.write_text(f'#!/bin/sh\nsed -i "s/{before}/One courier is paid/" "$1"\n')
    editor.chmod(0o755)
    ready = f"""
cp -al {sys.prefix} .venv 2> /dev/null || cp -a {sys.prefix} .venv
rm -f .venv/.ready .venv/.worlds
touch .venv/.ready .venv/.worlds
export PYTHONPATH=$PWD
"""
    script = guide().replace("cd rl-checked\n", f"cd rl-checked\n{ready}")
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ONLY")}
    env |= {
        "EDITOR": str(editor),
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/OWNER/rl-checked.git",
        "GIT_CONFIG_KEY_1": "user.name",
        "GIT_CONFIG_VALUE_1": "Ada",
        "GIT_CONFIG_KEY_2": "user.email",
        "GIT_CONFIG_VALUE_2": "ada@host.test",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    shutil.rmtree(tmp_path / "rl-checked" / ".venv", ignore_errors=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    changed = subprocess.run(
        ["git", "diff", "--name-only", "HEAD", "clearer-opening"],
        cwd=origin,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert changed == ["book/chapters/mdp.md", "chapters/mdp.ipynb"]


def test_the_version_is_everywhere_the_same():
    citation = yaml.safe_load(read("CITATION.cff"))
    newest = re.search(r"(?m)^## (\S+)$", read("CHANGELOG.md"))[1]
    assert PROJECT["version"] == citation["version"] == newest


def test_the_changes_name_every_chapter():
    toc = yaml.safe_load(read("_toc.yml"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    chapters = [f.removeprefix("chapters/") for f in files if f.startswith("chapters/")]
    text = read("CHANGELOG.md")
    assert [name for name in chapters if name not in text] == []


def test_the_workflow_covers_the_versions_that_the_helper_allows():
    jobs = WORKFLOW["jobs"]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.12", "3.13"]
    rows = jobs["versions"]["strategy"]["matrix"]["include"]
    oldest = next(row for row in rows if row["name"] == "oldest")
    assert oldest["python"] == PROJECT["requires-python"].removeprefix(">=")
    lowest = [d.replace(">=", "==") + ".*" for d in PROJECT["dependencies"]]
    assert sorted(oldest["pins"].split()) == sorted(lowest)


@pytest.mark.parametrize("job", WORKFLOW["jobs"])
def test_every_target_that_the_workflow_calls_exists(job):
    targets = set(re.findall(r"(?m)^([\w./-]+):", read("Makefile")))
    for step in WORKFLOW["jobs"][job]["steps"]:
        for line in step.get("run", "").splitlines():
            words = line.split()
            if words[0] == "make":
                assert set(words[1:]) <= targets, line


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")),
    ids=lambda path: path.stem,
)
def test_issue_templates_are_forms(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(form)
    for field in form["body"]:
        assert field["type"] in {"input", "textarea", "dropdown"}
        assert field["id"] and field["attributes"]["label"]
    asked = [f for f in form["body"] if f.get("validations", {}).get("required")]
    assert asked, "a template without a required field invites empty reports"


def test_notebooks_are_marked_as_generated():
    done = subprocess.run(
        ["git", "check-attr", "linguist-generated", "diff", "--", "chapters/mdp.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "linguist-generated: true" in done.stdout
    assert "diff: unset" in done.stdout


def test_an_address_is_set_in_every_file_that_names_it(tmp_path):
    sys.path.insert(0, str(ROOT / "book/tools"))
    import render

    for name in (*render.ADDRESSED, "book/tools/render.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run(
        [
            sys.executable,
            tmp_path / "book/tools/render.py",
            "--repository",
            "https://host.test/me/mine",
        ],
        check=True,
    )
    for name in render.ADDRESSED:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "OWNER" not in text, name
        assert "https://host.test/me/mine" in text, name
