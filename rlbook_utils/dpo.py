"""Preferences without a reward model: DPO, and its relatives IPO and KTO.

The policy that is best for E[r] - beta KL(pi, reference) satisfies r = beta log(pi /
reference) + beta log Z. In a difference of two rewards Z cancels, so a pair of answers
to one prompt is scored by the policy itself. Everything here is a function of
log-ratios h = log pi(y given x) - log reference(y given x), *sums* over the tokens of a
response; beta enters once.

Losses return one value for each pair or answer. Pairs of the enumerable language are
numbers of responses (prompts, N, 2), the chosen one first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rlbook_utils.lm_policy import Batch, response_log_probs
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.worlds.token_mdp import Objective

Loss = Callable[[Tensor, Tensor], Tensor]


def _beta(beta: float) -> None:
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta is {beta}: it must be positive and finite")


def _pairs(chosen: Tensor, rejected: Tensor) -> None:
    if chosen.shape != rejected.shape:
        raise ValueError(
            f"chosen has shape {tuple(chosen.shape)}, rejected "
            f"{tuple(rejected.shape)}: they must agree"
        )
    _numbers("chosen", chosen)
    _numbers("rejected", rejected)


def _numbers(name: str, h: Tensor) -> None:
    if h.isnan().any():
        raise ValueError(f"{name} has {int(h.isnan().sum())} NaN among {h.numel()}")


def _flip(flip: float) -> None:
    if not 0 <= flip <= 0.5:
        raise ValueError(f"flip is {flip}: it must be in [0, 0.5]")


def _shown(goal: Objective, behavior: Tensor | None) -> Tensor:
    """Return nu, the law of the answers shown to annotators."""
    if behavior is None:
        return goal.reference_log_probs.exp()
    if behavior.shape != goal.reward.shape:
        raise ValueError(
            f"behavior has shape {tuple(behavior.shape)}: it must be "
            f"{tuple(goal.reward.shape)}"
        )
    sums = behavior.sum(-1)
    worst = sums[(sums - 1).abs().argmax()].item()
    if not (behavior >= 0).all() or not abs(worst - 1) < 1e-6:
        raise ValueError(
            f"behavior must be probabilities: least {behavior.min():.3g}, sum "
            f"{worst:.6g}"
        )
    return behavior


def log_ratio(logp: Tensor, logp_ref: Tensor, mask: Tensor) -> Tensor:
    """Return h = sum_t log pi(y_t) - log reference(y_t) over each response.

    Parameters
    ----------
    logp, logp_ref : (B, T) Tensor
        Log-probabilities of the tokens.
    mask : (B, T) Tensor of bool
        True on the tokens of the response, its end token included.

    Returns
    -------
    (B,) Tensor

    Raises
    ------
    ValueError
        If shapes differ, the mask is not bool, or a response is empty.

    Examples
    --------
    >>> logp, ref = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-2.0, -1.5]])
    >>> log_ratio(logp, ref, torch.tensor([[True, True]])).item()
    1.5
    """
    if not logp.shape == logp_ref.shape == mask.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"logp {tuple(logp.shape)}, logp_ref {tuple(logp_ref.shape)}, mask "
            f"{mask.dtype} {tuple(mask.shape)}: they must agree, the mask be bool"
        )
    if not mask.any(1).all():
        row = int((~mask.any(1)).nonzero()[0])
        raise ValueError(f"response {row} is empty: its mask has no True")
    return (logp - logp_ref).masked_fill(~mask, 0.0).sum(1)


def dpo_loss(
    chosen: Tensor, rejected: Tensor, beta: float, smoothing: float = 0.0
) -> Tensor:
    """Return -log sigmoid(beta (h_w - h_l)) of each pair.

    With smoothing e: (1 - e) times the loss plus e times that of the swapped pair, the
    cross-entropy to a label that is right with probability 1 - e. (The likelihood of a
    label that a coin flips is another loss: it mixes probabilities, not logarithms.)

    Parameters
    ----------
    chosen, rejected : Tensor
        Log-ratios h_w and h_l of the two responses to one prompt, of one shape.
    beta : float
        Positive.
    smoothing : float
        In [0, 0.5).

    Returns
    -------
    Tensor
        ln 2 where the policy is the reference.

    Raises
    ------
    ValueError
        If `beta` is not positive, the shapes differ, a log-ratio is NaN, or `smoothing`
        is out of range.

    Notes
    -----
    Source: Rafailov et al. (2023), equation 7; smoothing: Mitchell (2023).

    Examples
    --------
    >>> round(dpo_loss(torch.tensor(0.0), torch.tensor(0.0), 0.1).item(), 4)
    0.6931
    """
    _beta(beta)
    _pairs(chosen, rejected)
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing is {smoothing}: it must be in [0, 0.5)")
    scaled = beta * (chosen - rejected)
    right = functional.softplus(-scaled)
    if smoothing == 0:
        return right
    return (1 - smoothing) * right + smoothing * functional.softplus(scaled)


def dpo_weight(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Return beta sigmoid(-beta (h_w - h_l)), the weight of a pair in the gradient.

    grad loss = -weight (grad log pi(y_w) - grad log pi(y_l)): supervised learning on
    the chosen, unlearning of the rejected, most where the policy ranks them wrongly.

    Parameters
    ----------
    chosen, rejected, beta
        As for :func:`dpo_loss`.

    Returns
    -------
    Tensor
        Between 0 and `beta`; half of `beta` where the policy is the reference.

    Raises
    ------
    ValueError
        As :func:`dpo_loss`.

    Notes
    -----
    Source: Rafailov et al. (2023), section 4.

    Examples
    --------
    >>> dpo_weight(torch.tensor(0.0), torch.tensor(0.0), 0.5).item()
    0.25
    """
    _beta(beta)
    _pairs(chosen, rejected)
    return beta * (-beta * (chosen - rejected)).sigmoid()


def ipo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Return (h_w - h_l - 1/(2 beta))^2 of each pair.

    A margin has a goal, so labels that never disagree do not drive it to infinity.
    With all pairs of a law nu the minimum is reached where h is the probability of
    winning against a draw from nu, divided by beta, up to a constant of the prompt.

    Parameters
    ----------
    chosen, rejected, beta
        As for :func:`dpo_loss`.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        As :func:`dpo_loss`.

    Notes
    -----
    Source: Azar et al. (2024), equation 17, their tau our beta.

    Examples
    --------
    >>> ipo_loss(torch.tensor(1.0), torch.tensor(0.0), 0.5).item()
    0.0
    """
    _beta(beta)
    _pairs(chosen, rejected)
    return (chosen - rejected - 1 / (2 * beta)).square()


def kto_loss(
    log_ratios: Tensor,
    desirable: Tensor,
    point: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Return the loss of single answers that someone liked or did not.

    Desirable: w_D sigmoid(beta (point - h)). Undesirable: w_U sigmoid(beta (h -
    point)). No pairs are needed.

    Parameters
    ----------
    log_ratios : Tensor
        h of each answer.
    desirable : Tensor of bool
        Of the same shape.
    point : Tensor
        Estimate of KL(pi, reference), that to which h is compared: one number, or a
        shape that broadcasts to that of h. It is taken without gradient and not below
        0.
    beta : float
        Positive.
    weights : (float, float)
        w_D and w_U, positive.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `beta` or a weight is not positive, shapes differ, or a log-ratio is NaN.

    Notes
    -----
    Source: Ethayarajh et al. (2024), section 4, without the constant. The mean loss of
    an answer that is liked with probability p is monotone in its h: it falls if
    p w_D > (1 - p) w_U and rises otherwise, without end. Only the normalization of pi
    and the reference point hold it.

    Examples
    --------
    >>> h = torch.zeros(2)
    >>> kto_loss(h, torch.tensor([True, False]), torch.tensor(0.0), 0.1).tolist()
    [0.5, 0.5]
    """
    _beta(beta)
    if log_ratios.shape != desirable.shape or desirable.dtype != torch.bool:
        raise ValueError(
            f"log_ratios has shape {tuple(log_ratios.shape)}, desirable "
            f"{desirable.dtype} {tuple(desirable.shape)}: they must agree, desirable "
            "be bool"
        )
    sizes = zip(point.shape[::-1], log_ratios.shape[::-1], strict=False)
    if point.dim() > log_ratios.dim() or any(p not in (1, n) for p, n in sizes):
        raise ValueError(
            f"point has shape {tuple(point.shape)}: it would turn log_ratios "
            f"{tuple(log_ratios.shape)} into another shape"
        )
    _numbers("log_ratios", log_ratios)
    _numbers("point", point)
    if not all(0 < w < math.inf for w in weights):
        raise ValueError(f"weights are {weights}: both must be positive and finite")
    above = beta * (log_ratios - point.detach().clamp(min=0))
    liked = weights[0] * (-above).sigmoid()
    return torch.where(desirable, liked, weights[1] * above.sigmoid())


# The enumerable language


def win_probability(goal: Objective, flip: float = 0.0) -> Tensor:
    """Return P(i is preferred to j) for all pairs of responses, (prompts, n, n).

    sigmoid(r_i - r_j), Bradley and Terry's; then a label is flipped with probability
    `flip`.

    Parameters
    ----------
    goal : Objective
    flip : float
        In [0, 0.5].

    Returns
    -------
    (prompts, n, n) Tensor

    Raises
    ------
    ValueError
        If `flip` is out of range.

    Examples
    --------
    >>> from rlbook_utils.worlds.token_mdp import random_objective
    >>> goal = random_objective(torch.Generator().manual_seed(0), length=1)
    >>> win_probability(goal)[0, 2, 2].item()
    0.5
    """
    _flip(flip)
    right = (goal.reward[:, :, None] - goal.reward[:, None]).sigmoid()
    return (1 - 2 * flip) * right + flip


def expected_loss(
    goal: Objective,
    logits: Tensor,
    loss: Loss,
    *,
    behavior: Tensor | None = None,
    flip: float = 0.0,
) -> Tensor:
    """Return the mean loss of a policy over all pairs and labels, for each prompt.

    Sum over i, j of nu(i) nu(j) [P(i, j) loss(h_i, h_j) + P(j, i) loss(h_j, h_i)]:
    what infinitely many pairs would give.

    Parameters
    ----------
    goal : Objective
        Its language should have at most some hundred responses.
    logits : Tensor
        Of the policy, of `goal.language.shape`.
    loss : callable
        Takes log-ratios of the chosen and the rejected.
    behavior : (prompts, n) Tensor, optional
        nu, the law of the answers shown to annotators; None: the reference.
    flip : float
        As for :func:`win_probability`.

    Returns
    -------
    (prompts,) Tensor

    Raises
    ------
    ValueError
        As :func:`win_probability`, or if `behavior` is no law of that shape.

    Examples
    --------
    >>> from rlbook_utils.worlds.token_mdp import random_objective
    >>> goal = random_objective(torch.Generator().manual_seed(0), length=1)
    >>> loss = lambda chosen, rejected: dpo_loss(chosen, rejected, goal.beta)
    >>> round(expected_loss(goal, goal.reference, loss).item(), 4)
    0.6931
    """
    nu = _shown(goal, behavior)
    wins = nu[:, :, None] * nu[:, None] * win_probability(goal, flip)
    h = goal.language.log_probs(logits) - goal.reference_log_probs
    row, column = h[:, :, None].expand_as(wins), h[:, None].expand_as(wins)
    total: Tensor = (wins * loss(row, column)).sum((1, 2))
    return 2 * total


def reward_table(wins: Tensor, *, prior: float = 0.0, steps: int = 100) -> Tensor:
    """Return the maximum-likelihood rewards of a table of wins, with mean 0.

    Newton's method on -sum_ij wins_ij log sigmoid(r_i - r_j) + prior/2 sum_i r_i^2,
    which is convex. Without the prior, the tilt of the reference by these rewards
    minimizes the DPO loss on the same table, at every beta.

    Parameters
    ----------
    wins : (n, n) Tensor
        How often i was preferred to j, or its probability, float64.
    prior : float
        At least 0: the inverse variance of a normal prior with mean 0.
    steps : int
        Most of them.

    Returns
    -------
    (n,) Tensor

    Raises
    ------
    ValueError
        If the table is not square, has a negative or NaN entry, or, without a prior, no
        finite maximum, as where some answers always win or are never compared; if
        `prior` is negative; if `steps` did not suffice.

    Notes
    -----
    Source: Bradley and Terry (1952); the condition is that of Ford (1957): for every
    split of the answers in two, each part wins against the other some time. Equally:
    from each answer a chain of wins leads to each other one.

    Examples
    --------
    >>> wins = torch.tensor([[0.0, 3.0], [1.0, 0.0]], dtype=torch.float64)
    >>> r = reward_table(wins)
    >>> round((r[0] - r[1]).item(), 6) == round(torch.tensor(3.0).log().item(), 6)
    True
    """
    if wins.dim() != 2 or wins.shape[0] != wins.shape[1] or not (wins >= 0).all():
        raise ValueError(
            f"wins has shape {tuple(wins.shape)} and least entry {wins.min():.3g}: it "
            "must be square and not negative"
        )
    if not prior >= 0:
        raise ValueError(f"prior is {prior}: it must be 0 or more")
    if prior == 0:
        _chains(wins)
    games, r = wins + wins.T, torch.zeros(len(wins), dtype=wins.dtype)
    largest = math.inf
    for _ in range(steps):
        chance = (r[:, None] - r).sigmoid()
        slope = (wins - games * chance).sum(1) - prior * r
        curve = (games * chance * (1 - chance)).fill_diagonal_(0)
        hessian = torch.diag(curve.sum(1) + prior) - curve
        # A shift of all rewards costs nothing: give it some curvature.
        hessian = hessian + games.sum() / len(r) ** 3
        move, singular = torch.linalg.solve_ex(hessian, slope)
        if singular:
            break
        largest = move.abs().max().item()
        r = r + move / max(1.0, largest / 2)
        if largest < 1e-10:
            centered: Tensor = r - r.mean()
            return centered
    raise ValueError(f"not converged: step {steps} moves a reward by {largest:.3g}")


def _chains(wins: Tensor) -> None:
    """Refuse a table where some answer wins against another by no chain of wins."""
    reach = ((wins > 0) | torch.eye(len(wins), dtype=torch.bool)).float()
    for _ in range(len(wins).bit_length()):
        reach = (reach @ reach > 0).float()
    gaps = (reach == 0).nonzero()
    if len(gaps):
        i, j = gaps[0].tolist()
        raise ValueError(
            f"no finite maximum exists: answer {i} never wins against answer {j}, "
            "directly or through others"
        )


def draw_pairs(
    goal: Objective,
    count: int,
    generator: torch.Generator,
    *,
    behavior: Tensor | None = None,
    flip: float = 0.0,
) -> Tensor:
    """Draw pairs of responses and label them, (prompts, count, 2), the chosen first.

    Parameters
    ----------
    goal : Objective
    count : int
        At least 1.
    generator : torch.Generator
    behavior, flip
        As for :func:`expected_loss`.

    Returns
    -------
    Tensor of int

    Raises
    ------
    ValueError
        If `count` is not positive, or as :func:`expected_loss`.

    Examples
    --------
    >>> from rlbook_utils.worlds.token_mdp import random_objective
    >>> goal = random_objective(torch.Generator().manual_seed(0))
    >>> draw_pairs(goal, 5, torch.Generator().manual_seed(1)).shape
    torch.Size([1, 5, 2])
    """
    if count < 1:
        raise ValueError(f"count is {count}: it must be at least 1")
    _flip(flip)
    nu = _shown(goal, behavior)
    both = nu.multinomial(2 * count, True, generator=generator)
    paid = goal.reward.gather(1, both).view(len(nu), count, 2)
    chance = (1 - 2 * flip) * (paid[..., 0] - paid[..., 1]).sigmoid() + flip
    luck = torch.rand(chance.shape, generator=generator, dtype=chance.dtype)
    pairs = both.view_as(paid)
    return torch.where((luck < chance)[..., None], pairs, pairs.flip(-1))


def pair_log_ratios(goal: Objective, logits: Tensor, pairs: Tensor) -> Tensor:
    """Return the log-ratios h of pairs, (prompts, N, 2), with their gradient.

    Parameters
    ----------
    goal : Objective
    logits : Tensor
        Of `goal.language.shape`.
    pairs : (prompts, N, 2) Tensor of int

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If `pairs` has another shape.

    Examples
    --------
    >>> from rlbook_utils.worlds.token_mdp import random_objective
    >>> goal = random_objective(torch.Generator().manual_seed(0))
    >>> pairs = draw_pairs(goal, 5, torch.Generator().manual_seed(1))
    >>> pair_log_ratios(goal, goal.reference, pairs).abs().sum().item()
    0.0
    """
    if pairs.dim() != 3 or pairs.shape[::2] != (goal.language.prompts, 2):
        raise ValueError(
            f"pairs has shape {tuple(pairs.shape)}: it must be "
            f"({goal.language.prompts}, N, 2)"
        )
    h = goal.language.log_probs(logits) - goal.reference_log_probs
    return h.gather(1, pairs.flatten(1)).reshape(pairs.shape)


class Fit(NamedTuple):
    """How a table was fitted: last `logits`, and tables at the marks, `path`."""

    logits: Tensor
    path: list[Tensor]


def fit(
    goal: Objective,
    loss: Loss,
    pairs: Tensor | Callable[[], Tensor],
    *,
    steps: int,
    lr: float = 0.05,
    marks: tuple[int, ...] = (),
    fall: bool = False,
) -> Fit:
    """Minimize the mean loss of pairs over a table of conditional logits.

    Adam from the reference. Each prompt is a run of its own: give a language as many
    prompts as you want seeds.

    Parameters
    ----------
    goal : Objective
    loss : callable
        Takes log-ratios of the chosen and the rejected, (prompts, N).
    pairs : (prompts, N, 2) Tensor of int, or callable
        A fixed set, used whole in each step, or a function that draws fresh ones.
    steps : int
        At least 1.
    lr : float
    marks : tuple of int
        Numbers of steps after which the table is kept.
    fall : bool
        Let the step fall to 0 like a cosine.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If `steps` is not positive, or as :func:`pair_log_ratios`.

    Examples
    --------
    >>> from rlbook_utils.worlds.token_mdp import random_objective
    >>> goal = random_objective(torch.Generator().manual_seed(0), length=1)
    >>> dice = torch.Generator().manual_seed(1)
    >>> pairs = draw_pairs(goal, 20_000, dice)
    >>> found = fit(goal, lambda w, l: dpo_loss(w, l, goal.beta), pairs, steps=300)
    >>> bool(goal.distance(found.logits) < goal.distance(goal.reference) / 5)
    True
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: it must be at least 1")
    table = goal.reference.detach().clone().requires_grad_()
    adam = torch.optim.Adam([table], lr=lr, betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    path = []
    for step in range(steps + 1):
        if step in marks:
            path.append(table.detach().clone())
        if step < steps:
            batch = pairs() if callable(pairs) else pairs
            h = pair_log_ratios(goal, table, batch)
            mean = loss(h[..., 0], h[..., 1]).mean(1).sum()
            (table.grad,) = torch.autograd.grad(mean, table)
            adam.step()
            if fall:
                rate.step()
    return Fit(table.detach(), path)


# A network


class Progress(NamedTuple):
    """What was measured while training, at each of `steps`.

    `loss` and `accuracy` (the share of pairs that the policy's own reward ranks as the
    annotator did) are means since the last entry; `chosen` is the mean h_w, `scores`
    what `evaluate` returned.
    """

    steps: list[int]
    loss: list[float]
    accuracy: list[float]
    chosen: list[float]
    scores: list[tuple[float, ...]]


def _same_prompts(chosen: Batch, rejected: Batch) -> None:
    sides = [[part.cpu() for part in side] for side in (chosen, rejected)]
    for row in range(len(chosen[0])):
        first, second = (
            tokens[row][mask[row] & ~response[row]].tolist()
            for tokens, mask, response in sides
        )
        if first != second:
            raise ValueError(
                f"pair {row} has the prompts {first} and {second}: they must agree"
            )


def train_dpo(
    network: GPT,
    chosen: Batch,
    rejected: Batch,
    loss: Loss,
    steps: int,
    generator: torch.Generator,
    *,
    batch: int = 64,
    lr: float = 5e-4,
    evaluate: Callable[[GPT], tuple[float, ...]] | None = None,
    every: int = 20,
) -> Progress:
    """Train a network in place on pairs of responses; it starts as the reference.

    The reference's log-probabilities are computed once, before the first step, so that
    no second network is held.

    Parameters
    ----------
    network : GPT
    chosen, rejected : (tokens, mask, response)
        (N, L) each; row k of both answers the same prompt.
    loss : callable
        Takes log-ratios of the chosen and the rejected, (batch,).
    steps : int
        At least 1.
    generator : torch.Generator
        On the CPU; draws the batches.
    batch : int
    lr : float
    evaluate : callable, optional
        Called before the first step and after each `every`.
    every : int

    Returns
    -------
    Progress

    Raises
    ------
    ValueError
        If the numbers of chosen and rejected or the prompts of a pair differ, `steps`,
        `batch` or `every` is not positive, or the loss becomes NaN or infinite.

    Examples
    --------
    >>> net = GPT(4, 4, torch.Generator().manual_seed(0), width=8)
    >>> good, bad = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 3, 2]])
    >>> pair = [(row, row >= 0, row > 0) for row in (good, bad)]
    >>> dice = torch.Generator().manual_seed(0)
    >>> report = train_dpo(net, *pair, lambda w, l: dpo_loss(w, l, 0.5), 40, dice,
    ...                    batch=1, lr=0.01)
    >>> round(report.loss[0], 4), report.loss[-1] < 0.2
    (0.6931, True)
    """
    if min(steps, batch, every) < 1:
        raise ValueError(
            f"steps {steps}, batch {batch}, every {every}: all must be at least 1"
        )
    count = len(chosen[0])
    if count != len(rejected[0]):
        raise ValueError(f"{count} chosen, {len(rejected[0])} rejected responses")
    sides = (chosen, rejected)
    _same_prompts(*sides)
    with torch.no_grad():
        base = [response_log_probs(network, *side) for side in sides]
    adam = torch.optim.Adam(network.parameters(), lr=lr)
    report, recent = Progress([], [], [], [], []), []
    for step in range(steps + 1):
        rows = torch.randint(count, (batch,), generator=generator)
        h_w, h_l = (
            response_log_probs(network, tokens[rows], mask[rows], response[rows])
            - known[rows]
            for (tokens, mask, response), known in zip(sides, base, strict=True)
        )
        mean = loss(h_w, h_l).mean()
        if not mean.isfinite():
            raise ValueError(f"the loss is {mean.item()} at step {step}: lower lr {lr}")
        right = (h_w > h_l).float().mean().item()
        recent.append((mean.item(), right, h_w.mean().item()))
        if step % every == 0:
            report.steps.append(step)
            for kept, column in zip(
                report[1:4], zip(*recent, strict=True), strict=True
            ):
                kept.append(sum(column) / len(column))
            report.scores.append(evaluate(network) if evaluate else ())
            recent = []
        if step < steps:
            adam.zero_grad()
            torch.autograd.backward(mean)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step()
    return report
