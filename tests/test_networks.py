"""Networks: N nets at once are each net; policies are what they say they are."""

import math
import re

import numpy as np
import pytest
import torch

from rlbook_utils.nets.networks import MLP, ActorCritic, clip_gradients, orthogonal


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 3, 5), (2, 5, 3)])
def test_orthogonal_matrices_are(shape):
    w = orthogonal(shape, 1.5, seeded())
    assert w.shape == shape
    small = w @ w.mT if shape[-2] <= shape[-1] else w.mT @ w
    eye = 2.25 * torch.eye(small.shape[-1]).expand(small.shape)
    torch.testing.assert_close(small, eye, atol=1e-5, rtol=0)


def one_of(net, k):
    """Return the k-th of N nets as a single one."""
    sizes = [net.inputs, *(w.shape[-1] for w in net.weights)]
    single = MLP(sizes, seeded())
    with torch.no_grad():
        for ours, theirs in zip(single.weights, net.weights, strict=True):
            ours.copy_(theirs[k])
        for ours, theirs in zip(single.biases, net.biases, strict=True):
            theirs[k].add_(0.3)
            ours.copy_(theirs[k, 0])
    return single


def test_many_nets_are_each_net_and_so_are_their_gradients():
    net = MLP((4, 8, 8, 2), seeded(), seeds=3)
    x = torch.randn(3, 7, 4, generator=seeded(1))
    singles = [one_of(net, k) for k in range(3)]
    out = net(x)
    out.square().sum().backward()
    for k, single in enumerate(singles):
        alone = single(x[k])
        torch.testing.assert_close(out[k], alone)
        alone.square().sum().backward()
        for ours, theirs in zip(single.weights, net.weights, strict=True):
            torch.testing.assert_close(theirs.grad[k], ours.grad)
        for ours, theirs in zip(single.biases, net.biases, strict=True):
            torch.testing.assert_close(theirs.grad[k, 0], ours.grad)


def test_a_single_net_takes_any_leading_shape():
    net = MLP((4, 8, 2), seeded(), relu=True)
    x = torch.randn(3, 5, 4, generator=seeded(1))
    torch.testing.assert_close(net(x), torch.stack([net(row) for row in x]))
    assert net(x[0, 0]).shape == (2,)


def test_gains_and_biases_at_the_start():
    net = MLP((4, 64, 2), seeded(), gain=0.01)
    first, last = (torch.linalg.svdvals(w) for w in net.weights)
    torch.testing.assert_close(first, torch.full_like(first, math.sqrt(2)))
    torch.testing.assert_close(last, torch.full_like(last, 0.01))
    assert all((bias == 0).all() for bias in net.biases)


def spoiled(actions, dimensions, seeds=None):
    """Return an actor-critic whose actor is far from uniform."""
    net = ActorCritic(3, actions, dimensions, seeded(), hidden=(8,), seeds=seeds)
    with torch.no_grad():
        net.actor.weights[-1].mul_(100)
        if net.log_std is not None:
            net.log_std.add_(torch.tensor([-0.5, 0.4]))
    return net


def test_a_categorical_policy_sums_to_one_and_is_sampled_as_it_says():
    net, count = spoiled(3, 0), 20_000
    seen = torch.randn(1, 3, generator=seeded(1)).expand(count, 3)
    logs = torch.stack(
        [net.judge(seen[:1], torch.tensor([a])).logp[0] for a in range(3)]
    )
    pi = logs.exp().detach()
    torch.testing.assert_close(pi.sum(), torch.tensor(1.0))
    entropy = net.judge(seen[:1], torch.tensor([0])).entropy[0]
    torch.testing.assert_close(entropy, -(pi * pi.log()).sum())
    action = net.act(seen, seeded(2))
    share = torch.bincount(action, minlength=3) / count
    # Five standard errors of a frequency.
    assert (abs(share - pi) < 5 * (pi * (1 - pi) / count).sqrt()).all()
    assert (net.act(seen) == pi.argmax()).all()


def test_a_gaussian_policy_is_torchs_normal_and_is_sampled_as_it_says():
    net, count = spoiled(0, 2), 20_000
    seen = torch.randn(1, 3, generator=seeded(1)).expand(count, 3)
    action = net.act(seen, seeded(2))
    mean, std = net.act(seen)[0], net.log_std.exp().detach()
    judged = net.judge(seen, action)
    normal = torch.distributions.Normal(mean, std)
    torch.testing.assert_close(judged.logp, normal.log_prob(action).sum(-1))
    torch.testing.assert_close(judged.entropy[0], normal.entropy().sum())
    assert judged.entropy.shape == (count,)
    assert (abs(action.mean(0) - mean) < 5 * std / math.sqrt(count)).all()
    assert (abs(action.std(0) / std - 1) < 5 / math.sqrt(2 * count)).all()


@pytest.mark.parametrize(("actions", "dimensions"), [(3, 0), (0, 2)])
def test_seeds_have_policies_of_their_own(actions, dimensions):
    net = spoiled(actions, dimensions, seeds=4)
    seen = torch.randn(4, 6, 3, generator=seeded(1))
    action = net.act(seen, seeded(2))
    assert action.shape == ((4, 6) if actions else (4, 6, 2))
    judged = net.judge(seen, action)
    assert judged.logp.shape == judged.entropy.shape == judged.values.shape == (4, 6)
    judged.logp[1].sum().backward()
    for parameter in net.actor.parameters():
        moved = parameter.grad.flatten(1).abs().sum(1) > 0
        assert moved.tolist() == [False, True, False, False]


def test_clipping_is_torchs_for_one_net():
    net, same = MLP((3, 8, 1), seeded()), MLP((3, 8, 1), seeded())
    for each in (net, same):
        each(torch.ones(5, 3)).square().sum().backward()
    norm = clip_gradients(net.parameters(), 0.1)
    torch.testing.assert_close(
        norm[0], torch.nn.utils.clip_grad_norm_(same.parameters(), 0.1)
    )
    for a, b in zip(net.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7)


def test_clipping_many_nets_at_once_is_not_clipping_each():
    net = MLP((3, 8, 1), seeded(), seeds=2)
    x = torch.ones(2, 5, 3)
    (net(x).square().sum((1, 2)) * torch.tensor([1.0, 1000.0])).sum().backward()
    norms = clip_gradients(net.parameters(), 0.1, seeds=2)
    assert norms[1] > 10 * norms[0]
    rows = torch.cat([p.grad.flatten(1) for p in net.parameters()], 1)
    np.testing.assert_allclose(rows.norm(dim=1), [0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLP((4,), seeded()), "sizes is (4,)"),
        (lambda: MLP((4, 0, 1), seeded()), "sizes is (4, 0, 1)"),
        (lambda: MLP((4, 1), seeded(), seeds=0), "seeds is 0"),
        (
            lambda: MLP((4, 1), seeded())(torch.zeros(2, 3)),
            "x has shape (2, 3): the net needs (..., 4)",
        ),
        (
            lambda: MLP((4, 1), seeded(), seeds=2)(torch.zeros(3, 4)),
            "x has shape (3, 4): the net needs (2, B, 4)",
        ),
        (
            lambda: MLP((4, 1), seeded(), seeds=2)(torch.zeros(3, 5, 4)),
            "x has shape (3, 5, 4): the net needs (2, B, 4)",
        ),
        (
            lambda: ActorCritic(4, 2, 1, seeded()),
            "actions is 2 and dimensions is 1",
        ),
        (
            lambda: ActorCritic(4, 0, 0, seeded()),
            "actions is 0 and dimensions is 0",
        ),
        (
            lambda: ActorCritic(4, 2, 0, seeded()).judge(
                torch.zeros(3, 4), torch.zeros(3, 1).long()
            ),
            "action has shape (3, 1): it must be (3,)",
        ),
        (lambda: clip_gradients([], 0.0), "most is 0.0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
