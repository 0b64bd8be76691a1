"""Videos as photos: frames beside the photos around them, named by time, and what gives none listed with the reason."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_factory.errors import ImageError, ImagesError, ScenarioError
from clip_factory.images import scan as images
from clip_factory.images import videos
from clip_factory.images.frame_names import clip_of, frame_name, time_of
from clip_factory.images.sources import locate
from clip_factory.images.videos import Clip, clip_at
from clip_factory.run_folder import sha256_file
from clip_factory.runtime import photo_files
from clip_factory.runtime.video_frames import sample_video
from clip_factory.scenario import Images, parse
from support.videos import texture, write_sound, write_video


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """A folder with photos and videos, in it and below it, and files that are neither."""
    folder = tmp_path / "yard"
    for number, name in enumerate(("a.png", "deep/b.jpg", "deep/deeper/c.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        texture(number).save(folder / name)
    write_video(folder / "gate.mp4", [texture(100 + number) for number in range(25)])
    write_video(folder / "deep" / "door.MKV", [texture(200 + number) for number in range(25)])
    (folder / "notes.txt").write_text("notes")
    return folder


FRAMES = ["000000.000s.jpg", "000002.000s.jpg", "000004.000s.jpg"]
"""Of five seconds, one every two."""


def table(root: Path, store: Path) -> dict[str, str | None]:
    """Path and reason of all that the scan saw."""
    scanned = images.scan(root, store / "scan.sqlite", lambda done, total: None)
    return dict(zip(scanned["path"].to_pylist(), scanned["reason"].to_pylist(), strict=True))


def test_frames_stand_among_the_photos_under_the_name_of_their_video(yard: Path, store: Path) -> None:
    root = locate(Images(path=str(yard)), store)

    photos = ["a.png", "deep/b.jpg", "deep/deeper/c.png"]
    frames = [f"{clip}/{name}" for clip in ("gate.mp4", "deep/door.MKV") for name in FRAMES]
    assert table(root, store) == dict.fromkeys([*photos, *frames]) | {"notes.txt": "not an image, by its name"}
    for photo in photos:
        assert (root / photo).read_bytes() == (yard / photo).read_bytes()


def test_a_frame_is_what_the_video_shows_then(yard: Path, store: Path) -> None:
    root = locate(Images(path=str(yard), every="1s"), store)

    samples = list(sample_video(yard / "gate.mp4", 1000))
    files = sorted((root / "gate.mp4").iterdir())
    assert [time_of(file.name) for file in files] == [sample.time for sample in samples] == [0, 1000, 2000, 3000, 4000]
    for file, sample in zip(files, samples, strict=True):
        difference = np.asarray(Image.open(file), int) - np.asarray(sample.image, int)
        assert np.abs(difference).mean() < 3, "of JPEG alone; of another frame it is dozens"


def test_no_photo_is_copied(yard: Path, store: Path) -> None:
    locate(Images(path=str(yard)), store)

    kept = [file for file in store.rglob("*") if file.is_file() and not file.is_symlink()]
    assert {file.suffix for file in kept} == {".jpg", ".json"}
    assert all(clip_of(f"x.mp4/{file.name}") for file in kept if file.suffix == ".jpg")


def test_a_folder_without_videos_is_itself(yard: Path, store: Path) -> None:
    (yard / "gate.mp4").unlink()
    (yard / "deep" / "door.MKV").unlink()

    assert locate(Images(path=str(yard)), store) == yard
    assert not (store / "videos").exists()
    assert not (store / "frames").exists()


def test_one_video_is_a_set(yard: Path, store: Path) -> None:
    root = locate(Images(path=str(yard / "gate.mp4")), store)

    assert table(root, store) == dict.fromkeys(f"gate.mp4/{name}" for name in FRAMES)


def test_a_video_is_sampled_once_and_the_rest_goes_on_where_it_was(
    yard: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    whole = videos.sample_video

    def broken_off(path: Path, every: int) -> Any:
        read.append(path.name)
        if path.name == "gate.mp4":
            raise KeyboardInterrupt
        return whole(path, every)

    monkeypatch.setattr(videos, "sample_video", broken_off)
    with pytest.raises(KeyboardInterrupt):
        locate(Images(path=str(yard)), store)
    assert sum(folder.is_dir() for folder in (store / "frames").iterdir()) == 1
    assert read == ["door.MKV", "gate.mp4"]
    monkeypatch.setattr(videos, "sample_video", lambda path, every: read.append(path.name) or whole(path, every))

    first = locate(Images(path=str(yard)), store)
    assert read == ["door.MKV", "gate.mp4", "gate.mp4"]
    assert locate(Images(path=str(yard)), store) == first
    assert read == ["door.MKV", "gate.mp4", "gate.mp4"]
    shutil.copy(yard / "gate.mp4", yard.parent / "renamed.mp4")
    locate(Images(path=str(yard.parent / "renamed.mp4")), store)
    assert read[3:] == [], "the same content under another name"
    locate(Images(path=str(yard), every="1s"), store)
    assert sorted(read[3:]) == ["door.MKV", "gate.mp4"]


def test_what_changes_gives_another_folder_and_the_old_one_stays(yard: Path, store: Path) -> None:
    first = locate(Images(path=str(yard)), store)
    before = sorted(path.relative_to(first) for path in first.rglob("*"))
    texture(9).save(yard / "new.png")
    write_video(yard / "gate.mp4", [texture(300 + number) for number in range(25)])

    second = locate(Images(path=str(yard)), store)
    assert second != first
    assert (second / "new.png").is_file()
    assert sorted(path.relative_to(first) for path in first.rglob("*")) == before
    assert (second / "gate.mp4" / FRAMES[0]).read_bytes() != (first / "gate.mp4" / FRAMES[0]).read_bytes()


def test_several_processes_may_sample_at_once(yard: Path, store: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        roots = set(pool.map(lambda _: locate(Images(path=str(yard)), store), range(4)))

    assert len(roots) == 1
    assert len(table(roots.pop(), store)) == 10


def test_what_gives_no_frame_is_listed_with_the_reason_and_the_rest_goes_on(yard: Path, store: Path) -> None:
    whole = (yard / "deep" / "door.MKV").read_bytes()
    (yard / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (yard / "empty.mp4").touch()
    (yard / "text.mov").write_text("text " * 100)
    write_sound(yard / "song.mp4")
    shutil.copy(yard / "gate.mp4", yard / "same.mp4")
    (yard / ".hidden.mp4").write_bytes(whole)

    seen = table(locate(Images(path=str(yard)), store), store)
    reasons = {path: reason for path, reason in seen.items() if reason}
    assert reasons.pop("cut.mkv").startswith("a video that is cut short (at 2.")
    assert reasons.pop("text.mov").startswith("a damaged video, or none (")
    assert reasons == {
        ".hidden.mp4": "hidden: its name begins with a dot",
        "empty.mp4": "empty file",
        "notes.txt": "not an image, by its name",
        "same.mp4": "the same video as another (gate.mp4)",
        "song.mp4": "no pictures in it: sound alone, or nothing",
    }
    assert len(seen) - 7 == 9


def test_a_set_without_a_frame_is_refused_with_the_first_reason(tmp_path: Path, store: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").touch()

    with pytest.raises(ImagesError, match=r"films: no frame of 1 videos can be read\n  the first: a\.mp4: empty file"):
        locate(Images(path=str(tmp_path / "films")), store)
    with pytest.raises(ImagesError, match="the first: empty file"):
        locate(Images(path=str(tmp_path / "films" / "a.mp4")), store)
    assert not list(store.glob("videos/*"))


def test_without_pyav_photos_go_on_and_videos_alone_are_refused(
    yard: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (photo_files, videos):
        monkeypatch.setattr(module, "video_is_read", lambda: False)

    assert locate(Images(path=str(yard)), store) == yard
    assert table(yard, store)["gate.mp4"] == f"a video: to sample its frames, {photo_files.INSTALL_VIDEO}"
    for path in (yard / "gate.mp4", write_video(yard.parent / "films" / "a.mp4", [texture(1)]).parent):
        with pytest.raises(ImagesError, match=r"not installed\n  pip install 'clip-factory\[video\]'"):
            locate(Images(path=str(path)), store)


def test_links_that_lead_in_a_circle_are_seen_once(yard: Path, store: Path) -> None:
    (yard / "deep" / "back").symlink_to(yard, target_is_directory=True)

    seen = table(locate(Images(path=str(yard)), store), store)
    assert seen["deep/back"] == "a link to a folder that is looked into already"
    assert len(seen) == 11


def test_where_links_are_not_allowed_files_are_linked_hard(
    yard: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refused)
    root = locate(Images(path=str(yard)), store)

    assert len(table(root, store)) == 10
    assert os.path.samefile(root / "a.png", yard / "a.png")


def test_names_that_are_no_text(tmp_path: Path, store: Path) -> None:
    film = write_video(tmp_path / "film.mp4", [texture(1)] * 5)
    folder = tmp_path / "films"
    folder.mkdir()
    film.rename(folder / os.fsdecode(b"caf\xe9.mp4"))

    root = locate(Images(path=str(folder)), store)
    assert table(root, store) == {"caf\\xe9.mp4/000000.000s.jpg": None}


def test_a_frame_knows_its_video(yard: Path, store: Path) -> None:
    root = locate(Images(path=str(yard)), store)

    clip = clip_at(root / "deep" / "door.MKV" / FRAMES[1])
    assert clip == Clip(yard / "deep" / "door.MKV", sha256_file(yard / "deep" / "door.MKV"), 5.0)
    assert clip_at(root / "a.png") is None
    assert clip_at(yard / "a.png") is None


def test_a_black_frame_of_one_video_is_not_that_of_another(tmp_path: Path, store: Path) -> None:
    """What is kept by the hash of a frame, such as the scores of its video, is of one video."""
    black = Image.new("RGB", (64, 48))
    for name, color in (("a", "red"), ("b", "blue")):
        write_video(tmp_path / "films" / f"{name}.mp4", [black] * 11 + [Image.new("RGB", (64, 48), color)] * 11)
    root = locate(Images(path=str(tmp_path / "films"), every="1s"), store)

    scanned = images.scan(root, store / "scan.sqlite", lambda done, total: None).to_pylist()
    hashes = {row["path"]: row["sha256"] for row in scanned}
    assert hashes["a.mp4/000000.000s.jpg"] == hashes["a.mp4/000001.000s.jpg"]
    assert hashes["a.mp4/000000.000s.jpg"] != hashes["b.mp4/000000.000s.jpg"]


# --- names and keys


def test_names_of_frames_sort_as_their_times_do() -> None:
    times = [0, 40, 1000, 9999, 10_000, 59_999, 3_600_000, 86_400_000]

    names = [frame_name(time) for time in times]
    assert names == sorted(names)
    assert [time_of(f"gate.mp4/{name}") for name in names] == times
    assert frame_name(12_000) == "000012.000s.jpg"


@pytest.mark.parametrize(
    ("path", "clip"),
    [
        ("gate.mp4/000012.000s.jpg", "gate.mp4"),
        ("deep/gate.MOV/000012.040s.jpg", "deep/gate.MOV"),
        ("gate/000012.000s.jpg", None),
        ("gate.mp4/12s.jpg", None),
        ("gate.mp4/deep/000012.000s.jpg", None),
        ("000012.000s.jpg", None),
    ],
)
def test_which_video_a_photo_is_of(path: str, clip: str | None) -> None:
    assert clip_of(path) == clip


SCENARIO = "name: gate\npositive: [gate]\nimages: {{path: clip.mp4, every: {every}}}\n"


@pytest.mark.parametrize(
    ("every", "kept"), [("2s", "2s"), ("2", "2s"), ("0.5", "0.5s"), ("1m", "60s"), ("250ms", "0.25s")]
)
def test_every_is_kept_in_seconds(every: str, kept: str) -> None:
    assert parse(SCENARIO.format(every=every)).images.every == kept


@pytest.mark.parametrize("every", ["true", "0", "-1", "fast", "1ms", "30h", "[2s]"])
def test_every_that_is_no_length_of_time_is_refused_by_line(every: str) -> None:
    with pytest.raises(ScenarioError, match=r"scenario:3"):
        parse(SCENARIO.format(every=every))


def test_where_every_is_not_set_nothing_is_written() -> None:
    assert "every" not in Images(path="photos").model_dump_json()


def test_an_error_of_the_machine_is_no_reason_to_leave_a_video_out(
    yard: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(videos, "write_json", full)
    with pytest.raises(ImagesError, match=r"cannot be written .*No space left") as refused:
        locate(Images(path=str(yard)), store)
    assert not isinstance(refused.value, ImageError)
