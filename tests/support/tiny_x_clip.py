"""An X-CLIP of a few thousand random weights, saved as its authors save theirs."""

from __future__ import annotations

from pathlib import Path

WORDS = ["a", "photo", "of", "disc", "bar", "the", "red", "blue", "picture"]


def save_tiny_x_clip(folder: Path) -> Path:
    """A folder that `XCLIPModel` and `AutoProcessor` load."""
    import torch
    from transformers import CLIPTokenizer, VideoMAEImageProcessor, XCLIPConfig, XCLIPModel, XCLIPProcessor

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    side = 16
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"hidden_size": 16, "intermediate_size": 16, "image_size": side, "patch_size": 8, "num_frames": 4} | shape
    integration = {
        "mit_hidden_size": 16,
        "mit_intermediate_size": 16,
        "mit_num_hidden_layers": 1,
        "mit_num_attention_heads": 2,
    }
    text = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": len(tokens), "eos_token_id": len(tokens) - 1}
    config = XCLIPConfig(
        vision_config=vision | integration,
        text_config=text | shape,
        projection_dim=16,
        prompt_layers=1,
        prompt_num_attention_heads=2,
    )
    torch.manual_seed(0)
    XCLIPModel(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    XCLIPProcessor(VideoMAEImageProcessor(**sizes), tokenizer).save_pretrained(folder)
    return folder
