"""The sizes of a model's matrices, read from its config.json or known by name; no weight is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.errors import DataError

#: ``model_type`` of config.json -> the family whose arithmetic it follows.
FAMILIES = {"llama": "llama", "mistral": "llama", "opt": "opt", "gpt_neox": "gpt_neox"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a decoder of one of the three families, in numbers of elements."""

    #: "llama", "opt" or "gpt_neox".
    family: str
    layers: int
    hidden: int
    #: Width of the MLP between its matrices; LLaMA's has three of them (a gate), the others' two.
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    #: Positions that the model was made for; 0: nothing says how many.
    limit: int
    #: Whether the head is the embedding itself.
    tied: bool
    attention_bias: bool
    mlp_bias: bool
    #: Width of the embedding where it is not ``hidden`` (OPT 350M).
    embedding: int
    #: Elements of a head that positions rotate; OPT adds learnt positions instead.
    rotation: int = 0
    #: Whether a norm stands behind the last layer.
    final_norm: bool = True
    dropout: float = 0.0

    @property
    def queries(self) -> int:
        """Elements of a token's queries, all heads."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Elements of a token's keys, and of its values."""
        return self.kv_heads * self.head_dim

    @property
    def norm_parameters(self) -> int:
        """Of one norm: RMSNorm has a weight, LayerNorm a bias too."""
        return self.hidden * (1 if self.family == "llama" else 2)

    @property
    def layer_matrices(self) -> int:
        """Elements of the matrices that a token is multiplied with in a layer."""
        attention = self.hidden * (2 * self.queries + 2 * self.keys)
        return attention + self.hidden * self.inner * (3 if self.family == "llama" else 2)

    @property
    def layer_parameters(self) -> int:
        """All parameters of a layer."""
        attention = self.queries + 2 * self.keys + self.hidden if self.attention_bias else 0
        mlp = self.inner * (2 if self.family == "llama" else 1) + self.hidden if self.mlp_bias else 0
        return self.layer_matrices + attention + mlp + 2 * self.norm_parameters

    @property
    def table(self) -> int:
        """Elements of the embedding, and of the head."""
        return self.vocabulary * self.embedding

    @property
    def positions(self) -> int:
        """Elements of learnt positions; OPT's table has two rows that nothing uses."""
        return (self.limit + 2) * self.hidden if self.family == "opt" else 0

    @property
    def projections(self) -> int:
        """Matrices between embedding and layers, and back, where their widths differ."""
        return 2 * self.embedding * self.hidden if self.embedding != self.hidden else 0

    @property
    def parameters(self) -> int:
        """All of them; what is tied counts once."""
        norm = self.norm_parameters if self.final_norm else 0
        tables = self.table * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + tables + self.positions + self.projections + norm

    def with_vocabulary(self, size: int) -> Shape:
        """The same model with its embedding grown to ``size`` rows, never shrunk."""
        return replace(self, vocabulary=max(size, self.vocabulary))


def read(config: Mapping[str, Any], *, source: str = "config.json") -> Shape:
    """The shape that a checkpoint's config describes; raises DataError where it cannot be planned with."""
    kind = config.get("model_type")
    family = FAMILIES.get(str(kind))
    if family is None:
        raise DataError(
            f"{source} describes a model of type {kind!r}, whose memory nobody has derived: plan with one of "
            f"{', '.join(sorted(FAMILIES))}, or add its sizes to trainer/estimating."
        )
    try:
        return _READ[family](config)
    except KeyError as error:
        raise DataError(f"{source} lacks {error}, without which a {kind} model has no size.") from None


def find(model: str) -> Shape:
    """The shape of a checkpoint's folder, or of the known size that a name ends in.

    Raises DataError where there is neither: a plan needs the config and nothing else of a model.
    """
    file = Path(model) / "config.json"
    if file.is_file():
        try:
            config = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read ({error}).") from None
        return read(config, source=str(file))
    plain = re.sub(r"[^a-z0-9.]+", "-", Path(model).name.lower())
    for name, shape in KNOWN.items():
        if re.search(rf"(^|-){re.escape(name)}($|-)", plain):
            return shape
    raise DataError(
        f"{model} is no folder with a config.json, and its name ends in no known size ({', '.join(KNOWN)}): "
        "a plan needs the model's config.json alone, or --set model=NAME with one of these."
    )


def _limit(config: Mapping[str, Any]) -> int:
    """Positions as transformers reads them: a family's default where the config has none, no limit where it is null."""
    default = 131_072 if config.get("model_type") == "mistral" else 2048
    return max(0, config.get("max_position_embeddings", default) or 0)


def _llama(config: Mapping[str, Any]) -> Shape:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return Shape(
        family="llama",
        layers=config["num_hidden_layers"],
        hidden=hidden,
        inner=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        vocabulary=config["vocab_size"],
        limit=_limit(config),
        tied=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
        embedding=hidden,
        rotation=config.get("head_dim") or hidden // heads,
    )


def _opt(config: Mapping[str, Any]) -> Shape:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    bias = bool(config.get("enable_bias", True))
    before = bool(config.get("do_layer_norm_before", True))
    return Shape(
        family="opt",
        layers=config["num_hidden_layers"],
        hidden=hidden,
        inner=config["ffn_dim"],
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        vocabulary=config["vocab_size"],
        limit=_limit(config),
        tied=bool(config.get("tie_word_embeddings", True)),
        attention_bias=bias,
        mlp_bias=bias,
        embedding=config.get("word_embed_proj_dim") or hidden,
        final_norm=before and not config.get("_remove_final_layer_norm", False),
        dropout=float(config.get("dropout", 0.1)),
    )


def _gpt_neox(config: Mapping[str, Any]) -> Shape:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    # The first name is that of checkpoints of before transformers 5.
    share = config.get("rotary_pct") or (config.get("rope_parameters") or {}).get("partial_rotary_factor", 0.25)
    return Shape(
        family="gpt_neox",
        layers=config["num_hidden_layers"],
        hidden=hidden,
        inner=config["intermediate_size"],
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        vocabulary=config["vocab_size"],
        limit=_limit(config),
        tied=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", True)),
        mlp_bias=True,
        embedding=hidden,
        rotation=-(-int(hidden // heads * share) // 2) * 2,  # in pairs
        dropout=float(config.get("hidden_dropout", 0.0)),
    )


_READ = {"llama": _llama, "opt": _opt, "gpt_neox": _gpt_neox}


def _paper(layers: int, hidden: int, inner: int, heads: int) -> Shape:
    return _llama(
        {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_attention_heads": heads,
            "vocab_size": 32_000,
        }
    )


#: The models of the paper (LLaMA: Touvron et al. 2023, table 2; the others: their published configs), so that its
#: recipes can be planned before a model is there. The first LLaMA calls its third size 33B; its files say 30B.
KNOWN = {
    "llama-7b": _paper(32, 4096, 11_008, 32),
    "llama-13b": _paper(40, 5120, 13_824, 40),
    "llama-30b": _paper(60, 6656, 17_920, 52),
    "llama-65b": _paper(80, 8192, 22_016, 64),
    "opt-6.7b": _opt(
        {
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "ffn_dim": 16_384,
            "num_attention_heads": 32,
            "vocab_size": 50_272,
        }
    ),
    "pythia-6.9b": _gpt_neox(
        {
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "intermediate_size": 16_384,
            "num_attention_heads": 32,
            "vocab_size": 50_432,
        }
    ),
}
