"""Tiny detectors and a tiny segmenter with random weights, as folders that `local-dir:` names."""

from __future__ import annotations

import string
from pathlib import Path

import torch
import transformers

SIDE = 48
TOKENS = 16
"""Places of the text encoders, beginning and end included: CLIP's tokenizer without merges makes a token a letter."""
TEXT = {"vocab_size": 56, "max_position_embeddings": TOKENS, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


def letter_tokenizer() -> transformers.CLIPTokenizer:
    """CLIP's, with a vocabulary of small letters."""
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    signs = ["!", "<|startoftext|>", "<|endoftext|>", "<unk>"]
    vocabulary = {sign: number for number, sign in enumerate((*signs, *letters))}
    return transformers.CLIPTokenizer(
        vocab=vocabulary, merges=[], unk_token="<unk>", pad_token="!", model_max_length=TOKENS
    )


def make_owl(folder: Path, kind: str = "owlv2", side: int = SIDE) -> Path:
    """OWLv2 or OWL-ViT (`owlvit`), whose scores lie on both sides of 0.5."""
    torch.manual_seed(0)
    name = {"owlv2": "Owlv2", "owlvit": "OwlViT"}[kind]
    config = getattr(transformers, f"{name}Config")(
        text_config={**LAYERS, **TEXT, "num_hidden_layers": 1},
        vision_config={**LAYERS, "num_hidden_layers": 1, "image_size": side, "patch_size": 8},
        projection_dim=16,
    )
    network = getattr(transformers, f"{name}ForObjectDetection")(config)
    with torch.no_grad():
        for weights in network.parameters():
            weights.normal_(0, 0.3)
        network.class_head.logit_scale.bias.fill_(40 if kind == "owlv2" else 2)  # spreads its scores
    images = getattr(transformers, f"{name}ImageProcessor")(size={"height": side, "width": side})
    getattr(transformers, f"{name}Processor")(images, letter_tokenizer()).save_pretrained(folder)
    network.save_pretrained(folder)
    return folder


def make_clipseg(folder: Path, side: int = SIDE) -> Path:
    """CLIPSeg."""
    torch.manual_seed(0)
    config = transformers.CLIPSegConfig(
        text_config={**LAYERS, **TEXT, "num_hidden_layers": 1},
        vision_config={**LAYERS, "num_hidden_layers": 3, "image_size": side, "patch_size": 8},
        projection_dim=16,
        reduce_dim=8,
        extract_layers=[0, 1, 2],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    network = transformers.CLIPSegForImageSegmentation(config)
    with torch.no_grad():
        for weights in network.parameters():
            weights.normal_(0, 0.3)
        network.decoder.transposed_convolution.weight.mul_(20)  # spreads its scores
    images = transformers.ViTImageProcessor(size={"height": side, "width": side})
    transformers.CLIPSegProcessor(images, letter_tokenizer()).save_pretrained(folder)
    network.save_pretrained(folder)
    return folder


def make_grounding_dino(folder: Path) -> Path:
    """Grounding DINO, with BERT's tokenizer: a token a letter, too."""
    torch.manual_seed(0)
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=transformers.BertConfig(
            vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ),
        d_model=64, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=30, max_text_len=48,
    )  # fmt: skip
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    signs = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
    tokenizer = transformers.BertTokenizer(vocab={sign: number for number, sign in enumerate((*signs, *letters))})
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    transformers.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    return folder
