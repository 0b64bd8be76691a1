"""CLIP-type teachers, and the store that keeps what they have seen. open_clip stays in this room."""

from clip_factory.encoders.embedding import embed
from clip_factory.encoders.open_clip import RECOMMENDED, Teacher, load, resolve
from clip_factory.store import EmbeddingStore

__all__ = ["RECOMMENDED", "EmbeddingStore", "Teacher", "embed", "load", "resolve"]
