"""What the bench compares the helper with: plain loops, and other libraries.

The other libraries are pinned in the extra `bench` and imported when they are called.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

MOST_SWEEPS = 10**5


class Solved(NamedTuple):
    """The values a solver returned and the sweeps it did, of either kind."""

    values: Any
    sweeps: int


Solver = Callable[[], Solved]


# ---------------------------------------------------------------- bandits


def beta_loop(
    means: Sequence[float], steps: int, runs: int, seed: int
) -> list[list[float]]:
    """Run Thompson sampling plainly, one run after the other; return the gaps."""
    import torch

    torch.manual_seed(seed)
    gaps = []
    for _ in range(runs):
        successes, failures = torch.ones(len(means)), torch.ones(len(means))
        gaps.append([])
        for _ in range(steps):
            draws = torch.distributions.Beta(successes, failures).sample()
            arm = int(draws.argmax())
            reward = float(torch.rand(()) < means[arm])
            successes[arm] += reward
            failures[arm] += 1 - reward
            gaps[-1].append(max(means) - means[arm])
    return gaps


def autograd_loop(
    means: Sequence[float], rate: float, steps: int, runs: int, seed: int
) -> list[list[float]]:
    """Run REINFORCE plainly, one run after the other; return the gaps."""
    import torch

    torch.manual_seed(seed)
    gaps = []
    for _ in range(runs):
        preferences = torch.zeros(len(means), requires_grad=True)
        adam = torch.optim.Adam([preferences], lr=rate)
        baseline = 0.0
        gaps.append([])
        for _ in range(steps):
            policy = torch.distributions.Categorical(logits=preferences)
            arm = policy.sample()
            reward = float(torch.rand(()) < means[arm])
            loss = -(reward - baseline) * policy.log_prob(arm)
            adam.zero_grad()
            loss.backward()
            adam.step()
            baseline += rate * (reward - baseline)
            gaps[-1].append(max(means) - means[arm])
    return gaps


def numpy_loop(
    arms: int, steps: int, runs: int, seed: int, epsilon: float = 0.1
) -> list[list[float]]:
    """Run epsilon-greedy on the testbed, one pull at a time; return the gaps."""
    import numpy as np

    rng = np.random.default_rng(seed)
    gaps = []
    for _ in range(runs):
        means = rng.normal(size=arms)
        best_mean = means.max()
        counts, values = np.zeros(arms), np.zeros(arms)
        gaps.append([])
        for _ in range(steps):
            if rng.random() < epsilon:
                arm = rng.integers(arms)
            else:
                best = np.flatnonzero(values == values.max())
                arm = best[rng.integers(len(best))]
            reward = rng.normal(means[arm])
            counts[arm] += 1
            values[arm] += (reward - values[arm]) / counts[arm]
            gaps[-1].append(best_mean - means[arm])
    return gaps


# ---------------------------------------------------------------- solvers


def sparse_rows(world: Any, order: tuple[int, int, int]) -> Any:
    """Return P as a sparse matrix, rows by (action, state) or (state, action)."""
    import numpy as np
    from scipy import sparse

    columns = np.ascontiguousarray(world.successors.transpose(order)).ravel()
    weights = np.ascontiguousarray(world.probabilities.transpose(order)).ravel()
    ends = np.arange(0, len(columns) + 1, world.successors.shape[2])
    shape = (len(ends) - 1, world.states)
    matrix = sparse.csr_matrix((weights, columns, ends), shape=shape)
    matrix.sum_duplicates()
    return matrix


def quantecon_solver(world: Any, method: str, error: float) -> Solver:
    """Return a solver of quantecon on its sparse form, which is made beforehand.

    It guarantees half its epsilon. Modified policy iteration has its 20 evaluations.
    """
    import numpy as np
    from quantecon.markov import DiscreteDP

    program = DiscreteDP(
        np.ascontiguousarray(world.r).ravel(),
        sparse_rows(world, (1, 0, 2)),
        world.gamma,
        np.repeat(np.arange(world.states), world.actions),
        np.tile(np.arange(world.actions), world.states),
    )

    def solve() -> Solved:
        found = program.solve(method, epsilon=2 * error, max_iter=MOST_SWEEPS)
        inner = found.k * (found.num_iter - 1) if "k" in found else 0
        return Solved(found.v, found.num_iter + inner)

    return solve


def toolbox_solver(world: Any, error: float) -> Solver:
    """Return value iteration of pymdptoolbox on sparse matrices made beforehand.

    Its constructor checks them and bounds the sweeps, which takes most of the time.
    """
    import numpy as np
    from mdptoolbox.mdp import ValueIteration

    stacked, size = sparse_rows(world, (0, 1, 2)), world.states
    parts = [stacked[k * size : (k + 1) * size] for k in range(world.actions)]
    reward = np.ascontiguousarray(world.r)

    def solve() -> Solved:
        with warnings.catch_warnings(action="ignore"):
            solver = ValueIteration(parts, reward, world.gamma, 2 * error, MOST_SWEEPS)
            solver.run()
        return Solved(np.array(solver.V), solver.iter)

    return solve


# ---------------------------------------------------------------- learners


def plain_learner(
    world: Any, method: str, episodes: int, seed: int
) -> tuple[list[float], int]:
    """Learn by one of the four methods in one run; return the returns and the steps.

    Step .5, epsilon .1, ties at random: as `td.control`.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    moves, rewards = world.successors[..., 0], world.rewards[..., 0]
    tables = np.zeros((2 if method == "double_q_learning" else 1, *world.r.shape))
    epsilon, actions, start = 0.1, world.actions, int(world.start.argmax())

    def greedy(q: Any) -> int:
        best = np.flatnonzero(q == q.max())
        return int(best[rng.integers(len(best))])

    def act(state: int) -> int:
        if rng.random() < epsilon:
            return int(rng.integers(actions))
        return greedy(tables[:, state].sum(0))

    returns, steps = [], 0
    for _ in range(episodes):
        state, total, ended = start, 0.0, False
        action = act(state)
        while not ended:
            reward, after = rewards[action, state], moves[action, state]
            ended = world.terminal[after]
            own = rng.integers(2) if len(tables) > 1 else 0
            following = act(after) if method == "sarsa" and not ended else -1
            if ended:
                ahead = 0.0
            elif method == "sarsa":
                ahead = tables[0, after, following]
            elif method == "expected_sarsa":
                q = tables[0, after]
                ahead = epsilon * q.mean() + (1 - epsilon) * q.max()
            elif method == "q_learning":
                ahead = tables[0, after].max()
            else:
                ahead = tables[1 - own, after, greedy(tables[own, after])]
            target = reward + world.gamma * ahead
            tables[own, state, action] += 0.5 * (target - tables[own, state, action])
            total, steps, state = total + reward, steps + 1, after
            if not ended:
                action = following if method == "sarsa" else act(state)
        returns.append(total)
    return returns, steps


# ---------------------------------------------------------------- PPO


class Run(NamedTuple):
    """CPU seconds and environment steps up to a level; None if it was not reached."""

    seconds: float
    steps: int | None


class Stopwatch:
    """Add up the CPU time of training, and leave out that of judging it."""

    def __init__(self) -> None:
        self.spent, self._begin = 0.0, time.process_time()

    def stop(self) -> None:
        """Stop before a policy is judged."""
        self.spent += time.process_time() - self._begin

    def go_on(self) -> None:
        """Go on after it."""
        self._begin = time.process_time()


def sb3_ppo(judge: Callable[[Any], float], level: float, seed: int) -> Run:
    """Train PPO of stable-baselines3 with the settings that its zoo has for CartPole.

    They are those of `hyperparams/ppo.yml` of rl-baselines3-zoo. The policy is judged
    as it acts, by samples, after every 1,024 steps.
    """
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    watch = Stopwatch()

    class Judge(BaseCallback):
        reached: int | None = None

        def _on_rollout_start(self) -> None:
            watch.stop()

            def act(seen: Any) -> Any:
                return model.policy.get_distribution(seen).sample()

            with torch.no_grad():
                due = self.num_timesteps and self.num_timesteps % 1024 == 0
                if due and judge(act) >= level:
                    self.reached = self.num_timesteps
            watch.go_on()

        def _on_step(self) -> bool:
            return self.reached is None

    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=8, seed=seed),
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=lambda left: 0.001 * left,
        clip_range=lambda left: 0.2 * left,
        seed=seed,
        device="cpu",
    )
    found = Judge()
    model.learn(100_000, callback=found)
    watch.stop()
    return Run(watch.spent, found.reached)


def plain_ppo(judge: Callable[[Any], float], level: float, seed: int) -> Run:
    """Train PPO as a single file does: 4 environments, one after the other.

    The usual settings of such files: 128 steps, 4 epochs of 4 minibatches, a learning
    rate of .00025, clipped values, an entropy bonus. It is judged after
    every 1,024 steps.
    """
    import gymnasium
    import numpy as np
    import torch
    from torch import nn

    torch.manual_seed(seed)
    watch = Stopwatch()

    def layer(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
        made = nn.Linear(inputs, outputs)
        nn.init.orthogonal_(made.weight, gain)
        nn.init.zeros_(made.bias)
        return made

    def net(outputs: int, gain: float) -> nn.Sequential:
        body = (layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh())
        return nn.Sequential(*body, layer(64, outputs, gain))

    actor, critic = net(2, 0.01), net(1, 1.0)
    weights = [*actor.parameters(), *critic.parameters()]
    adam = torch.optim.Adam(weights, 2.5e-4, eps=1e-5)
    worlds = [gymnasium.make("CartPole-v1") for _ in range(4)]
    seen = np.stack([w.reset(seed=4 * seed + k)[0] for k, w in enumerate(worlds)])
    updates, steps, gamma, lam = 976, 128, 0.99, 0.95
    for update in range(1, updates + 1):
        adam.param_groups[0]["lr"] = 2.5e-4 * (1 - (update - 1) / updates)
        states, logps = torch.zeros(steps, 4, 4), torch.zeros(steps, 4)
        actions, values = torch.zeros(steps, 4), torch.zeros(steps, 4)
        rewards, over = torch.zeros(steps, 4), torch.zeros(steps, 4)
        ahead = torch.zeros(steps, 4)
        for t in range(steps):
            states[t] = torch.as_tensor(seen)
            with torch.no_grad():
                policy = torch.distributions.Categorical(logits=actor(states[t]))
                actions[t] = policy.sample()
                logps[t] = policy.log_prob(actions[t])
                values[t] = critic(states[t])[:, 0]
            for k, world in enumerate(worlds):
                seen[k], rewards[t, k], ended, late, _ = world.step(int(actions[t, k]))
                if late and not ended:
                    with torch.no_grad():
                        ahead[t, k] = critic(torch.as_tensor(seen[k]))[0]
                if ended or late:
                    over[t, k] = 1
                    seen[k] = world.reset()[0]
        with torch.no_grad():
            following = critic(torch.as_tensor(seen))[:, 0]
        gaps, later = torch.zeros(steps, 4), torch.zeros(4)
        for t in reversed(range(steps)):
            after = following if t == steps - 1 else values[t + 1]
            after = torch.where(over[t] > 0, ahead[t], after)
            delta = rewards[t] + gamma * after - values[t]
            later = gaps[t] = delta + gamma * lam * (1 - over[t]) * later
        batch = [x.flatten(0, 1) for x in (states, actions, logps, gaps, values)]
        for _ in range(4):
            for few in torch.randperm(512).split(128):
                s, a, logp_old, gap, v_old = (part[few] for part in batch)
                y = gap + v_old
                policy = torch.distributions.Categorical(logits=actor(s))
                ratio = (policy.log_prob(a) - logp_old).exp()
                gap = (gap - gap.mean()) / (gap.std() + 1e-8)
                gain = torch.min(ratio * gap, ratio.clamp(0.8, 1.2) * gap).mean()
                v = critic(s)[:, 0]
                near = v_old + (v - v_old).clamp(-0.2, 0.2)
                error = torch.max((v - y).square(), (near - y).square()).mean()
                loss = 0.25 * error - gain - 0.01 * policy.entropy().mean()
                adam.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(weights, 0.5)
                adam.step()
        if update % 2:
            continue
        watch.stop()
        with torch.no_grad():
            score = judge(
                lambda found: torch.distributions.Categorical(
                    logits=actor(found)
                ).sample()
            )
        if score >= level:
            return Run(watch.spent, 512 * update)
        watch.go_on()
    return Run(watch.spent, None)


# ---------------------------------------------------------------- language


def gpt2_like(network: Any) -> Any:
    """Return transformers' GPT-2 with the sizes and the weights of the helper's GPT.

    Biases that the helper's attention lacks are 0 and stay so.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=network.vocabulary,
            n_positions=network.context,
            n_embd=network.width,
            n_layer=len(network.blocks),
            n_head=network.heads,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    body = model.transformer
    pairs = [
        (body.wte, network.embed),
        (body.wpe, network.place),
        (body.ln_f, network.norm),
        (model.lm_head, network.head),
    ]
    for theirs, ours in zip(body.h, network.blocks, strict=True):
        pairs += [
            (theirs.ln_1, ours.norm),
            (theirs.ln_2, ours.norm2),
            (theirs.attn.c_attn, ours.qkv),
            (theirs.attn.c_proj, ours.out),
            (theirs.mlp.c_fc, ours.up),
            (theirs.mlp.c_proj, ours.down),
        ]
    with torch.no_grad():
        for theirs, ours in pairs:
            turned = type(theirs).__name__ == "Conv1D"
            theirs.weight.copy_(ours.weight.T if turned else ours.weight)
            if getattr(theirs, "bias", None) is None:
                continue
            if ours.bias is None:
                theirs.bias.zero_().requires_grad_(False)
            else:
                theirs.bias.copy_(ours.bias)
    return model.eval()


def generator(model: Any, prompts: Any, count: int) -> Callable[[], Any]:
    """Return a function that samples by `generate`, from the model's own policy.

    It returns the tokens and the log-probabilities of those that are new.
    """
    import torch

    mask = torch.ones_like(prompts)

    def draw() -> Any:
        made = model.generate(
            prompts,
            attention_mask=mask,
            max_new_tokens=count,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_logits=True,
        )
        logp = model.compute_transition_scores(
            made.sequences, made.logits, normalize_logits=True
        )
        return made.sequences, logp

    return draw


def plain_trainer(model: Any, texts: Any, steps: int) -> Callable[[], list[float]]:
    """Return a function that trains a model of transformers plainly, on one batch."""
    import torch

    def train() -> list[float]:
        model.train()
        adam = torch.optim.Adam(model.parameters(), lr=3e-3)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        losses = []
        for _ in range(steps):
            loss = model(input_ids=texts, labels=texts).loss
            losses.append(loss.item())
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            fall.step()
        return losses

    return train


def characters(vocabulary: int) -> Any:
    """Return a tokenizer of transformers with one character for each token.

    Token 0 pads, token 1 ends; `spelled` writes tokens as its characters.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {spelled([k]): k for k in range(vocabulary)}
    made = Tokenizer(models.WordLevel(known, unk_token=spelled([0])))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=spelled([0]), eos_token=spelled([1])
    )


def spelled(tokens: Sequence[int]) -> str:
    """Write tokens as text, one character each."""
    return "".join(chr(0x4E00 + token) for token in tokens)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what a library prints and warns of."""
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def quietly(trainer: Any) -> Callable[[], Any]:
    """Return a function that lets a trainer train without a word, and returns it."""

    def train() -> Any:
        with silence():
            trainer.train()
        return trainer

    return train


def trl_settings(steps: int, rows: int, lr: float) -> dict[str, Any]:
    """Return what TRL's trainers need to do the helper's step and nothing besides.

    A constant step of Adam in float32 on the CPU, gradients clipped at 1, without
    checkpointing, logging or saving.
    """
    return {
        "output_dir": tempfile.gettempdir(),
        "max_steps": steps,
        "per_device_train_batch_size": rows,
        "learning_rate": lr,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def trl_dpo(
    network: Any,
    pairs: Sequence[Any],
    prompt: int,
    steps: int,
    beta: float,
    lr: float,
    precompute: bool = False,
) -> Callable[[], Any]:
    """Return a function that trains a copy of a network by TRL's DPOTrainer.

    `pairs` are the tokens of chosen and of rejected rows, which share their first
    `prompt` tokens and end in token 1. By default the reference is asked in each step,
    as TRL does; with `precompute` once, before anything else. Called again, it trains
    on.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    chosen, rejected = (rows.tolist() for rows in pairs)
    records = {
        "prompt": [spelled(row[:prompt]) for row in chosen],
        "chosen": [spelled(row[prompt:]) for row in chosen],
        "rejected": [spelled(row[prompt:]) for row in rejected],
    }
    settings = trl_settings(steps, len(chosen), lr)
    with silence():
        trainer = DPOTrainer(
            model=gpt2_like(network),
            ref_model=None if precompute else gpt2_like(network),
            args=DPOConfig(beta=beta, precompute_ref_log_probs=precompute, **settings),
            train_dataset=Dataset.from_dict(records),
            processing_class=characters(network.vocabulary),
        )

    return quietly(trainer)


def trl_grpo(
    network: Any, prompts: Any, group: int, length: int, steps: int, lr: float
) -> Callable[[], Any]:
    """Return a function that trains a copy of a network by TRL's GRPOTrainer.

    Responses have exactly `length` tokens; the reward is the share of even ones. Each
    step samples a group for each prompt and takes one step on all of them.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def even(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [sum(t % 2 == 0 for t in row) / len(row) for row in completion_ids]

    model = gpt2_like(network)
    rows = len(prompts) * group
    with silence():
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=even,
            args=GRPOConfig(
                num_generations=group,
                max_completion_length=length,
                loss_type="grpo",
                beta=0.0,
                shuffle_dataset=False,
                generation_kwargs={"min_new_tokens": length},
                **trl_settings(steps, rows, lr),
            ),
            train_dataset=Dataset.from_dict(
                {"prompt": [spelled(row) for row in prompts.tolist()]}
            ),
            processing_class=characters(network.vocabulary),
        )

    return quietly(trainer)
