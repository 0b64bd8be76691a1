"""Videos become folders of photos: frames are sampled once for each content, and stand beside the photos around them.

Every stage reads photos below one folder. Where there are videos, that folder is made in the store: it has a link for
each photo, under the photo's own path, and for each video a folder of its frames named like the video. So no photo is
copied, and paths mean what they mean without videos.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clip_factory.errors import ImageError, ImagesError
from clip_factory.images.frame_names import frame_name
from clip_factory.images.left_out import LeftOut, write_left_out
from clip_factory.progress import bar, console
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.atomic import atomic_folder, write_json, write_text
from clip_factory.runtime.durations import milliseconds, seconds_text
from clip_factory.runtime.photo_files import INSTALL_VIDEO, SeenFile, find_files, path_text, video_is_read
from clip_factory.runtime.video_frames import DEFAULT_EVERY, SAMPLING, sample_video

QUALITY = 95
"""Of the JPEG files that frames are kept as; with `SUBSAMPLING` 0, colors keep all of their resolution. Snapshots take
0.3 of what PNG files would."""
SUBSAMPLING = 0
KEPT = ("frames", "videos")
"""Folders of the store that this module fills."""


@dataclass(frozen=True)
class Clip:
    """A video whose frames are photos."""

    file: Path
    sha256: str
    """Hex, of the file's bytes when its frames were sampled."""
    seconds: float
    """How long it is."""


class _Entry(NamedTuple):
    """A photo, or the frames of a video, as the gathered folder shows it."""

    path: Path
    """Below the folder; bytes that are no text as the system has them."""
    target: Path


class _Sampled(NamedTuple):
    folder: Path
    """Of the frames."""
    sha256: str
    """Of the video."""
    frames: int
    seconds: float


def gather(source: Path, every: str | float | None, store: Path) -> Path:
    """The folder that shows the photos of `source` and the frames of its videos; `source` itself where none is sampled.

    Args:
        source: A folder, or a video.
        every: Time from one frame to the next; None: `DEFAULT_EVERY`.
        store: Frames go to `frames/` in it, once for each content and `every`; the folder to `videos/`.

    Returns:
        The folder. Beside it lie the list of what gave no photo, and of the videos; see `clip_at`.

    Raises:
        ImagesError: There is no photo, and no video gives one, or PyAV is not installed.
    """
    seen = find_files(source) if source.is_dir() else []
    videos = [file.path for file in seen if file.is_video] if source.is_dir() else [source]
    if not videos:
        return source
    if not video_is_read():
        if any(file.reason is None for file in seen):
            return source
        raise ImagesError(f"{videos[0]}: a video, and PyAV, which reads it, is not installed", hint=INSTALL_VIDEO)
    seen = [file._replace(path=file.path.absolute()) for file in seen]
    return _with_frames(source.absolute(), seen, milliseconds(every or DEFAULT_EVERY), store)


def _with_frames(source: Path, seen: Sequence[SeenFile], step: int, store: Path) -> Path:
    """As `gather`, of a video or a folder with some; `seen` is what the folder holds."""
    root = source if source.is_dir() else source.parent
    videos = [file.path for file in seen if file.is_video] or [source]
    left_out = [LeftOut(_text(file.path, root), file.reason) for file in seen if file.reason and not file.is_video]
    sampled, failed = _sample_all(videos, root, step, store)
    photos = [_Entry(file.path.relative_to(root), file.path) for file in seen if file.reason is None]
    if not photos and not sampled:
        first = f"{failed[0].name}: {failed[0].reason}" if source.is_dir() else failed[0].reason
        raise ImagesError(f"{source}: no frame of {len(videos):,} videos can be read", hint=f"the first: {first}")
    _report(sampled, failed, step)
    entries = [*photos, *(_Entry(video.relative_to(root), one.folder) for video, one in sampled.items())]
    clips = {
        _text(video, root): {"file": str(video), "sha256": one.sha256, "seconds": one.seconds}
        for video, one in sampled.items()
    }
    return _linked(sorted(entries), [*left_out, *failed], clips, store)


def clip_at(photo: Path) -> Clip | None:
    """The video that a photo, in a folder that `gather` made, is a frame of; None for other photos."""
    folder = photo.parent
    for root in folder.parents:
        try:
            known = json.loads(_clips_file(root).read_bytes())[_text(folder, root)]
            return Clip(Path(known["file"]), str(known["sha256"]), float(known["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _text(path: Path, root: Path) -> str:
    return path_text(path.relative_to(root))


def _sample_all(
    videos: Sequence[Path], root: Path, every: int, store: Path
) -> tuple[dict[Path, _Sampled], list[LeftOut]]:
    """The frames of each video that gives some, and the others with the reason."""
    sampled: dict[Path, _Sampled] = {}
    failed: list[LeftOut] = []
    first_of: dict[Path, Path] = {}
    with bar("sampling videos") as progress:
        for done, video in enumerate(videos, start=1):
            try:
                one = _sample(video, every, store)
            except ImageError as error:
                failed.append(LeftOut(_text(video, root), error.what.removeprefix(f"{video}: ")))
            else:
                first = first_of.setdefault(one.folder, video)
                if first == video:
                    sampled[video] = one
                else:
                    failed.append(LeftOut(_text(video, root), f"the same video as another ({_text(first, root)})"))
            progress(done, len(videos))
    return sampled, failed


def _sample(video: Path, every: int, store: Path) -> _Sampled:
    """The frames of a video, which are written where they are not there yet.

    Raises:
        ImageError: It cannot be read.
        ImagesError: The frames cannot be written.
    """
    try:
        sha256 = sha256_file(video)
    except OSError as error:
        raise ImageError(f"{video}: cannot be opened ({error.strerror or error})") from None
    folder = store / "frames" / f"{sha256}-{every}ms-{SAMPLING}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_folder(folder) as temporary:
                _write_frames(video, sha256, every, temporary, _info_file(folder))
        except OSError as error:
            if not folder.is_dir():  # else another process was quicker, with the same content
                hint = f"is there room in {store}?"
                raise ImagesError(f"{video}: its frames cannot be written ({error})", hint=hint) from None
    info = json.loads(_info_file(folder).read_bytes())
    return _Sampled(folder, sha256, int(info["frames"]), float(info["seconds"]))


def _write_frames(video: Path, sha256: str, every: int, folder: Path, info: Path) -> None:
    # A black frame of one video is another photo than a black frame of another: what is known of a frame's video, such
    # as a label source's scores, is kept by the sha256 of the frame.
    comment = f"frame of the video with sha256 {sha256}"
    samples = sample_video(video, every)
    count = 0
    while True:
        try:
            time, image = next(samples)
        except StopIteration as end:
            write_json(info, {"frames": count, "seconds": round(float(end.value), 3)})
            return
        image.save(folder / frame_name(time), "JPEG", quality=QUALITY, subsampling=SUBSAMPLING, comment=comment)
        count += 1


def _linked(entries: Sequence[_Entry], left_out: Sequence[LeftOut], clips: dict[str, Any], store: Path) -> Path:
    """The folder with a link for each entry; one that shows the same is used again."""
    digest = hashlib.sha256()
    for path, original in entries:
        digest.update(b"\0".join(map(os.fsencode, (path, original))) + b"\0")
    digest.update(json.dumps([left_out, clips]).encode())
    target = store.absolute() / "videos" / digest.hexdigest()[:32]
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_folder(target) as temporary:
            for path, original in entries:
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                _link(original.absolute(), temporary / path)
            write_left_out(target, left_out)
            write_text(_clips_file(target), json.dumps(clips))  # ASCII: paths need not be text
    except OSError as error:
        if not target.is_dir():  # else another process was quicker
            raise ImagesError(
                f"{target}: photos and frames cannot be linked ({error})",
                hint="keep photos and videos in folders of their own, or the store on the drive of the photos",
            ) from None
    return target


def _link(original: Path, link: Path) -> None:
    """A symbolic link, or where the system allows none (Windows, by default) hard links."""
    try:
        link.symlink_to(original, target_is_directory=original.is_dir())
    except OSError:
        if not original.is_dir():
            os.link(original, link)
            return
        link.mkdir()
        for file in original.iterdir():
            os.link(file, link / file.name)


def _report(sampled: dict[Path, _Sampled], failed: Sequence[LeftOut], every: int) -> None:
    frames, seconds = sum(one.frames for one in sampled.values()), sum(one.seconds for one in sampled.values())
    missing = f"; {len(failed):,} left out, the first: {failed[0].name}: {failed[0].reason}" if failed else ""
    console.print(
        f"{len(sampled):,} videos, {seconds:,.0f} s: {frames:,} frames, one every {seconds_text(every)}{missing}",
        markup=False,
    )


def _info_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _clips_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.clips.json")
