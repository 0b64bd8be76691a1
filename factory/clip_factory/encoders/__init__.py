"""Dual encoders, and how photos are embedded with them. open_clip stays in this room, and torch behind it."""

from clip_factory.encoders.auto import RECOMMENDED, recommended, resolve, resolve_with_warning
from clip_factory.encoders.embedding import embed
from clip_factory.encoders.encoder import Encoder, load_encoder
from clip_factory.encoders.faster_engine import with_faster_engine
from clip_factory.encoders.region_encoder import for_region
from clip_factory.store import EmbeddingStore

__all__ = [
    "RECOMMENDED",
    "EmbeddingStore",
    "Encoder",
    "embed",
    "for_region",
    "load_encoder",
    "recommended",
    "resolve",
    "resolve_with_warning",
    "with_faster_engine",
]
