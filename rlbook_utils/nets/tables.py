"""A table in place of a network: the policy, or the critic, of a language of few words.

It has the interface of the GPT, so that what trains the one trains the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """One row of numbers for each prompt and prefix, in the order of `TokenMDP`.

    Token V + x is prompt x and stands first.

    Parameters
    ----------
    vocabulary, length, prompts : int
        V, most tokens of a response, number of prompts; all positive.
    outputs : int, optional
        Numbers in a row; V of them, the logits of the next token, by default.
    start : Tensor, optional
        (prompts, prefixes, outputs) to begin with; 0 by default.

    Attributes
    ----------
    rows : (prompts, prefixes, outputs) Parameter
        float64.

    Raises
    ------
    ValueError
        If a size is not positive or `start` has another shape.

    Examples
    --------
    >>> table = Table(8, 4, 1)
    >>> table(torch.tensor([[8, 3, 5]])).shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        prompts: int,
        *,
        outputs: int | None = None,
        start: Tensor | None = None,
    ) -> None:
        super().__init__()
        if vocabulary < 2 or min(length, prompts) < 1:
            raise ValueError(
                f"vocabulary {vocabulary}, length {length}, prompts {prompts}: they "
                "must be at least 2, 1 and 1"
            )
        self.vocabulary, self.length, self.context = vocabulary, length, length + 1
        sizes = [vocabulary**t for t in range(length)]
        shape = (prompts, sum(sizes), outputs or vocabulary)
        if start is not None and tuple(start.shape) != shape:
            raise ValueError(
                f"start has shape {tuple(start.shape)}: it must be {shape}"
            )
        zeros = torch.zeros(shape, dtype=torch.float64)
        self.rows = nn.Parameter(zeros if start is None else start.detach().clone())
        begins = torch.tensor([sum(sizes[:t]) for t in range(length)])
        self.begins: Tensor
        self.register_buffer("begins", begins)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, cache: object = None
    ) -> Tensor:
        """Return the rows (B, L, outputs) of prompt and prefix; 0 beyond the length.

        `mask` and `cache` are there for the interface and change nothing. Raises
        ValueError if the first token is no prompt, or a later one no token.
        """
        self._known(tokens)
        codes = [torch.zeros_like(tokens[:, 0])]
        known = min(tokens.shape[1], self.length)
        for t in range(1, known):
            codes.append(codes[-1] * self.vocabulary + tokens[:, t])
        places = self.begins[:known] + torch.stack(codes, 1)
        found = self.rows[(tokens[:, :1] - self.vocabulary), places]
        short = tokens.shape[1] - known
        return nn.functional.pad(found, (0, 0, 0, short))

    def _known(self, tokens: Tensor) -> None:
        first, rest = tokens[:, :1], tokens[:, 1 : self.length]
        for name, found, low, high in (
            ("first token", first, self.vocabulary, len(self.rows)),
            ("token", rest, 0, self.vocabulary),
        ):
            wrong = found[(found < low) | (found >= low + high)]
            if len(wrong):
                raise ValueError(
                    f"{name} is {wrong[0]}: it must be from {low} to {low + high - 1}"
                )
