"""Devices, generators, threads and the environment check."""

import importlib.metadata
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from rlbook_utils.core import runtime

GOOD = {
    "rlbook_utils": "0.1.0",
    "python": "3.11.7",
    "torch": "2.13.0+cpu",
    "numpy": "2.1.3",
    "matplotlib": "3.10.0",
    "ipywidgets": "7.7.1",
}


@pytest.fixture
def bare(monkeypatch):
    """A machine without accelerators and without RLBOOK_DEVICE."""
    monkeypatch.delenv("RLBOOK_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return monkeypatch


def test_import_costs_no_torch_and_no_numpy():
    code = (
        "import sys, rlbook_utils.core.runtime;"
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_device_order(bare):
    assert runtime.device() == torch.device("cpu")
    bare.setattr(torch.backends.mps, "is_available", lambda: True)
    assert runtime.device() == torch.device("mps")
    bare.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.device() == torch.device("cuda")
    bare.setenv("RLBOOK_DEVICE", "mps")
    assert runtime.device() == torch.device("mps")
    assert runtime.device("cpu") == torch.device("cpu")
    bare.setenv("RLBOOK_DEVICE", "")
    assert runtime.device() == torch.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cpu:1", "meta", "cuda:x"])
def test_unknown_device_names_value_and_choices(bare, name):
    with pytest.raises(ValueError, match=f"device is '{name}'.*cpu, cuda, .*mps"):
        runtime.device(name)
    bare.setenv("RLBOOK_DEVICE", name)
    with pytest.raises(ValueError, match=f"RLBOOK_DEVICE is '{name}'"):
        runtime.device()


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_missing_gpu_names_value(bare, name):
    with pytest.raises(RuntimeError, match=f"device is '{name}', but torch finds no"):
        runtime.device(name)


def test_missing_second_gpu(bare):
    bare.setattr(torch.cuda, "is_available", lambda: True)
    bare.setattr(torch.cuda, "device_count", lambda: 1)
    assert runtime.device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(RuntimeError, match="'cuda:1', but there are 1 CUDA GPUs"):
        runtime.device("cuda:1")


def test_equal_seeds_give_equal_numbers():
    draws = [torch.rand(3, generator=runtime.generator(5, "cpu")) for _ in "ab"]
    assert torch.equal(*draws)
    assert runtime.rng(5).random() == runtime.rng(np.int64(5)).random()
    assert runtime.rng(5).random() != runtime.rng(6).random()


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "3", True, None])
def test_bad_seed_is_named(seed):
    for make in (runtime.rng, lambda seed: runtime.generator(seed, "cpu")):
        with pytest.raises(ValueError, match=f"seed is {seed!r}: "):
            make(seed)


def test_set_threads(monkeypatch):
    for variable in runtime.THREAD_VARIABLES:
        monkeypatch.setenv(variable, "7")
    before = torch.get_num_threads()
    runtime.set_threads(1)
    assert torch.get_num_threads() == 1
    assert {os.environ[name] for name in runtime.THREAD_VARIABLES} == {"1"}
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, -2, 1.5, True])
def test_bad_thread_count_is_named(count):
    with pytest.raises(ValueError, match=f"count is {count!r}: "):
        runtime.set_threads(count)


def test_versions_names_what_is_missing(monkeypatch):
    assert runtime.versions()["numpy"] == np.__version__
    known = importlib.metadata.version

    def without_torch(name):
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", without_torch)
    assert runtime.versions()["torch"] == "missing"
    with pytest.raises(RuntimeError, match=r"torch is missing \(needs 2\.9 or newer\)"):
        runtime.check_environment()


def test_environment_of_the_book_passes():
    assert runtime.check_environment(GOOD) == GOOD


def test_environment_error_names_everything():
    found = {**GOOD, "python": "3.10.14", "torch": "2.8.1", "numpy": "missing"}
    found |= {"matplotlib": "3.9.4", "ipywidgets": "7.6.5"}
    with pytest.raises(RuntimeError) as caught:
        runtime.check_environment(found)
    message = str(caught.value)
    for part in (
        "python 3.10.14 is too old (needs 3.11)",
        "torch 2.8.1 is too old (needs 2.9)",
        "numpy is missing (needs 2.0 or newer)",
        "matplotlib 3.9.4 is too old (needs 3.10)",
        "ipywidgets 7.6.5 is too old (needs 7.7)",
    ):
        assert part in message


def test_newer_python_is_only_warned_about():
    with pytest.warns(RuntimeWarning, match=r"3\.14\.0 is newer than 3\.13"):
        runtime.check_environment({**GOOD, "python": "3.14.0"})
