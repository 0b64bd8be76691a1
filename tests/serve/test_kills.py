"""Processes that are killed and started anew: each photo has one vector in the end, as if nobody had been killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest

from clip_factory.encoders import embed
from clip_factory.images.photo import Photo
from clip_factory.store import EmbeddingStore
from support.axis_encoder import AxisEncoder
from support.encoder_site import counted, pictures, site, start

COUNT, BATCH = 60, 6
CLIENT = f"""
import sys
from pathlib import Path

from clip_factory.encoders import EmbeddingStore, embed, load_encoder
from clip_factory.images.photo import Photo
from clip_factory.scenario import Teacher

url, photos, store = sys.argv[1:]
photos = [Photo.of(path) for path in sorted(Path(photos).iterdir())]
encoder = load_encoder(Teacher(model=url))
done = embed(encoder, photos, EmbeddingStore(Path(store)), {BATCH}, lambda done, total: print(done, total, flush=True))
print("embedded", done, flush=True)
"""


class World:
    """A folder of photos, a store, a server that can be killed, and a client."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.store = folder / "photos", folder / "store"
        self.photos.mkdir()
        for index, picture in enumerate(pictures(COUNT)):
            picture.save(self.photos / f"p{index:03d}.png")
        self.environment = site(folder / "site")
        self.server, self.url = start(self.environment)

    def client(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CLIENT, self.url, str(self.photos), str(self.store)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def restart_server(self) -> None:
        self.server, url = start(self.environment, urlsplit(self.url).port)
        assert url == self.url

    def kill_server(self) -> None:
        self.server.kill()
        self.server.communicate()

    def names(self) -> list[str]:
        """The photos whose vectors are stored, as often as they are."""
        shards = (self.store / "vectors" / "counting-1").glob("*.parquet")
        return sorted(name for shard in shards for name in pq.read_table(shard)["sha256"].to_pylist())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.kill_server()


def wait_until_stored(client: subprocess.Popen[str], count: int) -> None:
    """Read the client's progress until it has stored so many photos."""
    for line in client.stdout:
        if int(line.split()[0]) >= count:
            return
    raise AssertionError(client.stderr.read())


def check_all_there(world: World, tmp_path: Path) -> None:
    """The store holds one vector of each photo, and it is the one that the encoder makes on this machine."""
    photos = [Photo.of(path) for path in sorted(world.photos.iterdir())]
    local, here = EmbeddingStore(tmp_path / "here"), AxisEncoder("red", "green", "blue")
    here.key = "counting-1"
    embed(here, photos, local, BATCH, lambda done, total: None)
    names = [photo.sha256 for photo in photos]
    assert world.names() == sorted(names)
    remote = EmbeddingStore(world.store).get("counting-1", names)
    assert np.array_equal(remote, local.get("counting-1", names))


@pytest.mark.parametrize("kills", [1, 3])
def test_a_client_that_is_killed_goes_on_and_no_photo_is_embedded_twice(
    kills: int, world: World, tmp_path: Path
) -> None:
    for kill in range(1, kills + 1):
        client = world.client()
        wait_until_stored(client, BATCH)
        time.sleep(0.01 * kill)  # somewhere in a batch
        client.kill()
        client.communicate()
        stored = len(world.names())
        assert BATCH <= stored < COUNT
    last = world.client()
    output, errors = last.communicate(timeout=60)

    assert f"embedded {COUNT - stored}" in output, errors
    check_all_there(world, tmp_path)
    assert counted(world.environment) == COUNT


def test_a_server_that_is_killed_is_waited_for_and_only_what_was_in_flight_is_embedded_again(
    world: World, tmp_path: Path
) -> None:
    client = world.client()
    for stored in (2 * BATCH, 6 * BATCH):
        wait_until_stored(client, stored)
        world.kill_server()
        time.sleep(0.3)
        assert client.poll() is None, "it waits"
        world.restart_server()
    output, errors = client.communicate(timeout=60)

    assert f"embedded {COUNT}" in output, errors
    check_all_there(world, tmp_path)
    assert COUNT <= counted(world.environment) <= COUNT + 2 * BATCH


def test_what_was_embedded_here_is_not_asked_of_a_server(world: World, tmp_path: Path) -> None:
    photos = [Photo.of(path) for path in sorted(world.photos.iterdir())]
    here = AxisEncoder("red", "green", "blue")
    here.key = "counting-1"
    embed(here, photos[:40], EmbeddingStore(world.store), BATCH, lambda done, total: None)
    output, errors = world.client().communicate(timeout=60)

    assert f"embedded {COUNT - 40}" in output, errors
    check_all_there(world, tmp_path)
    assert counted(world.environment) == COUNT - 40


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_in_order(end: signal.Signals, world: World, tmp_path: Path) -> None:
    client = world.client()
    wait_until_stored(client, 2 * BATCH)
    world.server.send_signal(end)
    output, errors = world.server.communicate(timeout=30)

    assert (world.server.returncode, output) == (0, ""), errors
    assert "Traceback" not in errors
    world.restart_server()
    output, errors = client.communicate(timeout=60)
    assert f"embedded {COUNT}" in output, errors
    check_all_there(world, tmp_path)
    assert counted(world.environment) == COUNT, "what had begun was answered"


def test_ctrl_c_ends_a_client_that_waits_for_its_server(world: World) -> None:
    client = world.client()
    wait_until_stored(client, BATCH)
    world.kill_server()
    time.sleep(1)
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=20)

    assert "KeyboardInterrupt" in errors
    assert len(world.names()) >= BATCH
