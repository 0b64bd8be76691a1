"""Tiny encoders of open_clip's kinds with random weights, made in a second."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import open_clip
import torch

from clip_factory.encoders.open_clip import OpenClipEncoder

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
KINDS: dict[str, dict[str, Any]] = {
    "vit": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": TEXT,
    },
    "resnet": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None},
        "text_cfg": TEXT,
    },
    "convnext": {
        "embed_dim": 16,
        "vision_cfg": {
            "timm_model_name": "convnext_atto",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 64,
        },
        "text_cfg": TEXT,
    },
    "siglip": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
            "image_size": 160,
        },
        "text_cfg": {
            **TEXT,
            "vocab_size": 300,
            "width": 64,
            "heads": 4,
            "pool_type": "last",
            "no_causal_mask": True,
            "proj_bias": True,
        },
    },
    "mobileclip": {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "fastvit_t8",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": None,
            "timm_drop": 0.0,
            "timm_drop_path": 0.0,
            "image_size": 64,
        },
        "text_cfg": {**TEXT, "no_causal_mask": False},
    },
}
"""Configurations of the kinds that are most used, by what people call them."""


def word_pieces(folder: Path) -> Path:
    """A folder with a SentencePiece-like tokenizer as transformers loads it: words, letters, padding, an end."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [
        "\u2581a",
        "\u2581photo",
        "\u2581of",
        "\u2581red",
        "\u2581apple",
        "\u2581cat",
        "\u2581",
        *string.ascii_lowercase,
    ]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((word, -float(i)) for i, word in enumerate(words))]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", sep_token="</s>"
    )
    fast.save_pretrained(folder)
    return folder


def siglip_tokenizer(folder: Path, **options: Any) -> open_clip.tokenizer.HFTokenizer:
    """open_clip's tokenizer of SigLIP's kind, of the words of `word_pieces`."""
    return open_clip.tokenizer.HFTokenizer(
        str(word_pieces(folder)), context_length=TEXT["context_length"], clean="canonicalize", **options
    )


def tiny_encoder(kind: str = "vit", tokenize: Any = None, **preprocessing: Any) -> OpenClipEncoder:
    """An encoder; `preprocessing` goes to open_clip's `image_transform`."""
    torch.manual_seed(0)
    config = dict(KINDS[kind])
    custom = config.pop("custom_text", False)
    if kind == "mobileclip":
        config["embed_dim"] = 768  # timm's head of this size, as open_clip has it without a projection
    network = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config).eval()
    size = config["vision_cfg"]["image_size"]
    transform = open_clip.transform.image_transform(size, is_train=False, **preprocessing)
    tokenizer = tokenize or open_clip.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    return OpenClipEncoder(network, transform, tokenizer, name=f"tiny {kind}", license="none")
