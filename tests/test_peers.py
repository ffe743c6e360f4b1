"""The book beside other libraries, which only the bench's environment holds."""

import contextlib
import importlib
import inspect
import re
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import bench
import numpy as np
import peers
import pytest
import torch
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from rlbook_utils import dpo, lm_policy, rlhf
from rlbook_utils.worlds import tasks

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("method", [*bench.METHODS, "toolbox"])
def test_a_solver_of_another_library_finds_the_same_values(method):
    world = bench.slippery_grid(2)
    if method == "toolbox":
        solve = peers.toolbox_solver(world, bench.ERROR)
    else:
        solve = peers.quantecon_solver(world, method, bench.ERROR)
    found = solve()
    assert np.abs(found.values - world.solve().values).max() <= bench.ERROR
    assert 20 < found.sweeps < 400


def test_another_lexicon_ranks_the_mini_reviews_alike():
    vader = SentimentIntensityAnalyzer()
    prompts, responses = tasks.reviews(2000, torch.Generator().manual_seed(0))
    ours = np.array([tasks.review_score(text) for text in responses])
    texts = [" ".join(pair) for pair in zip(prompts, responses, strict=True)]
    theirs = np.array([vader.polarity_scores(text)["compound"] for text in texts])
    apart = abs(ours[:, None] - ours) > 0.2
    apart &= abs(theirs[:, None] - theirs) > 0.05
    agree = np.sign(ours[:, None] - ours) == np.sign(theirs[:, None] - theirs)
    assert agree[apart].mean() > 0.85
    words = np.array(list(tasks.VALENCES.values()))
    scores = [vader.polarity_scores(word)["compound"] for word in tasks.VALENCES]
    assert (np.sign(scores) == np.sign(words)).all()


def test_a_ppo_peer_is_judged_in_time_and_stops_at_the_level():
    asked = []
    answers = iter([20.0, 480.0])

    def judge(act):
        asked.append(act(torch.zeros(3, 4)).shape)
        return next(answers)

    assert peers.plain_ppo(judge, 475.0, 0).steps == 2048
    assert asked == [(3,), (3,)]


def test_the_library_of_the_chapter_runs_as_the_chapter_says():
    answers = iter([20.0, 480.0])
    found = peers.sb3_ppo(lambda act: next(answers), 475.0, 0)
    assert found.steps == 2048 and found.seconds > 0


def test_the_loss_of_another_reward_trainer_is_ours():
    """Call the loss of TRL's trainer as it stands, on scores drawn at random."""
    scores = torch.randn(64, 1, generator=torch.Generator().manual_seed(0)) * 3
    plain = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=None),
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
    )
    parameter = scores.clone().requires_grad_()
    loss = RewardTrainer.compute_loss(
        plain, lambda **_: SimpleNamespace(logits=parameter), {}
    )
    theirs = [loss, torch.autograd.grad(loss, parameter)[0]]
    again = scores.clone().requires_grad_()
    chosen, rejected = again[:, 0].chunk(2)
    mean = rlhf.bradley_terry_loss(chosen, rejected).mean()
    ours = [mean, torch.autograd.grad(mean, again)[0]]
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)
    agree = plain._metrics["eval"]["accuracy"][0]
    assert (chosen > rejected).float().mean().item() == agree


def some_rows(count=6, length=7, vocabulary=5):
    """Tokens, masks of responses of several lengths, and logits of two models."""
    dice = torch.Generator().manual_seed(1)
    tokens = torch.randint(vocabulary, (count, length), generator=dice)
    place = torch.arange(length)
    ends = torch.randint(4, length + 1, (count, 1), generator=dice)
    response = (place >= 2) & (place < ends)
    logits, base = torch.randn(2, count, length, vocabulary, generator=dice) * 2
    return tokens, response, logits, base


def our_log_ratios(logits, base, tokens, response):
    logp, ref = (lm_policy.token_log_probs(x, tokens, response) for x in (logits, base))
    return dpo.log_ratio(logp, ref, response[:, 1:])


def a_trainer(base, **settings):
    """Return what the losses of TRL's trainers read, and nothing else."""
    same = lambda x: x  # noqa: E731
    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        ref_model=lambda **_: SimpleNamespace(logits=base),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        accelerator=SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        aux_loss_enabled=False,
        beta=0.3,
        **settings,
    )


def ignoring_checkpoints(monkeypatch, trainer):
    module = sys.modules[trainer.__module__]
    nothing = lambda *_: contextlib.nullcontext()  # noqa: E731
    monkeypatch.setattr(module, "disable_gradient_checkpointing", nothing)


@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_the_loss_of_another_dpo_trainer_is_ours(kind, monkeypatch):
    ignoring_checkpoints(monkeypatch, DPOTrainer)
    tokens, response, logits, base = some_rows()
    trainer = a_trainer(
        base,
        precompute_ref_logps=False,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        label_smoothing=0.0,
        loss_types=[kind],
        loss_weights=[1.0],
        use_weighting=False,
    )
    parameter = logits.clone().requires_grad_()
    theirs = DPOTrainer._compute_loss(
        trainer,
        lambda **_: SimpleNamespace(logits=parameter),
        {"input_ids": tokens, "completion_mask": response.long()},
        False,
    )
    again = logits.clone().requires_grad_()
    h = our_log_ratios(again, base, tokens, response)
    if kind == "ipo":
        # Their IPO is the length-normalized form: means, not sums.
        chosen, rejected = (h / response.sum(1)).chunk(2)
        ours = dpo.ipo_loss(chosen, rejected, 0.3).mean()
    else:
        ours = dpo.dpo_loss(*h.chunk(2), 0.3).mean()
    torch.testing.assert_close(ours, theirs)
    slopes = torch.autograd.grad(ours, again)[0], torch.autograd.grad(theirs, parameter)
    torch.testing.assert_close(slopes[0], slopes[1][0])


def test_the_loss_of_another_kto_trainer_is_ours(monkeypatch):
    ignoring_checkpoints(monkeypatch, KTOTrainer)
    tokens, response, logits, base = some_rows()
    label = torch.tensor([True, False, False, True, True, False])
    points = iter([torch.full((6,), 0.9), torch.full((6,), 0.4)])
    trainer = a_trainer(
        base,
        precompute_ref_logps=False,
        calculate_KL=True,
        loss_type="kto",
        desirable_weight=1.5,
        undesirable_weight=0.5,
        _compute_kl_logps=lambda *_: next(points),
    )
    parameter = logits.clone().requires_grad_()
    theirs = KTOTrainer._compute_loss(
        trainer,
        lambda **_: SimpleNamespace(logits=parameter),
        {"input_ids": tokens, "completion_mask": response.long(), "label": label},
        False,
    )
    again = logits.clone().requires_grad_()
    h = our_log_ratios(again, base, tokens, response)
    ours = dpo.kto_loss(h, label, torch.tensor(0.5), 0.3, (1.5, 0.5)).mean()
    torch.testing.assert_close(ours, theirs)
    slopes = torch.autograd.grad(ours, again)[0], torch.autograd.grad(theirs, parameter)
    torch.testing.assert_close(slopes[0], slopes[1][0])


def usual_values():
    """Return the rows of the book's table of library defaults."""
    text = (ROOT / "book/tables.md").read_text(encoding="utf-8")
    return re.findall(r"(?m)^\| `(\w+)\.(\w+)` \| `(\w+)` \| (\S+) \|$", text)


def test_the_table_of_usual_values_is_long_enough():
    assert len(usual_values()) > 20


@pytest.mark.parametrize("library, call, setting, said", usual_values())
def test_usual_values_are_the_libraries_defaults(library, call, setting, said):
    made = getattr(importlib.import_module(library), call)
    default = inspect.signature(made).parameters[setting].default
    assert str(default) == said
