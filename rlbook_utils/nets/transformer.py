"""A small GPT with masks and a cache of keys and values.

Positions are counted over real tokens, so padding on the left, on the right or none at
all gives the same logits at the real tokens; so does reading them through a cache.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Cache:
    """Keys and values of the tokens that a network has read.

    Parameters
    ----------
    rows, size : int
        Sequences, and most tokens of each.
    network : GPT
    """

    def __init__(self, rows: int, size: int, network: GPT) -> None:
        like = network.embed.weight
        width = network.width // network.heads
        shape = (len(network.blocks), 2, rows, network.heads, size, width)
        self.stored = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.mask = torch.zeros(rows, size, dtype=torch.bool, device=like.device)
        self.used = 0


class Block(nn.Module):
    """Causal self-attention and a two-layer network, each added to its input.

    Parameters
    ----------
    width, heads : int
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, allowed: Tensor, stored: Tensor | None, used: int
    ) -> Tensor:
        """Return the next layer's input; write keys and values where they are kept."""
        rows, size, width = x.shape
        qkv = self.qkv(self.norm(x)).view(rows, size, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if stored is not None:
            stored[0, :, :, used : used + size] = k
            stored[1, :, :, used : used + size] = v
            k, v = stored[:, :, :, : used + size]
        scores = q @ k.transpose(2, 3) / math.sqrt(width / self.heads)
        mixed = scores.masked_fill(~allowed, -math.inf).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, size, width))
        wide = functional.gelu(self.up(self.norm2(x)))
        return cast(Tensor, x + self.down(wide))


class GPT(nn.Module):
    """Next-token logits of a causal transformer with learned positions.

    Parameters
    ----------
    vocabulary : int
    context : int
        Most real tokens that it can read.
    generator : torch.Generator
        Draws the first weights, on the CPU.
    width, layers, heads : int
        `heads` divides `width`. 64, 2 and 4 make 0.1 million parameters.

    Raises
    ------
    ValueError
        If a size is not positive or `heads` does not divide `width`.

    Examples
    --------
    >>> net = GPT(20, 16, torch.Generator().manual_seed(0))
    >>> net(torch.zeros(3, 5, dtype=torch.long)).shape
    torch.Size([3, 5, 20])
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        generator: torch.Generator,
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if min(vocabulary, context, width, layers, heads) < 1 or width % heads:
            raise ValueError(
                f"vocabulary {vocabulary}, context {context}, width {width}, layers "
                f"{layers}, heads {heads}: all positive, heads dividing width"
            )
        self.vocabulary, self.context = vocabulary, context
        self.width, self.heads = width, heads
        self.embed = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                last = name.endswith(("out.weight", "down.weight"))
                scale = 0.05 / math.sqrt(2 * layers) if last else 0.05
                nn.init.normal_(weight, std=scale, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Return logits (B, L, V); those at position t are for the token at t + 1."""
        return cast(Tensor, self.head(self.hidden(tokens, mask, cache)))

    def hidden(
        self, tokens: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Return what the head reads, (B, L, width).

        `mask` (B, L) is True on real tokens; None: all are. With a cache, `tokens` are
        the ones after those that it holds. Raises ValueError if more real tokens than
        the context come together, or shapes differ.
        """
        size = tokens.shape[1]
        if mask is None:
            mask = torch.ones_like(tokens, dtype=torch.bool)
        if mask.shape != tokens.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"mask is {mask.dtype} {tuple(mask.shape)}: it must be bool "
                f"{tuple(tokens.shape)}"
            )
        used, seen = 0, mask
        if cache is not None:
            used = cache.used
            cache.mask[:, used : used + size] = mask
            cache.used = used + size
            seen = cache.mask[:, : used + size]
        count = seen.cumsum(1)
        longest = int(count[:, -1].max())
        if longest > self.context:
            raise ValueError(f"{longest} tokens: the context holds {self.context}")
        places = (count[:, used:] - 1).clamp(min=0)
        own = torch.arange(used + size, device=tokens.device)
        # A masked token sees itself, or its softmax would have nothing to sum over.
        late, here = own[used:, None] > own, own[used:, None] == own
        allowed = ((late & seen[:, None]) | here)[:, None]
        x = self.embed(tokens) + self.place(places)
        for layer, block in enumerate(self.blocks):
            kept = None if cache is None else cache.stored[layer]
            x = block(x, allowed, kept, used)
        return cast(Tensor, self.norm(x))
