"""An encoder as a folder of ONNX files that runs without torch; see `clip_factory.runtime.encoder_folder`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from PIL import Image
from torch import Tensor, nn

from clip_factory import __version__
from clip_factory.encoders.auto import resolve
from clip_factory.encoders.encoder import Encoder, load_encoder
from clip_factory.encoders.onnx_precision import narrow, unheard
from clip_factory.encoders.open_clip import OpenClipEncoder
from clip_factory.encoders.preprocessing_steps import preprocessing_steps
from clip_factory.encoders.tokenizer_file import tokenizer_file
from clip_factory.errors import TeacherError
from clip_factory.runtime import encoder_folder as files
from clip_factory.runtime.atomic import atomic_folder, write_bytes, write_json
from clip_factory.runtime.image_steps import check_steps, to_pixels
from clip_factory.runtime.onnx_encoder import OnnxEncoder
from clip_factory.scenario import Teacher

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_COSINE = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.99}
"""Between a vector of the exported network and torch's, by precision; with less, nothing is exported."""
TEXTS = (
    "a photo of a cat",
    "a photo of a forklift truck in a warehouse, seen from behind",
    "rain",
    "two red apples and a green pear on a wooden table",
)
PICTURES = 4
BEARS_INT8 = 0.999
"""Least cosine to the vectors in float32 with which a tower computes in 8 bits."""


def export_encoder(encoder: Encoder, target: Path, precision: str = "fp32") -> dict[str, float]:
    """Write an encoder as a folder; nothing is left behind where it does not come out right.

    Args:
        encoder: One of open_clip's, on the CPU or a GPU.
        target: The new folder.
        precision: Of the weights: `fp32`; `fp16`, half the size with arithmetic in float32; `int8`, a quarter, with
            arithmetic in 8 bits where the vectors bear it.

    Returns:
        Least cosine to torch's vectors, of `image` and of `text`.

    Raises:
        TeacherError: The encoder does not run in torch, a part of it cannot be exported, its vectors differ from
            torch's, or the folder is there.
    """
    if not isinstance(encoder, OpenClipEncoder):
        hint = "export one of open_clip's: MODEL/WEIGHTS, hf-hub:..., local-dir:... or offline"
        raise TeacherError(
            f"teacher {encoder.name}: runs elsewhere than in torch, such as one that was exported already", hint=hint
        )
    if target.exists():
        raise TeacherError(f"{target}: is there already", hint="name a new folder, or remove this one")
    steps, (mean, std) = preprocessing_steps(encoder.transform)
    check_steps(steps)
    tokenizer, text = tokenizer_file(encoder.tokenize)
    shown = pictures(encoder.image_size, PICTURES)
    pixels = np.stack([to_pixels(picture, steps) for picture in shown])
    towers = _Towers(encoder, mean, std)
    towers.check_scaling(shown, pixels)
    expected = towers.embed(pixels)
    with atomic_folder(target) as folder:
        _export(towers.image, torch.from_numpy(pixels[:3]), folder / files.IMAGE, ("pixels",))
        _export(towers.text, towers.tokens, folder / files.TEXT, ("tokens", "length")[: 1 + towers.any_length])
        narrow(folder / files.IMAGE, precision, lambda: _is_near(folder / files.IMAGE, pixels, expected[0]))
        narrow(
            folder / files.TEXT, precision, lambda: _is_near(folder / files.TEXT, towers.tokens.numpy(), expected[1])
        )
        write_bytes(folder / files.TOKENIZER, tokenizer.encode())
        _write_test_vectors(folder / files.TEST_VECTORS, shown, expected)
        write_json(folder / files.ABOUT, _about(encoder, folder, precision, steps, text))
        fidelity = _checked(OnnxEncoder.load(folder), shown, expected, precision)
    encoder.network.to(encoder.device).to(memory_format=torch.channels_last)
    return fidelity


@dataclass(frozen=True)
class ExportedEncoder:
    """A folder that was written."""

    path: Path
    name: str
    license: str
    precision: str
    bytes: int
    """Of all its files."""
    image_cosine: float
    """Least cosine of a picture's vector to torch's."""
    text_cosine: float
    """Least cosine of a text's vector to torch's."""


def export_named(teacher: Teacher, target: Path, precision: str) -> ExportedEncoder:
    """Load an encoder of open_clip's by name and export it; `auto` is resolved first.

    Raises:
        TeacherError: As of `export_encoder`; or the encoder runs elsewhere than in torch.
    """
    if precision not in files.PRECISIONS:
        raise TeacherError(f"precision {precision}: not known", hint=f"one of {', '.join(files.PRECISIONS)}")
    chosen, _ = resolve(teacher)
    encoder = load_encoder(chosen)
    cosines = export_encoder(encoder, target, precision)
    size = sum(file.stat().st_size for file in target.iterdir())
    return ExportedEncoder(target, encoder.name, encoder.license, precision, size, cosines["image"], cosines["text"])


def pictures(side: int, count: int) -> list[Image.Image]:
    """Pictures of soft shapes, the same in every process: larger than `side`, and not square."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 9, 12, 3), dtype=np.uint8)
    size = (side * 4 // 3, side + side // 8)
    return [Image.fromarray(one).resize(size, Image.Resampling.BICUBIC) for one in coarse]


class ImageTower(nn.Module):
    """uint8 pixels `(N, H, W, 3)` to vectors `(N, D)`, L2-normalized; the colors are scaled inside."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """`mean` and `std`: of each channel, for values in [0, 1]."""
        super().__init__()
        self.network = network
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).reshape(3, 1, 1)))
        self.register_buffer("shift", -(torch.tensor(mean) / torch.tensor(std)).reshape(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed images."""
        return self.network.encode_image(self.scaled(pixels), normalize=True)  # type: ignore[operator,no-any-return]

    def scaled(self, pixels: Tensor) -> Tensor:
        """Colors as the network wants them: float32 `(N, 3, H, W)`."""
        return pixels.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift


class TextTower(nn.Module):
    """int64 tokens `(P, L)` to vectors `(P, D)`, L2-normalized."""

    def __init__(self, network: nn.Module) -> None:
        """`network`: one of open_clip's models."""
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed texts."""
        return self.network.encode_text(tokens, normalize=True)  # type: ignore[operator,no-any-return]


class _Towers:
    """An encoder's two towers, on the CPU."""

    def __init__(self, encoder: OpenClipEncoder, mean: Sequence[float], std: Sequence[float]) -> None:
        network = encoder.network.to("cpu").to(memory_format=torch.contiguous_format)
        self.encoder = encoder
        self.image, self.text = ImageTower(network, mean, std).eval(), TextTower(network).eval()
        self.tokens = torch.as_tensor(encoder.tokenize(list(TEXTS)))
        self.any_length = encoder.tokenize([TEXTS[0]]).shape[1] < self.tokens.shape[1]

    def check_scaling(self, pictures: Sequence[Image.Image], pixels: np.ndarray) -> None:
        """Hold our preprocessing against the encoder's own.

        Raises:
            TeacherError: The image tower would see something else.
        """
        theirs = self.encoder.preprocess(pictures)
        ours = self.image.scaled(torch.from_numpy(pixels))
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, atol=1e-5):
            raise TeacherError(f"{self.encoder.name}: its preprocessing cannot be exported", hint="use it in torch")

    def embed(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of the pixels, and of `TEXTS`."""
        with torch.inference_mode():
            parts = [self.image(torch.from_numpy(pixels[i : i + 8])) for i in range(0, len(pixels), 8)]
            return torch.cat(parts).numpy(), self.text(self.tokens).numpy()


def _export(tower: nn.Module, example: Tensor, path: Path, free: tuple[str, ...]) -> None:
    """Write one tower; `free` names the input, and its second axis where that has no fixed length."""
    shape = dict(enumerate(("batch", *free[1:])))
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        try:
            program = torch.onnx.export(
                tower.eval(),
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[free[0]],
                output_names=["vectors"],
                dynamic_shapes=(shape,),
            )
        except Exception as error:  # the exporter raises a dozen kinds of errors
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TeacherError(f"the network cannot be exported to ONNX ({reason})", hint="use it in torch") from error
    program.save(str(path), external_data=True)  # type: ignore[union-attr]  # only the older exporter gives None
    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]  # the exporter's notes on shapes: some are wrong, and all can be inferred anew
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter has to say to programmers."""
    with unheard(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _is_near(path: Path, inputs: np.ndarray, expected: np.ndarray) -> bool:
    session = files.open_tower(path, 1)
    (vectors,) = session.run(None, {session.get_inputs()[0].name: inputs})
    return bool((vectors * expected).sum(axis=1).min() >= BEARS_INT8)


def _about(
    encoder: OpenClipEncoder, folder: Path, precision: str, steps: list[dict[str, Any]], text: dict[str, Any]
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "format": files.FORMAT,
        "name": encoder.name,
        "license": encoder.license,
        "source_key": encoder.key,
        "dim": encoder.dim,
        "logit_scale": encoder.logit_scale,
        "logit_bias": encoder.logit_bias,
        "precision": precision,
        "preprocessing": steps,
        "text": text,
        "made_with": {"clip-factory": __version__, "torch": torch.__version__, "onnx": metadata.version("onnx")},
        "sha256": {name: files.file_sha256(folder / name) for name in files.FILES},
    }
    about["sha256"][files.ABOUT] = files.about_sha256(about)
    return about


def _write_test_vectors(path: Path, pictures: Sequence[Image.Image], vectors: tuple[np.ndarray, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        pictures=np.stack([np.asarray(picture) for picture in pictures]),
        texts=np.array(TEXTS),
        image_vectors=vectors[0],
        text_vectors=vectors[1],
    )
    write_bytes(path, buffer.getvalue())


def _checked(
    exported: OnnxEncoder, pictures: Sequence[Image.Image], expected: tuple[np.ndarray, np.ndarray], precision: str
) -> dict[str, float]:
    """The least cosines to torch's vectors.

    Raises:
        TeacherError: They are less than the precision allows.
    """
    vectors = exported.embed_images(pictures), exported.embed_texts(TEXTS)
    fidelity = {}
    for tower, ours, theirs in zip(("image", "text"), vectors, expected, strict=True):
        fidelity[tower] = float((ours * theirs).sum(axis=1).min())
        if not fidelity[tower] >= MIN_COSINE[precision]:
            raise TeacherError(
                f"{exported.name} in {precision}: a vector of the {tower} tower has a cosine of {fidelity[tower]:.5f} "
                f"to torch's, expected {MIN_COSINE[precision]} at least",
                hint="export it with more precision, or stay with torch",
            )
    return fidelity
