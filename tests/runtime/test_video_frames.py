"""Frames by the time at which they are shown: variable frame rates, turned pictures, and files that are no videos."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clip_factory.runtime import ImageError, photo_files, video_frames
from clip_factory.runtime.durations import milliseconds, seconds_text
from clip_factory.runtime.runtime_errors import FactoryError
from clip_factory.runtime.video_frames import frames_at, sample_video
from support.videos import plain, texture, write_sound, write_video

COLORS = [(25 * number, 0, 255 - 25 * number) for number in range(10)]
"""Of frames; far enough apart that one is told from the next after lossy encoding."""
TIMES = [0, 100, 150, 2000, 2040, 2900, 5000, 5500, 6000, 9000]
"""At which they are written: a variable frame rate, with a still picture of 3 s."""


def number_of(image: Image.Image) -> int:
    """Which of `COLORS` a picture has."""
    shown = np.asarray(image, int).mean(axis=(0, 1))
    return int(np.abs(np.array(COLORS) - shown).sum(axis=1).argmin())


def shown_at(times: Sequence[int], time: int) -> int:
    """The frame that a player shows: the last one that began no later."""
    return max(number for number, begun in enumerate(times) if begun <= time)


def all_of(path: Path, every: int) -> tuple[list[tuple[int, int]], float]:
    """Time and number of the frame of each sample; and the length of the video."""
    samples, rows = sample_video(path, every), []
    while True:
        try:
            sample = next(samples)
        except StopIteration as stop:
            return rows, float(stop.value)
        rows.append((sample.time, number_of(sample.image)))


def reason(path: Path) -> str:
    with pytest.raises(ImageError) as refused:
        list(sample_video(path, 1000))
    assert refused.value.what.startswith(f"{path}: ")
    return refused.value.what.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi"])
@pytest.mark.parametrize("every", [1000, 450, 2000])
def test_a_sample_is_what_is_shown_at_its_time(tmp_path: Path, suffix: str, every: int) -> None:
    film = write_video(tmp_path / f"film.{suffix}", [plain(color) for color in COLORS], TIMES)

    rows, seconds = all_of(film, every)

    assert rows == [(time, shown_at(TIMES, time)) for time in range(0, round(seconds * 1000), every)]
    assert 9.0 < seconds <= 9.2


@settings(max_examples=15)
@given(gaps=st.lists(st.integers(1, 1500), min_size=9, max_size=9), every=st.integers(20, 2500))
def test_any_times_that_were_written_are_those_that_are_read(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], every: int
) -> None:
    times = [sum(gaps[:number]) for number in range(10)]
    film = write_video(tmp_path_factory.mktemp("films") / "film.mp4", [plain(color) for color in COLORS], times)

    rows, _ = all_of(film, every)

    assert rows == [(time, shown_at(times, time)) for time, _ in rows]
    assert [time for time, _ in rows] == list(range(0, rows[-1][0] + 1, every))
    assert rows[-1][0] >= times[-1] - every


def test_times_count_from_the_first_picture(tmp_path: Path) -> None:
    late = write_video(tmp_path / "late.mkv", [plain(color) for color in COLORS], [5000 + time for time in TIMES])

    assert all_of(late, 2000)[0] == [(time, shown_at(TIMES, time)) for time in range(0, 9000, 2000)]


def test_some_times_are_sampled_alone(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", [plain(color) for color in COLORS], TIMES)

    samples = list(frames_at(film, [160, 5100, 5400, 8999, 40_000]))

    assert [(sample.time, number_of(sample.image)) for sample in samples] == [(160, 2), (5100, 6), (5400, 6), (8999, 8)]


CORNERS = {(0, 0): "red", (1, 0): "lime", (0, 1): "blue", (1, 1): "black"}


def corners(image: Image.Image) -> list[str]:
    """The colors of the four quarters: above left and right, below left and right."""
    names = {name: np.array(Image.new("RGB", (1, 1), name).getpixel((0, 0))) for name in CORNERS.values()}
    width, height = image.size
    seen = [
        np.array(image.getpixel((width * (1 + 2 * x) // 4, height * (1 + 2 * y) // 4))) for y, x in np.ndindex(2, 2)
    ]
    return [min(names, key=lambda name: int(np.abs(names[name] - color).sum())) for color in seen]


@pytest.mark.parametrize(
    ("degrees", "left_right", "top_bottom"), list(product((0, 90, 180, -90), (False, True), (False, True)))
)
def test_pictures_are_upright(tmp_path: Path, degrees: int, left_right: bool, top_bottom: bool) -> None:
    stored = Image.new("RGB", (64, 48))
    for (x, y), color in CORNERS.items():
        stored.paste(color, (32 * x, 24 * y, 32 * x + 32, 24 * y + 24))
    film = write_video(tmp_path / "film.mp4", [stored] * 3, turn=(degrees, left_right, top_bottom))
    meant = stored.rotate(degrees, expand=True)  # counterclockwise, as the writer's degrees
    meant = meant.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if left_right else meant
    meant = meant.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if top_bottom else meant

    image = next(sample_video(film, 1000)).image

    assert image.mode == "RGB"
    assert (image.size, corners(image)) == (meant.size, corners(meant))


# --- files that are no videos, or not whole


def test_what_is_no_video_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    (tmp_path / "folder.mp4").mkdir()

    assert reason(tmp_path / "empty.mp4") == "empty file"
    assert reason(tmp_path / "none.mp4") == "no such file"
    assert reason(tmp_path / "folder.mp4") == "not a file"
    assert reason(tmp_path / "text.mp4").startswith("a damaged video, or none (")
    assert reason(write_sound(tmp_path / "song.mp4")) == "no pictures in it: sound alone, or nothing"
    assert reason(write_sound(tmp_path / "album.mp4", cover=True)) == "no pictures in it: sound alone, or nothing"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_video_that_is_cut_short_is_not_taken_for_a_short_video(tmp_path: Path, suffix: str) -> None:
    film = write_video(tmp_path / f"film.{suffix}", [texture(number) for number in range(60)])
    data = film.read_bytes()
    for share in (0.1, 0.3) if suffix == "avi" else (0.1, 0.5, 0.8):  # the rest of an AVI is its index
        film.write_bytes(data[: int(len(data) * share)])
        assert reason(film).startswith(("a damaged video", "a video that is cut short (at "))


def test_any_byte_may_be_wrong(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", [texture(number) for number in range(10)])
    data, random = film.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), 12):
            damaged[place] = random.integers(0, 256)
        film.write_bytes(damaged)
        try:
            assert all(sample.image.mode == "RGB" for sample in sample_video(film, 500))
        except ImageError as error:
            assert error.what.startswith(f"{film}: ")


def test_a_list_of_files_or_addresses_is_never_followed(tmp_path: Path) -> None:
    """FFmpeg's reader of playlists would open them: other files of this machine, and addresses in its network."""
    film = write_video(tmp_path / "secret.ts", [texture(1)] * 20)
    asked: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)

        def listen() -> None:
            try:
                asked.append(server.accept())
            except TimeoutError:
                return

        thread = threading.Thread(target=listen)
        thread.start()
        port = server.getsockname()[1]
        for number, address in enumerate((film.as_uri(), film.name, f"http://127.0.0.1:{port}/a.ts")):
            listed = tmp_path / f"list{number}.mp4"
            listed.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:4,\n{address}\n#EXT-X-ENDLIST\n")
            assert reason(listed).startswith("a damaged video, or none")
        concat = tmp_path / "concat.mp4"
        concat.write_text(f"ffconcat version 1.0\nfile {film.name}\n")
        assert reason(concat).startswith("a damaged video, or none")
        thread.join()
    assert asked == []


def test_an_address_is_not_a_file() -> None:
    assert reason(Path("http://127.0.0.1:9/film.mp4")) == "no such file"


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_video(tmp_path / "film.mp4", [texture(number) for number in range(20)])
    for name, value, words in [
        ("MAX_PIXELS", 64 * 48 - 1, "frames of 64 x 48 pixels are over the limit"),
        ("MAX_SECONDS", 2, "longer than"),
        ("MAX_FRAMES", 5, "longer than"),
        ("MAX_SAMPLES", 3, "gives over 3 samples"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(video_frames, name, value)
            assert words in reason(film)
    assert len(list(sample_video(film, 1000))) == 4


def test_without_pyav_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_frames, "video_is_read", lambda: False)

    assert reason(tmp_path / "film.mp4") == f"a video: to read it, {photo_files.INSTALL_VIDEO}"


def test_samples_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """A film whose second half is damaged gives its first half before it fails."""
    film = write_video(tmp_path / "film.mkv", [texture(number) for number in range(100)])
    data = film.read_bytes()
    film.write_bytes(data[: len(data) // 2])
    samples = sample_video(film, 1000)

    assert [next(samples).time for _ in range(5)] == [0, 1000, 2000, 3000, 4000]
    with pytest.raises(ImageError, match="cut short"):
        list(samples)


def test_frames_do_not_pile_up(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", [texture(number) for number in range(50)])
    gc.collect()
    gc.disable()
    try:
        assert len(list(sample_video(film, 200))) == 50
        assert sum(isinstance(one, av.VideoFrame) for one in gc.get_objects()) <= 1
    finally:
        gc.enable()


# --- lengths of time


@pytest.mark.parametrize(
    ("text", "value"),
    [("2s", 2000), ("500ms", 500), ("1m", 60_000), ("1.5 s", 1500), ("24h", 86_400_000), (2, 2000), ("0.04", 40)],
)
def test_lengths_of_time(text: str | float, value: int) -> None:
    assert milliseconds(text) == value
    assert milliseconds(seconds_text(value)) == value


@pytest.mark.parametrize(
    "text", ["", "2 parsecs", "-1s", "0", "9ms", "25h", "0.0001s", "1e3", "nan", float("inf"), True]
)
def test_what_is_no_length_of_time(text: str | float) -> None:
    with pytest.raises(FactoryError):
        milliseconds(text)


@given(st.integers(10, 86_400_000))
def test_milliseconds_are_written_so_that_they_are_read_again(value: int) -> None:
    assert milliseconds(seconds_text(value)) == value
    assert Fraction(seconds_text(value).removesuffix("s")) * 1000 == value
