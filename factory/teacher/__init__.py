"""CLIP-type teachers, and the store that keeps what they have seen. open_clip stays in this room."""

from factory.store import EmbeddingStore
from factory.teacher.embed import embed
from factory.teacher.openclip import RECOMMENDED, Teacher, load, resolve

__all__ = ["RECOMMENDED", "EmbeddingStore", "Teacher", "embed", "load", "resolve"]
