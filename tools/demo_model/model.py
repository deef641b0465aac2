"""The Whisper network, with three shortcuts for training that leave the exported weights exactly Whisper's shape.

* Only tokens that occur in the data have a trained embedding row. Output channel 0 of the last layer norm is pinned
  to 1, so channel 0 of a row is that token's output bias; unused tokens get a very low one and zeros elsewhere.
* The rows of the timestamp tokens are a trained linear map of the encoder's position table, so every time is learnt
  together.
* Encoder positions may start at an offset, so short windows teach all positions.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.demo_model.tok import N_TIMESTAMPS, N_VOCAB, TIMESTAMP_BEGIN

N_AUDIO_CTX = 1500
N_TEXT_CTX = 448
UNUSED_TOKEN_BIAS = -30.0
MASKED = -1e4


def sinusoids(length: int, channels: int, max_timescale: int = 10_000) -> Tensor:
    """Return Whisper's table of positions: length by channels."""
    increment = math.log(max_timescale) / (channels // 2 - 1)
    inverse = torch.exp(-increment * torch.arange(channels // 2))
    scaled = torch.arange(length)[:, None] * inverse[None]
    return torch.cat([scaled.sin(), scaled.cos()], 1)


class Attention(nn.Module):
    """Multi-head attention that also returns its weights."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj, self.out_proj = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.k_proj = nn.Linear(d, d, bias=False)

    def forward(self, x: Tensor, source: Tensor | None = None, causal: bool = False) -> tuple[Tensor, Tensor]:
        source = x if source is None else source
        q, k, v = self._split(self.q_proj(x)), self._split(self.k_proj(source)), self._split(self.v_proj(source))
        # Plain products: on CPU in bfloat16 their backward pass is far quicker than the fused kernel's.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        if causal:
            n = scores.shape[-1]
            scores = scores + torch.full((n, n), MASKED, dtype=scores.dtype).triu(1)
        weights = scores.softmax(-1, dtype=scores.dtype)
        mixed = (weights @ v).transpose(1, 2).reshape(x.shape)
        return self.out_proj(mixed), weights

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class Layer(nn.Module):
    """A layer of the encoder, or with cross-attention one of the decoder."""

    def __init__(self, d: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.self_attn, self.self_attn_layer_norm = Attention(d, heads), nn.LayerNorm(d)
        if cross:
            self.encoder_attn, self.encoder_attn_layer_norm = Attention(d, heads), nn.LayerNorm(d)
        self.fc1, self.fc2, self.final_layer_norm = nn.Linear(d, 4 * d), nn.Linear(4 * d, d), nn.LayerNorm(d)

    def forward(self, x: Tensor, encoded: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = x + self.self_attn(self.self_attn_layer_norm(x), causal=encoded is not None)[0]
        weights = None
        if encoded is not None:
            attended, weights = self.encoder_attn(self.encoder_attn_layer_norm(x), encoded)
            x = x + attended
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x)))), weights


class Demo(nn.Module):
    """The network. `active` are the text and special tokens with a row of their own.

    Inside, tokens have compact ids: the place in `active`, then the timestamps. `look` maps Whisper's ids to them.
    """

    enc_pos: Tensor
    ts_pos: Tensor
    look: Tensor

    def __init__(
        self,
        active: Sequence[int],
        d: int = 128,
        heads: int = 4,
        enc_layers: int = 4,
        dec_layers: int = 3,
        n_words: int = 1,
        n_phones: int = 1,
        mels: int = 80,
    ) -> None:
        super().__init__()
        self.cfg = {
            "d": d,
            "heads": heads,
            "enc_layers": enc_layers,
            "dec_layers": dec_layers,
            "n_words": n_words,
            "n_phones": n_phones,
            "mels": mels,
        }
        self.d = d
        self.active = list(active)
        self.conv1 = nn.Conv1d(mels, d, 3, padding=1)
        self.conv2 = nn.Conv1d(d, d, 3, stride=2, padding=1)
        self.register_buffer("enc_pos", sinusoids(N_AUDIO_CTX, d), persistent=False)
        self.register_buffer("ts_pos", sinusoids(N_TIMESTAMPS, d), persistent=False)
        self.enc = nn.ModuleList(Layer(d, heads, False) for _ in range(enc_layers))
        self.enc_ln = nn.LayerNorm(d)
        self.emb = nn.Parameter(torch.randn(len(active), d) * 0.05)
        self.ts_map = nn.Linear(d, d)
        nn.init.normal_(self.ts_map.weight, std=0.05 / math.sqrt(d) * 2)
        self.dec_pos = nn.Parameter(sinusoids(N_TEXT_CTX, d) * 0.05)
        self.dec = nn.ModuleList(Layer(d, heads, True) for _ in range(dec_layers))
        self.dec_ln = nn.LayerNorm(d)
        # Aids of training alone: word and phoneme of each encoder frame.
        self.aux = nn.Linear(d, n_words)
        self.aux_ph = nn.Linear(d, n_phones)
        self.register_buffer("look", self._compact_ids(), persistent=False)

    def _compact_ids(self) -> Tensor:
        look = torch.full((N_VOCAB,), -1, dtype=torch.long)
        look[torch.tensor(self.active)] = torch.arange(len(self.active))
        look[TIMESTAMP_BEGIN:] = len(self.active) + torch.arange(N_TIMESTAMPS)
        return look

    def table(self) -> Tensor:
        """Return the embedding rows of all compact ids."""
        return torch.cat([self.emb, self.ts_map(self.ts_pos)])

    def encode(self, mel: Tensor, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the encoder's output and the state in its middle. `offset` is each window's first position."""
        x = F.gelu(self.conv1(mel))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        n = x.shape[1]
        x = x + (self.enc_pos[:n] if offset is None else self.enc_pos[offset[:, None] + torch.arange(n)])
        middle = x
        for i, layer in enumerate(self.enc):
            x, _ = layer(x)
            if i == len(self.enc) // 2 - 1:
                middle = x
        return self.enc_ln(x), middle

    def decode(self, tokens: Tensor, encoded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits over the compact ids for compact `tokens`, and each layer's cross-attention weights."""
        table = self.table()
        x = F.embedding(tokens, table) + self.dec_pos[: tokens.shape[1]]
        attention = []
        for layer in self.dec:
            x, weights = layer(x, encoded)
            attention.append(weights)
        x = self.dec_ln(x)
        x = torch.cat([torch.ones_like(x[..., :1]), x[..., 1:]], -1)
        return x @ table.T, attention

    def whisper_state(self) -> dict[str, Tensor]:
        """Return the state of the same network as a transformers WhisperForConditionalGeneration."""
        state = {
            "encoder.embed_positions.weight": self.enc_pos,
            "decoder.embed_positions.weight": self.dec_pos,
            "decoder.embed_tokens.weight": self._all_rows(),
        }
        for name in ("conv1", "conv2"):
            state |= _named(f"encoder.{name}", getattr(self, name))
        for side, layers, norm in (("encoder", self.enc, self.enc_ln), ("decoder", self.dec, self.dec_ln)):
            state |= _named(f"{side}.layers", layers)
            state |= _named(f"{side}.layer_norm", norm)
        state = {f"model.{name}": value.detach().clone().float() for name, value in state.items()}
        state["model.decoder.layer_norm.weight"][0] = 0.0
        state["model.decoder.layer_norm.bias"][0] = 1.0
        state["proj_out.weight"] = state["model.decoder.embed_tokens.weight"]
        return state

    def _all_rows(self) -> Tensor:
        rows = torch.zeros(N_VOCAB, self.d)
        rows[:, 0] = UNUSED_TOKEN_BIAS
        table = self.table().detach().float()
        rows[torch.tensor(self.active)] = table[: len(self.active)]
        rows[TIMESTAMP_BEGIN:] = table[len(self.active) :]
        return rows


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (Newton-Schulz iteration), for the hidden matrices."""

    def __init__(
        self, params: list[nn.Parameter], lr: float = 0.02, momentum: float = 0.95, wd: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "wd": wd})

    def step(self) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self._update(p, group["lr"], group["momentum"], group["wd"])

    def _update(self, p: Tensor, lr: float, momentum: float, wd: float) -> None:
        average = self.state[p].setdefault("average", torch.zeros_like(p))
        average.lerp_(p.grad, 1 - momentum)
        update = orthogonal(p.grad.lerp(average, momentum)).to(p.dtype)
        scale = max(1, p.shape[0] / p.shape[1]) ** 0.5
        p.mul_(1 - lr * wd).add_(update, alpha=-lr * scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return roughly the nearest orthogonal matrix, in bfloat16."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x
