"""What an encoder's server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import generate_latest

from clip_factory.encoders.wire_format import EncoderFacts

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Upper bounds of the buckets of batches, in photos."""
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """Counters of one server; they begin at 0 with it."""

    def __init__(self, facts: EncoderFacts) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        prefix = "factory_encoder"
        self.requests = Counter(
            f"{prefix}_requests", "Requests by path and HTTP status.", ["path", "code"], registry=self.registry
        )
        self.request_seconds = Histogram(
            f"{prefix}_request_seconds",
            "From a request's headers to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.photos = Counter(f"{prefix}_photos", "Photos that the encoder has embedded.", registry=self.registry)
        self.reused = Counter(
            f"{prefix}_photos_reused",
            "Photos that were asked for again, while they waited or after, and not embedded again.",
            registry=self.registry,
        )
        self.texts = Counter(f"{prefix}_texts", "Texts that the encoder has embedded.", registry=self.registry)
        self.batches = Histogram(f"{prefix}_batch_photos", "Photos in a batch.", buckets=SIZES, registry=self.registry)
        self.seconds = Counter(f"{prefix}_busy_seconds", "Seconds in the encoder.", registry=self.registry)
        self.waiting = Gauge(f"{prefix}_waiting_photos", "Photos that wait.", registry=self.registry)
        self.held = Gauge(f"{prefix}_held_bytes", "Bytes of requests that are held.", registry=self.registry)
        about = Info(prefix, "The encoder.", registry=self.registry)
        about.info({"name": facts.name, "key": facts.key, "license": facts.license, "dim": str(facts.dim)})

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)
