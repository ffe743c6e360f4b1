"""Answers of the checkers of the chapter `dpo`, by hand."""

import math

import pytest
import torch

from rlbook_utils.checks import dpo as check


def test_weights_by_hand():
    # beta .5: margins 0, 3 and -4: .5 / (1 + exp(.5 m)) = .25, .09121, .44040.
    found = check.weight.oracle(**check.weight.cases[0])
    assert found.tolist() == pytest.approx([0.25, 0.09121, 0.44040], abs=1e-5)


def test_a_step_of_training_by_hand():
    # Equal logits, one pair, beta 1: the gradient is -.5 at the chosen and .5 at the
    # rejected, so one step gives logits .5 and -.5: log sigmoid(1) and log sigmoid(-1).
    flat, pair = torch.zeros(2), torch.tensor([[0, 1]])
    found = check.training.oracle(flat, pair, 1.0, 1)
    assert found.tolist() == pytest.approx([-0.31326, -1.31326], abs=1e-5)


def test_training_rests_where_the_labels_say():
    # Answer 1 beat answer 0 three times of four, 2 and 1 are even: the margins of the
    # best policy are ln 3 / beta and 0.
    case = {**check.training.cases[0], "steps": 5000}
    h = check.training.oracle(**case) - case["reference"]
    assert (h[1] - h[0]).item() == pytest.approx(math.log(3) / 0.5, abs=1e-3)
    assert (h[2] - h[1]).item() == pytest.approx(0.0, abs=1e-3)


def test_a_reference_that_is_the_policy_is_named():
    def aliased(reference, pairs, beta, steps):
        policy = reference.requires_grad_()
        for _ in range(steps):
            h = policy.log_softmax(-1) - reference.log_softmax(-1).detach()
            margin = h[pairs[:, 0]] - h[pairs[:, 1]]
            loss = -torch.nn.functional.logsigmoid(beta * margin).mean()
            assert abs(loss.item() - math.log(2)) < 1e-6
            (slope,) = torch.autograd.grad(loss, policy)
            with torch.no_grad():
                policy -= slope
        return policy.detach().log_softmax(-1)

    verdict = check.training.judge(aliased)
    assert not verdict.passed and "It needs a copy" in verdict.message


def test_the_noisy_loss_by_hand():
    # .7 log(1 + exp(-1)) + .3 log(1 + exp(1)) = .7 * .31326 + .3 * 1.31326 = .61326.
    found = check.noisy_loss.oracle(**check.noisy_loss.cases[1])
    assert found.item() == pytest.approx(0.61326, abs=1e-5)
    assert found.item() > 0.7 * math.log(1 / 0.7) + 0.3 * math.log(1 / 0.3)
