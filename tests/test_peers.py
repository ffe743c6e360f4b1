"""The book beside other libraries, which only the bench's environment holds."""

import bench
import numpy as np
import peers
import pytest
import torch
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from rlbook_utils.worlds import tasks


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
