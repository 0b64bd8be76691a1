"""An encoder that is shown a region of each photo: its vectors are kept apart from those of whole photos."""

from __future__ import annotations

from typing import Any, cast

from clip_factory.encoders.encoder import Encoder
from clip_factory.runtime.region import Region


class RegionEncoder:
    """An encoder under a key of its own; all else is as the encoder has it.

    It crops nothing: photos carry their region, and are cropped where they are read.
    """

    def __init__(self, encoder: Encoder, region: Region) -> None:
        """`encoder`: what embeds; `region`: the part of each photo that it is given."""
        self.encoder, self.region = encoder, region

    @property
    def key(self) -> str:
        """The encoder's and the region's."""
        return f"{self.encoder.key}-region-{self.region.key}"

    @property
    def about(self) -> dict[str, object]:
        """What the encoder says of itself, and the region."""
        return {**self.encoder.about, "key": self.key, "region": self.region.to_json()}

    def __getattr__(self, name: str) -> Any:
        if name in ("encoder", "region") or name.startswith("__"):  # asked for while it is unpickled, when it has none
            raise AttributeError(name)
        return getattr(self.encoder, name)


def for_region(encoder: Encoder, region: Region | None) -> Encoder:
    """The encoder for photos of a region; itself for whole photos."""
    return encoder if region is None else cast(Encoder, RegionEncoder(encoder, region))
