"""PPO and TRPO against enumeration, the exact gradient and numbers by hand."""

import math

import numpy as np
import pytest
import torch

from rlbook_utils import ppo
from rlbook_utils.actor_critic import advantages, collect
from rlbook_utils.core import returns, stats
from rlbook_utils.nets.networks import ActorCritic, Judged
from rlbook_utils.policy_gradient import softmax
from rlbook_utils.worlds import control, grids, mdp

GAMMA = 0.9
SEEDS = range(5)


def seeded(seed=0):
    return np.random.default_rng(seed)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def world(seed=0):
    return mdp.random_mdp(4, 3, seeded(seed), successors=2, gamma=GAMMA)


def logits(seed=0):
    return seeded(100 + seed).normal(size=(4, 3))


def tabular(seed=0):
    """Return weights d(s) pi_old(a|s), advantages and log pi_old, as tensors (S, A)."""
    m, pi = world(seed), softmax(logits(seed))
    values = m.evaluate(pi)
    gaps = m.q_values(values) - values[:, None]
    weights = m.occupancy(pi)[:, None] * pi
    return tuple(torch.tensor(x) for x in (weights, gaps, np.log(pi)))


def gradient(loss, theta, weights):
    return torch.autograd.grad((weights * loss(theta.log_softmax(1))).sum(), theta)[0]


def exact_return(m, theta):
    """J as a differentiable function of the logits, by a linear solve."""
    pi = theta.softmax(1)
    P = torch.tensor(m.dense())
    chain = torch.einsum("sa,ast->st", pi, P)
    reward = (pi * torch.tensor(m.r)).sum(1)
    eye = torch.eye(m.states, dtype=torch.float64)
    return torch.tensor(m.start) @ torch.linalg.solve(eye - m.gamma * chain, reward)


# The expected gradients


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["surrogate", "clipped", "a2c"])
def test_at_ratio_one_the_expected_gradient_is_the_policy_gradient(seed, kind):
    weights, gaps, old = tabular(seed)
    theta = torch.tensor(logits(seed), requires_grad=True)
    loss = {
        "surrogate": lambda new: ppo.surrogate_loss(new - old, gaps),
        "clipped": lambda new: ppo.clipped_loss(new - old, gaps, 0.2),
        "a2c": lambda new: -new * gaps,
    }[kind]
    found = gradient(loss, theta, weights)
    exact = torch.autograd.grad(exact_return(world(seed), theta), theta)[0]
    torch.testing.assert_close(-found, exact, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_away_from_the_old_policy_it_has_the_gradient_of_the_exact_surrogate(seed):
    weights, gaps, old = tabular(seed)
    theta = torch.tensor(logits(seed + 7), requires_grad=True)
    found = gradient(lambda new: ppo.surrogate_loss(new - old, gaps), theta, weights)
    visits = torch.tensor(world(seed).occupancy(softmax(logits(seed))))
    L = (visits[:, None] * theta.softmax(1) * gaps).sum()
    exact = torch.autograd.grad(L, theta)[0]
    torch.testing.assert_close(-found, exact, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_kl_terms_have_value_and_gradient_of_the_kl_from_the_old_policy(seed):
    weights, _, old = tabular(seed)
    theta = torch.tensor(logits(seed + 7), requires_grad=True)
    found = gradient(lambda new: ppo.kl_terms(new - old), theta, weights)
    visits = weights.sum(1)
    kl = (visits[:, None] * old.exp() * (old - theta.log_softmax(1))).sum()
    exact = torch.autograd.grad(kl, theta)[0]
    torch.testing.assert_close(found, exact, atol=1e-12, rtol=1e-9)
    value = (weights * ppo.kl_terms(theta.log_softmax(1) - old)).sum()
    torch.testing.assert_close(value, kl)


def test_the_clipped_gradient_is_zero_in_two_of_six_zones():
    for gap, ratio, active in [
        (1, 0.5, True),
        (1, 1.0, True),
        (1, 1.5, False),
        (-1, 0.5, False),
        (-1, 1.0, True),
        (-1, 1.5, True),
    ]:
        log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
        ppo.clipped_loss(log_ratio, torch.tensor([float(gap)]), 0.2).backward()
        assert log_ratio.grad.item() == pytest.approx(-gap * ratio if active else 0)


def test_min_of_the_ratios_is_another_objective():
    # min(rho, clamp(rho)) A with A < 0 and rho = 1.5: -1.2 with gradient 0, not -1.5.
    log_ratio = torch.tensor([math.log(1.5)], requires_grad=True)
    wrong = torch.minimum(log_ratio.exp(), log_ratio.exp().clamp(0.8, 1.2)) * -1.0
    wrong.sum().backward()
    assert log_ratio.grad.item() == 0
    right = ppo.clipped_loss(log_ratio.detach(), torch.tensor([-1.0]), 0.2)
    assert right.item() == pytest.approx(1.5) and wrong.item() == pytest.approx(-1.2)


def test_another_epsilon_above_moves_only_the_upper_edge():
    log_ratio = torch.tensor([1.25, 0.7]).log()
    gaps = torch.tensor([1.0, -1.0])
    found = ppo.clipped_loss(log_ratio, gaps, 0.2, 0.28)
    torch.testing.assert_close(found, torch.tensor([-1.25, 0.8]))


# The critic's loss, the penalty


def test_value_loss_by_hand_with_and_without_clipping():
    # V = 1, V_old = 0, y = 3: 4; clipped at .2 it is (.2 - 3)^2 = 7.84. y = -3: V went
    # away from y, (1 + 3)^2 = 16 beats (.2 + 3)^2 = 10.24 and keeps its gradient.
    values = torch.tensor([1.0, 1.0], requires_grad=True)
    targets, old = torch.tensor([3.0, -3.0]), torch.zeros(2)
    torch.testing.assert_close(
        ppo.value_loss(values, targets).detach(), torch.tensor([4.0, 16.0])
    )
    found = ppo.value_loss(values, targets, old, 0.2)
    torch.testing.assert_close(found.detach(), torch.tensor([7.84, 16.0]))
    found.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([0.0, 8.0]))


def test_the_penalty_is_adapted_by_the_published_rule():
    target = 0.01
    for kl, factor in [
        (0, 0.5),
        (0.0066, 0.5),
        (0.0067, 1),
        (0.0149, 1),
        (0.0151, 2),
        (math.inf, 2),
    ]:
        assert ppo.adapted(3.0, kl, target) == 3.0 * factor


# Pitfalls


def test_pitfall_1_and_2_the_bootstrap_is_of_the_state_reached():
    """The clock stops every episode: V(final) counts, not 0, nor the next start."""
    task = control.CARTPOLE._replace(limit=3)
    generator = source()
    net = ActorCritic(4, 2, 0, generator)
    state, seen = control.reset(task, 4, generator)
    _, _, batch = collect(task, net, state, seen, 3, generator)
    assert batch.truncated[:, -1].all() and not batch.terminated.any()
    gaps, _ = advantages(net, batch, GAMMA, 1.0)
    with torch.no_grad():
        v, reached = net.values(batch.seen), net.values(batch.final[:, -1])
    right = 1 + GAMMA + GAMMA**2 + GAMMA**3 * reached - v[:, 0]
    torch.testing.assert_close(gaps[:, 0], right)
    wrong = batch._replace(terminated=batch.truncated)
    assert (advantages(net, wrong, GAMMA, 1.0)[0] - gaps)[:, 0].abs().max() > 1e-3


def test_pitfall_1_the_switch_takes_the_clock_for_the_end(monkeypatch):
    merged = []

    def spy(net, batch, gamma, lam):
        merged.append(bool((batch.terminated & batch.truncated).any()))
        return advantages(net, batch, gamma, lam)

    monkeypatch.setattr(ppo, "advantages", spy)
    task = control.CARTPOLE._replace(limit=3)
    few = ppo.Settings(envs=2, steps=4, minibatch=8, epochs=1)
    for right in (True, False):
        ppo.train_ppo(task, 0, 1, few._replace(bootstrap=right), episodes=2)
    assert merged == [False, True]


def test_pitfall_11_approx_kl_is_the_kl_from_the_old_policy():
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.5, 0.3])
    from_old = (p * (p / q).log()).sum()
    from_new = (q * (q / p).log()).sum()
    log_ratio = (q / p).log()
    right = (p * ppo.kl_terms(log_ratio)).sum()
    wrong = (p * ppo.kl_terms(-log_ratio)).sum()
    torch.testing.assert_close(right, from_old)
    assert abs(wrong - from_old) > 0.3 and abs(wrong - from_new) > 0.1


def pushed(clip, steps=200, seed=0):
    """Return diagnostics of one batch of CartPole pushed by so many Adam steps."""
    generator = source(seed)
    net = ActorCritic(4, 2, 0, generator)
    state, seen = control.reset(control.CARTPOLE, 16, generator)
    _, _, batch = collect(control.CARTPOLE, net, state, seen, 32, generator)
    gaps, targets = advantages(net, batch, 0.99, 0.95)
    data = ppo.freeze(net, (batch.seen, batch.actions), gaps, targets)
    c = ppo.Settings(epochs=steps, minibatch=10**6, clip=clip)
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    return ppo.update(net, adam, data, c, generator)


@pytest.mark.parametrize("seed", SEEDS)
def test_pitfall_20_ratios_leave_the_interval_and_clipping_keeps_them_near(seed):
    tight, free = pushed(0.1, seed=seed), pushed(None, seed=seed)
    assert tight.max_ratio > 1.1 and tight.clip_fraction > 0
    assert free.max_ratio > 1.5 * tight.max_ratio
    assert free.approx_kl > 5 * tight.approx_kl


def test_pitfall_21_targets_stay_frozen_through_the_epochs(monkeypatch):
    seen = []
    right = ppo.ppo_loss

    def spy(judged, data, settings, beta=0.0):
        seen.append((data.targets.clone(), data.values_old.clone()))
        return right(judged, data, settings, beta)

    monkeypatch.setattr(ppo, "ppo_loss", spy)
    pushed(0.2, steps=3)
    for targets, old in seen[1:]:
        # The order of the samples is drawn anew in each epoch.
        torch.testing.assert_close(targets.sort()[0], seen[0][0].sort()[0])
        torch.testing.assert_close(old.sort()[0], seen[0][1].sort()[0])


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: ppo.surrogate_loss(x, y),
        lambda x, y: ppo.clipped_loss(x, y, 0.2),
        lambda x, y: ppo.value_loss(x, y),
        lambda x, y: ppo.value_loss(x, x, y, 0.2),
    ],
)
def test_pitfall_22_a_column_and_a_row_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(5, 1\).*\(5,\).*must agree"):
        loss(torch.zeros(5, 1), torch.zeros(5))


def test_pitfall_27_the_best_seed_is_not_the_method():
    draws = seeded(0).normal(size=(4, 10))
    point = stats.stratified_bootstrap_iqm(draws, rng=seeded(1))
    assert point.low < 0 < point.high < draws.max(1).mean()


# Trust regions


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_holds_and_its_parts_are_right(seed):
    m, old = world(seed), softmax(logits(seed))
    new = softmax(logits(seed) + 0.3 * seeded(seed).normal(size=(4, 3)))
    found = ppo.improvement_bound(m, old, new)
    assert found.bound <= found.new + 1e-12
    assert found.new == pytest.approx(m.start @ m.evaluate(new))
    values = m.evaluate(old)
    gaps = m.q_values(values) - values[:, None]
    constant = 4 * np.abs(gaps).max() * 0.9 / 0.01
    assert math.isclose(found.C, constant)
    kl = (old * np.log(old / new)).sum(1)
    assert found.max_kl == pytest.approx(kl.max())
    assert found.mean_kl == pytest.approx(m.occupancy(old) @ kl * 0.1)
    # The performance difference: states as the *new* policy visits them.
    J = found.old + m.occupancy(new) @ (new * gaps).sum(1)
    assert found.new == pytest.approx(J)
    assert found.surrogate == pytest.approx(
        found.old + m.occupancy(old) @ (new * gaps).sum(1)
    )


def test_the_bound_copes_with_ends_and_with_no_change():
    lake = grids.frozen_lake(4, gamma=0.95)
    pi = np.full((16, 4), 0.25)
    same = ppo.improvement_bound(lake, pi, pi)
    assert same.bound == pytest.approx(same.new, abs=1e-15)
    away = np.tile([0.1, 0.4, 0.4, 0.1], (16, 1))
    found = ppo.improvement_bound(lake, pi, away)
    assert found.bound < found.new


def test_surrogate_and_return_agree_to_first_order():
    m, theta = world(), logits()
    way = seeded(3).normal(size=(4, 3))
    gaps = []
    for size in (1e-2, 1e-3):
        found = ppo.improvement_bound(m, softmax(theta), softmax(theta + size * way))
        gaps.append(abs(found.surrogate - found.new))
    assert gaps[1] < gaps[0] / 50


def test_conjugate_gradient_solves_in_as_many_steps_as_the_dimension():
    root = torch.tensor(seeded().normal(size=(6, 6)))
    F = root @ root.T + torch.eye(6)
    b = torch.tensor(seeded(1).normal(size=6))
    found = ppo.conjugate_gradient(lambda v: F @ v, b, 6, 1e-20)
    torch.testing.assert_close(found, torch.linalg.solve(F, b))


def trust_region(max_kl=0.01, damping=0.0, seed=0, halvings=10):
    weights, gaps, old = tabular(seed)
    theta = torch.tensor(logits(seed), requires_grad=True)

    def gain():
        return -(weights * ppo.surrogate_loss(theta.log_softmax(1) - old, gaps)).sum()

    def kl():
        share = weights / weights.sum()
        return (share * ppo.kl_terms(theta.log_softmax(1) - old)).sum()

    step = ppo.trust_region_step(
        [theta], gain, kl, max_kl, damping=damping, iterations=50, halvings=halvings
    )
    return step, theta.detach(), weights


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_is_along_the_natural_gradient_and_inside_the_region(seed):
    step, theta, weights = trust_region(1e-4, seed=seed, damping=1e-9)
    assert 0 < step.kl <= 1e-4 and step.gain > 0 and step.share in (1.0, 0.5)
    m, start = world(seed), torch.tensor(logits(seed), requires_grad=True)
    slope = torch.autograd.grad(exact_return(m, start), start)[0].flatten()
    pi, visits = start.detach().softmax(1), weights.sum(1) / weights.sum()
    blocks = [
        v * (torch.diag(p) - torch.outer(p, p)) for v, p in zip(visits, pi, strict=True)
    ]
    natural = torch.linalg.pinv(torch.block_diag(*blocks)) @ slope
    moved = (theta - start.detach()).flatten()
    cosine = torch.cosine_similarity(moved, natural, dim=0)
    assert cosine.item() > 1 - 1e-6
    assert not torch.cosine_similarity(moved, slope, dim=0) > 0.999


def test_steps_climb_to_the_optimum_of_the_exact_objective():
    m, theta = world(), torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    best = m.start @ m.solve().values
    scores = []
    for _ in range(60):
        pi = softmax(theta.detach().numpy())
        values = m.evaluate(pi)
        gaps = torch.tensor(m.q_values(values) - values[:, None])
        weights = torch.tensor(m.occupancy(pi)[:, None] * pi)
        old = torch.tensor(np.log(pi))

        def gain(weights=weights, gaps=gaps, old=old):
            new = theta.log_softmax(1)
            return -(weights * ppo.surrogate_loss(new - old, gaps)).sum()

        def kl(weights=weights, old=old):
            return (0.1 * weights * ppo.kl_terms(theta.log_softmax(1) - old)).sum()

        ppo.trust_region_step([theta], gain, kl, 0.02)
        scores.append(m.start @ m.evaluate(softmax(theta.detach().numpy())))
    assert np.diff(scores).min() > -1e-9 and scores[-1] > best - 0.02


def test_a_step_that_cannot_improve_changes_nothing():
    x = torch.ones(2, requires_grad=True)
    step = ppo.trust_region_step(
        [x], lambda: -(x - 1).square().sum() - 1, lambda: (x - 1).square().sum(), 0.1
    )
    assert step == (0.0, 0.0, 0.0) and x.tolist() == [1.0, 1.0]


# The loop


def test_the_whole_loss_is_the_sum_of_its_parts():
    parts = [torch.tensor(seeded(k).normal(size=9)) for k in range(7)]
    judged = Judged(*parts[:3])
    data = ppo.Samples(parts[0], parts[0], *parts[3:])
    c = ppo.Settings(normalize=False, value_clip=0.3, entropy_weight=0.02, clip=0.1)
    found = ppo.ppo_loss(judged, data, c, beta=0.7)
    log_ratio = judged.logp - data.logp_old
    by_hand = ppo.clipped_loss(log_ratio, data.advantages, 0.1)
    by_hand = by_hand + 0.7 * (log_ratio.exp() - 1 - log_ratio)
    by_hand = by_hand + 0.5 * ppo.value_loss(
        judged.values, data.targets, data.values_old, 0.3
    )
    torch.testing.assert_close(found, by_hand - 0.02 * judged.entropy)
    scaled = data._replace(advantages=5 * data.advantages + 3)
    c = c._replace(normalize=True)
    torch.testing.assert_close(
        ppo.ppo_loss(judged, data, c), ppo.ppo_loss(judged, scaled, c)
    )


def test_diagnostics_by_hand():
    generator = source()
    net = ActorCritic(2, 2, 0, generator)
    seen, done = torch.randn(6, 2, generator=generator), torch.ones(6).long()
    data = ppo.freeze(net, (seen, done), torch.ones(6), torch.arange(6.0))
    shifted = torch.tensor([0.0, 0.0, 0.1, 0.3, -0.3, 0.5])
    data = data._replace(
        logp_old=data.logp_old - shifted,
        values_old=torch.arange(6.0) / 2,
    )
    found = ppo.diagnose(net, data)
    kl = (shifted.exp() - 1 - shifted).mean()
    assert found.approx_kl == pytest.approx(kl.item(), abs=1e-6)
    assert found.clip_fraction == pytest.approx(0.5)
    assert found.max_ratio == pytest.approx(math.exp(0.5), rel=1e-5)
    assert found.explained_variance == pytest.approx(0.75)


def test_epochs_stop_once_the_kl_is_too_large():
    generator = source()
    net = ActorCritic(4, 2, 0, generator)
    state, seen = control.reset(control.CARTPOLE, 16, generator)
    _, _, batch = collect(control.CARTPOLE, net, state, seen, 32, generator)
    gaps, targets = advantages(net, batch, 0.99, 0.95)
    data = ppo.freeze(net, (batch.seen, batch.actions), gaps, targets)
    c = ppo.Settings(epochs=50, clip=None, stop_kl=0.02)
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    found = ppo.update(net, adam, data, c, generator)
    assert found.approx_kl > 0.02 and 1 <= found.epochs < 50


def test_one_epoch_of_one_minibatch_is_a_policy_gradient_step():
    generator = source()
    net = ActorCritic(4, 2, 0, generator)
    seen, done = torch.randn(8, 4, generator=generator), torch.ones(8).long()
    gaps, targets = torch.randn(2, 8, generator=generator)
    data = ppo.freeze(net, (seen, done), gaps, targets)
    judged = net.judge(seen, done)
    loss = ppo.ppo_loss(judged, data, ppo.Settings(normalize=False)).mean()
    found = torch.autograd.grad(loss, list(net.actor.parameters()))
    plain = (-gaps * net.judge(seen, done).logp).mean()
    exact = torch.autograd.grad(plain, list(net.actor.parameters()))
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


FEW = ppo.Settings(envs=4, steps=16, minibatch=32, epochs=2)


def test_a_seed_decides_everything_and_workers_change_nothing():
    jobs = [(control.PENDULUM, seed, 2, FEW) for seed in (0, 0, 1)]
    made = ppo.train_seeds(jobs, episodes=3)
    alone = ppo.train_ppo(*jobs[0], episodes=3)
    for other in (made[1], alone):
        np.testing.assert_allclose(made[0].returns, other.returns, rtol=1e-4)
    assert not np.allclose(made[0].returns, made[2].returns, rtol=1e-2)
    assert made[0].steps.tolist() == [64, 128]
    for a, b in zip(made[0].net.parameters(), alone.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_evaluations_do_not_change_the_training():
    often = ppo.train_ppo(control.CARTPOLE, 0, 3, FEW, every=1, episodes=3)
    once = ppo.train_ppo(control.CARTPOLE, 0, 3, FEW, every=3, episodes=5)
    assert often.updates == once.updates


def test_an_adaptive_penalty_holds_the_kl_near_its_target():
    c = FEW._replace(clip=None, kl_target=0.01, lr=3e-3, epochs=6, envs=8, steps=32)
    made = ppo.train_ppo(control.CARTPOLE, 0, 40, c, every=40, episodes=2)
    late = np.median([u.approx_kl for u in made.updates[10:]])
    assert 0.003 < late < 0.03


def test_training_stops_at_the_level_and_says_where():
    made = ppo.train_ppo(control.CARTPOLE, 0, 5, FEW, episodes=3, level=0.0)
    assert len(made.steps) == 1 and made.solved(0.0) == 0
    assert made.solved(math.inf) is None


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_cartpole_is_solved_by_seeds_that_chose_nothing(seed):
    made = ppo.train_ppo(control.CARTPOLE, seed, 40, level=475.0, greedy=False)
    assert made.solved(475.0) is not None and made.returns.shape[1] == 100


# Bad input


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ppo.clipped_loss(torch.zeros(1), torch.zeros(1), 0.0), "clip is 0.0"),
        (
            lambda: ppo.clipped_loss(torch.zeros(1), torch.zeros(1), 0.1, -1.0),
            "clip_high is -1.0",
        ),
        (lambda: ppo.value_loss(torch.zeros(1), torch.zeros(1), clip=-1.0), "clip is"),
        (lambda: ppo.value_loss(torch.zeros(1), torch.zeros(1), clip=1.0), "None"),
        (lambda: ppo.adapted(0.0, 0.1, 0.1), "beta is 0.0"),
        (lambda: ppo.adapted(1.0, 0.1, -0.1), "target is -0.1"),
        (lambda: ppo.adapted(1.0, math.nan, 0.1), "kl is nan"),
        (lambda: ppo.conjugate_gradient(lambda v: v, torch.ones(1), 0), "iterations"),
        (
            lambda: ppo.trust_region_step([], lambda: 0, lambda: 0, 0.0),
            "max_kl is 0.0",
        ),
        (
            lambda: ppo.trust_region_step([], lambda: 0, lambda: 0, 1.0, damping=-1.0),
            "damping is -1.0",
        ),
        (lambda: ppo.train_ppo(control.CARTPOLE, 0, 0), "iterations is 0"),
        (
            lambda: ppo.train_ppo(control.CARTPOLE, 0, 1, FEW._replace(lr=-1.0)),
            "lr is -1.0",
        ),
        (
            lambda: ppo.train_ppo(control.CARTPOLE, 0, 1, FEW._replace(minibatch=9)),
            "64 samples in minibatches of 9",
        ),
    ],
)
def test_bad_numbers_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_negative_penalty_is_refused():
    judged, zero = Judged(*[torch.zeros(2)] * 3), torch.zeros(2)
    with pytest.raises(ValueError, match="beta is -1"):
        ppo.ppo_loss(judged, ppo.Samples(*[zero] * 6), ppo.Settings(), -1.0)


def test_bounds_refuse_what_has_none():
    m, pi = world(), np.full((4, 3), 1 / 3)
    with pytest.raises(ValueError, match="new excludes action 0 in state 0"):
        ppo.improvement_bound(m, pi, np.zeros(4, int) + 1)
    endless = grids.frozen_lake(4, gamma=1.0)
    with pytest.raises(ValueError, match="gamma is 1"):
        half = np.full((16, 4), 0.25)
        ppo.improvement_bound(endless, half, half)


def test_lambda_one_is_the_return_minus_the_value():
    generator = source()
    net = ActorCritic(4, 2, 0, generator)
    state, seen = control.reset(control.CARTPOLE, 3, generator)
    _, _, batch = collect(control.CARTPOLE, net, state, seen, 8, generator)
    _, targets = advantages(net, batch, GAMMA, 1.0)
    with torch.no_grad():
        ahead = net.values(batch.final)
    exact = returns.discounted_returns(
        batch.rewards, GAMMA, ahead, batch.terminated, batch.truncated
    )
    torch.testing.assert_close(targets, exact)
