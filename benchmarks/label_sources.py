"""What a photo costs each label source: seconds, times ViT-B-32's pass, and memory.

    python benchmarks/label_sources.py PHOTOS --photos 4

Networks have the sizes of published checkpoints and random weights: they answer nothing, at the cost of those that do.
Each runs in a process of its own, by way of a folder and `labels.source`, as in a run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "tests"))

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import open_clip
import torch
import transformers

from clip_factory.images.photo import Photo
from clip_factory.images.videos import gather
from clip_factory.label_sources.source import find_label_source
from clip_factory.runtime import find_images, read_rgb
from clip_factory.scenario import Scenario
from clip_factory.store import EmbeddingStore
from support.tiny_locators import letter_tokenizer
from support.tiny_vqa import CHAT, bert_tokenizer, word_tokenizer
from support.videos import write_video

ROOT = Path(__file__).parents[1]
YES, NO = ["cat", "kitten"], ["dog", "bird", "empty room"]
FRAMES, FRAME_SIDE = 8, 224


def owlv2(folder: Path) -> None:
    """google/owlv2-base-patch16-ensemble's size."""
    config = transformers.Owlv2Config(vision_config={"image_size": 960}, text_config={"max_position_embeddings": 16})
    images = transformers.Owlv2ImageProcessor(size={"height": 960, "width": 960})
    save(folder, transformers.Owlv2ForObjectDetection(config), transformers.Owlv2Processor(images, letter_tokenizer()))


def clipseg(folder: Path) -> None:
    """CIDAS/clipseg-rd64-refined's size."""
    images = transformers.ViTImageProcessor(size={"height": 352, "width": 352})
    network = transformers.CLIPSegForImageSegmentation(transformers.CLIPSegConfig())
    save(folder, network, transformers.CLIPSegProcessor(images, letter_tokenizer()))


def vilt(folder: Path) -> None:
    """dandelin/vilt-b32-finetuned-vqa's size."""
    answers = ["yes", "no", *(str(number) for number in range(3127))]
    config = transformers.ViltConfig(id2label=dict(enumerate(answers)), label2id={a: i for i, a in enumerate(answers)})
    images = transformers.ViltImageProcessor(size={"shortest_edge": 384}, size_divisor=32)
    save(folder, transformers.ViltForQuestionAnswering(config), transformers.ViltProcessor(images, bert_tokenizer()))


def smolvlm(folder: Path) -> None:
    """HuggingFaceTB/SmolVLM-256M-Instruct's size."""
    tokenizer = word_tokenizer()
    text = {"model_type": "llama", "vocab_size": 49280, "hidden_size": 576, "intermediate_size": 1536}
    text |= {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "pad_token_id": 0}
    text |= {"max_position_embeddings": 8192}
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = transformers.Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=4, pad_token_id=0,
        vision_config=vision | {"image_size": 512, "patch_size": 16}, text_config=text,
    )  # fmt: skip
    images = transformers.Idefics3ImageProcessor(size={"longest_edge": 2048}, max_image_size={"longest_edge": 512})
    processor = transformers.Idefics3Processor(images, tokenizer, image_seq_len=64, chat_template=CHAT)
    save(folder, transformers.Idefics3ForConditionalGeneration(config), processor)


def x_clip(folder: Path) -> None:
    """microsoft/xclip-base-patch32's size."""
    images = transformers.VideoMAEImageProcessor(
        size={"shortest_edge": FRAME_SIDE}, crop_size={"height": FRAME_SIDE, "width": FRAME_SIDE}
    )
    tokenizer = letter_tokenizer()
    tokenizer.model_max_length = 77
    save(folder, transformers.XCLIPModel(transformers.XCLIPConfig()), transformers.XCLIPProcessor(images, tokenizer))


SOURCES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "OWLv2 base": ("detection", owlv2),
    "CLIPSeg rd64": ("segmentation", clipseg),
    "ViLT b32": ("vqa", vilt),
    "SmolVLM 256M": ("vqa", smolvlm),
    "X-CLIP base": ("x-clip", x_clip),
}


def main() -> None:
    """Make each, measure it in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument(
        "--photos", type=int, default=4, dest="count", help="photos, or videos, that each is asked about"
    )
    parser.add_argument("--models", nargs="+", choices=SOURCES, default=list(SOURCES))
    options = parser.parse_args()
    print("| network | source | s a photo (a video for x-clip) | times ViT-B-32 | MB at most |\n|---|---|---|---|---|")
    for name in options.models:
        source, make = SOURCES[name]
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            make(Path(folder, "model"))
            code = "import sys; from benchmarks.label_sources import measure; measure(*sys.argv[1:])"
            arguments = [source, folder, str(options.photos), str(options.count)]
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
            )
            seconds, ratio, megabytes = map(float, done.stdout.split()[-3:])
        print(f"| {name} | {source} | {seconds:.2f} | {ratio:.0f} | {megabytes:.0f} |", flush=True)


def measure(source: str, folder: str, photos: str, count: str) -> None:
    """Print seconds a photo, their ratio to ViT-B-32's forward pass, and the process's peak memory before that pass."""
    paths = find_images(Path(photos))
    step = max(1, len(paths) // int(count))
    files = [Path(path) for path in paths[::step]][: int(count)]
    if source == "x-clip":
        files = [frame_of_video(path, Path(folder)) for path in files]
    labels = {"source": source, "model": f"local-dir:{folder}/model"}
    scenario = Scenario.model_validate({"name": "cat", "positive": YES, "negative": NO, "labels": labels})
    loaded: Any = find_label_source(scenario)(scenario, None, EmbeddingStore(Path(folder, "store")))  # type: ignore[arg-type]
    asked = [Photo.of(path) for path in files]
    start = time.perf_counter()
    loaded.score(asked, scenario)
    seconds = (time.perf_counter() - start) / len(asked)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith("VmHWM:"))
    print(seconds, seconds / vit_seconds(), int(line.split()[1]) * 1024 / 1e6)


def frame_of_video(photo: Path, folder: Path) -> Path:
    """The first frame, as `images` would sample it, of a video that pans over a photo."""
    picture = read_rgb(photo).resize((FRAME_SIDE + 2 * FRAMES, FRAME_SIDE))
    video = write_video(
        folder / "videos" / photo.stem / "clip.mp4",
        [picture.crop((2 * i, 0, 2 * i + FRAME_SIDE, FRAME_SIDE)) for i in range(FRAMES)],
    )
    return Path(find_images(gather(video.parent, "1s", folder / "store"))[0])


def vit_seconds() -> float:
    """Of ViT-B-32's forward pass for one photo, the median of ten."""
    network = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    photo, seconds = torch.zeros(1, 3, 224, 224), []
    with torch.inference_mode():
        for _ in range(12):
            start = time.perf_counter()
            network.encode_image(photo)
            seconds.append(time.perf_counter() - start)
    return sorted(seconds[2:])[5]


def save(folder: Path, network: Any, processor: Any) -> None:
    """As `local-dir:` reads it."""
    network.eval().save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
