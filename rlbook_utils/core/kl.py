"""Estimates of KL(pi, reference) from samples of pi, and where each may stand.

Everything is a function of the log-ratio d = log pi - log reference at tokens that *pi*
chose: whoever was sampled comes first. The estimators differ in noise, and far more in
what their gradient is. In the reward, d counts with every token that caused it, and
the expected gradient is that of KL(pi, reference). As a term of the loss,

- k1 = d has expected gradient 0: it does not regularize at all;
- k2 = d^2/2 of the *whole response* has the gradient of KL(pi, reference);
- k3 = exp(-d) - 1 + d of the whole response has that of KL(reference, pi);
- k1 or k3 times pi/pi_old, whose value is 1, have that of KL(pi, reference) again;
- per token, k2, and k1 or k3 times that token's ratio, have the gradient of the KL of
  each step with the distribution of prefixes held fixed: what an early token does to
  later steps is lost.

All log-probabilities and masks are (B, T); a mask is True where a token counts.
Importing this module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = ("sequence", "token")


def k1(log_ratio: Tensor) -> Tensor:
    """Return d: unbiased, noisy, of either sign.

    Parameters
    ----------
    log_ratio : Tensor
        d = log pi - log reference at samples of pi.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import torch
    >>> k1(torch.tensor([0.5])).tolist()
    [0.5]
    """
    return log_ratio


def k2(log_ratio: Tensor) -> Tensor:
    """Return d^2/2: biased, little noise, never negative.

    Parameters
    ----------
    log_ratio : Tensor
        d = log pi - log reference at samples of pi.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import torch
    >>> k2(torch.tensor([2.0])).tolist()
    [2.0]
    """
    return log_ratio.square() / 2


def k3(log_ratio: Tensor) -> Tensor:
    """Return exp(-d) - 1 + d: unbiased where pi covers the reference, never negative.

    Parameters
    ----------
    log_ratio : Tensor
        d = log pi - log reference at samples of pi.

    Returns
    -------
    Tensor

    Notes
    -----
    With samples of pi_old, as in PPO's `approx_kl`, d = logp_old - logp.
    Source: Schulman (2020), "Approximating KL divergence".

    Examples
    --------
    >>> import torch
    >>> k3(torch.tensor([0.0, 1.0])).tolist()
    [0.0, 0.3678794503211975]
    """
    return (-log_ratio).expm1() + log_ratio


ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def _beta(beta: float) -> None:
    if not 0 <= beta < float("inf"):
        raise ValueError(f"beta is {beta}: it must be 0 or more, and finite")


def _same(**shapes: Tensor) -> None:
    import torch

    found = {name: tuple(array.shape) for name, array in shapes.items()}
    if len(set(found.values())) > 1 or any(len(s) != 2 for s in found.values()):
        raise ValueError(f"shapes must agree and be (B, T), got {found}")
    mask = shapes["mask"]
    if mask.dtype != torch.bool:
        raise ValueError(f"mask has dtype {mask.dtype}: it must be bool")
    if not mask.any(1).all():
        row = int((~mask.any(1)).nonzero()[0])
        raise ValueError(f"response {row} is empty: its mask has no True")


def kl_penalty(
    logp: Tensor,
    logp_ref: Tensor,
    mask: Tensor,
    *,
    estimator: str = "k1",
    level: str = "sequence",
    ratio: bool = False,
) -> Tensor:
    """Return an estimate of KL(pi, reference) for each response.

    "sequence": k(sum_t d_t). "token": sum_t k(d_t). With `ratio`, k is multiplied by
    pi/pi_old of the same level, 1 in value and not in gradient.

    Parameters
    ----------
    logp, logp_ref : (B, T) Tensor
        Log-probabilities of the sampled tokens.
    mask : (B, T) Tensor of bool
        True on the tokens of the response.
    estimator : {"k1", "k2", "k3"}
    level : {"sequence", "token"}
    ratio : bool

    Returns
    -------
    (B,) Tensor

    Raises
    ------
    ValueError
        If shapes differ, a response is empty, or a name is unknown.

    Examples
    --------
    >>> import torch
    >>> logp, ref = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-2.0, -1.5]])
    >>> every = torch.ones(1, 2, dtype=torch.bool)
    >>> kl_penalty(logp, ref, every, estimator="k2").item()
    1.125
    >>> kl_penalty(logp, ref, every, estimator="k2", level="token").item()
    0.625
    """
    _same(logp=logp, logp_ref=logp_ref, mask=mask)
    if estimator not in ESTIMATORS or level not in LEVELS:
        raise ValueError(
            f"estimator is {estimator!r}, level {level!r}: choose of "
            f"{tuple(ESTIMATORS)} and {LEVELS}"
        )
    log_ratio = (logp - logp_ref).masked_fill(~mask, 0.0)
    chosen = logp.masked_fill(~mask, 0.0)
    if level == "sequence":
        log_ratio, chosen = log_ratio.sum(1, True), chosen.sum(1, True)
    estimate = ESTIMATORS[estimator](log_ratio)
    if ratio:
        estimate = estimate * (chosen - chosen.detach()).exp()
    return estimate.sum(1)


def _one_each(reward: Tensor, mask: Tensor) -> None:
    if reward.shape != mask.shape[:1]:
        raise ValueError(f"reward has shape {tuple(reward.shape)}, mask {mask.shape}")


def token_rewards(
    reward: Tensor, logp: Tensor, logp_ref: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """Return what each token is paid: -beta d_t, and the reward at the last token.

    Its sum is r - beta sum_t d_t, whose mean is E[r] - beta KL(pi, reference).

    Parameters
    ----------
    reward : (B,) Tensor
        r(x, y) of each whole response.
    logp, logp_ref : (B, T) Tensor
    mask : (B, T) Tensor of bool
    beta : float
        At least 0.

    Returns
    -------
    (B, T) Tensor
        0 outside the mask, and without gradient: a reward is a number.

    Raises
    ------
    ValueError
        If `beta` is negative, shapes differ, or a response is empty.

    Examples
    --------
    >>> import torch
    >>> logp, ref = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-2.0, -1.5]])
    >>> every = torch.ones(1, 2, dtype=torch.bool)
    >>> token_rewards(torch.tensor([3.0]), logp, ref, every, 0.5).tolist()
    [[-0.5, 2.75]]
    """
    _same(logp=logp, logp_ref=logp_ref, mask=mask)
    _beta(beta)
    _one_each(reward, mask)
    paid = (beta * (logp_ref - logp)).detach().masked_fill(~mask, 0.0)
    last = mask.long().cumsum(1).argmax(1, True)
    return paid.scatter_add(1, last, reward.detach()[:, None].to(paid.dtype))


def policy_loss(
    logp: Tensor,
    logp_ref: Tensor,
    reward: Tensor,
    mask: Tensor,
    beta: float,
    *,
    where: str = "reward",
    estimator: str = "k1",
    level: str = "sequence",
    ratio: bool = False,
) -> Tensor:
    """Return the REINFORCE loss of each response, with the KL where you put it.

    "reward": -sum_t logp_t times the token rewards from t on; minus its expected
    gradient is that of E[r] - beta KL(pi, reference).
    "loss": -r sum_t logp_t + beta times :func:`kl_penalty`.

    Parameters
    ----------
    logp, logp_ref : (B, T) Tensor
    reward : (B,) Tensor
    mask : (B, T) Tensor of bool
    beta : float
        At least 0.
    where : {"reward", "loss"}
    estimator, level, ratio
        Of the penalty in the loss, as for :func:`kl_penalty`. In the reward it is k1.

    Returns
    -------
    (B,) Tensor
        The value means nothing; its gradient, at samples of pi, does.

    Raises
    ------
    ValueError
        As :func:`token_rewards` and :func:`kl_penalty`, and if `where` is unknown or
        asks for another estimator than k1 in the reward.

    Examples
    --------
    >>> import torch
    >>> logp = torch.tensor([[-1.0, -1.0]], requires_grad=True)
    >>> every = torch.ones(1, 2, dtype=torch.bool)
    >>> zero = torch.tensor([0.0])
    >>> loss = policy_loss(logp, torch.full((1, 2), -2.0), zero, every, 0.5)
    >>> torch.autograd.grad(loss.sum(), logp)[0].tolist()
    [[1.0, 0.5]]
    """
    if where not in ("reward", "loss"):
        raise ValueError(f"where is {where!r}: it must be 'reward' or 'loss'")
    if where == "loss":
        _beta(beta)
        _one_each(reward, mask)
        penalty = kl_penalty(
            logp, logp_ref, mask, estimator=estimator, level=level, ratio=ratio
        )
        return beta * penalty - reward.detach() * logp.masked_fill(~mask, 0.0).sum(1)
    if estimator != "k1" or ratio or level not in LEVELS:
        raise ValueError(
            f"estimator is {estimator!r}, ratio {ratio}, level {level!r}: k1 alone is "
            f"paid, and level is one of {LEVELS}"
        )
    paid = token_rewards(reward, logp, logp_ref, mask, beta)
    to_go = paid.flip(1).cumsum(1).flip(1)
    return -(to_go * logp.masked_fill(~mask, 0.0)).sum(1)


def exact_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p, q) = sum p (log p - log q) over the last axis, with its gradient.

    Parameters
    ----------
    log_p, log_q : (..., n) Tensor
        Normalized log-probabilities; minus infinity is allowed in `log_p`.

    Returns
    -------
    (...) Tensor
        Infinite where q = 0 < p.

    Raises
    ------
    ValueError
        If the last axes differ or `log_p` is not normalized.

    Examples
    --------
    >>> import torch
    >>> p = torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> round(exact_kl(p.log(), torch.full((2,), 0.5).log()).item(), 4)
    0.6931
    """
    if log_p.shape[-1] != log_q.shape[-1]:
        raise ValueError(f"log_p has shape {log_p.shape}, log_q {log_q.shape}")
    total = log_p.detach().logsumexp(-1)
    if not total.abs().amax() < 1e-4:
        raise ValueError(f"log_p is not normalized: log sum {total.abs().amax():.3g}")
    never = log_p == -math.inf
    safe = log_p.masked_fill(never, 0.0)
    apart = (safe - log_q).masked_fill(never, 0.0)
    return (safe.exp() * apart).sum(-1)
