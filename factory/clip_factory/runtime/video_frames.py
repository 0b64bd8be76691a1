"""Frames of a video, by the time at which they are shown: the one reader that scan, label sources and predict share.

PyAV reads the file and is imported when the first video is opened. Times count from the first picture of the video and
are exact fractions of a second, so that a video of variable frame rate is sampled like any other.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from clip_factory.runtime.photo_files import INSTALL_VIDEO, video_is_read
from clip_factory.runtime.runtime_errors import ImageError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL import Image

SAMPLING = 1
"""Counts the ways in which frames were chosen and decoded: what was sampled by an earlier one is not used."""

DEFAULT_EVERY = "2s"
"""From one sample to the next."""
MAX_SECONDS = 24 * 3600
MAX_SAMPLES = 100_000
"""Of one video."""
MAX_FRAMES = 20_000_000
"""That are decoded of one video: 24 h at 230 a second."""
MAX_PIXELS = 40_000_000
"""Of a frame; 8K has 33 million. A decoder holds several frames for each of its threads."""
MISSING = 1.0
"""Seconds by which a video may end before the time that its header states, beside a hundredth of it."""

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,asf,flv"
"""FFmpeg's readers that may be used: of files that hold their pictures themselves. Its readers of playlists and lists
of files would open whatever a file names, on this machine and in the network."""


Turns = dict[int, "Image.Transpose | None"]
"""What makes a picture upright, by its rotation in degrees."""


class Sample(NamedTuple):
    """What a video shows at a time."""

    time: int
    """Milliseconds from its first picture."""
    image: Image.Image
    """RGB, upright."""


def sample_video(path: str | os.PathLike[str], every: int) -> Generator[Sample, None, Fraction]:
    """What a video shows at 0, `every`, twice `every` and so on, up to its end; read as it is asked for.

    Args:
        path: The file.
        every: Milliseconds from one sample to the next.

    Returns:
        How long the video is, in seconds.

    Raises:
        ImageError: As of `frames_at`, or there are over `MAX_SAMPLES`.
    """
    return frames_at(path, count(0, every))


def frames_at(path: str | os.PathLike[str], times: Iterable[int]) -> Generator[Sample, None, Fraction]:
    """What a video shows at some times: the last frame that is shown no later.

    Args:
        path: The file.
        times: Milliseconds from the first picture, ascending; what lies behind the end of the video is not sampled.

    Returns:
        How long the video is, in seconds.

    Raises:
        ImageError: PyAV is not installed; the file is not there, empty, damaged, cut short, holds no pictures that
            move, or is over a limit. The message names the path. Samples that came before stay valid.
    """
    wanted = iter(times)
    target = next(wanted, None)
    samples = 0
    turns: Turns = {}
    with _opened(path) as (container, stream):
        shown: VideoFrame | None = None
        end = Fraction(0)
        for start, frame_end, frame in _timed(path, container, stream):
            image = None
            while shown is not None and target is not None and Fraction(target, 1000) < start:
                image = image or _upright(shown, turns)
                yield Sample(target, image)
                target, samples = next(wanted, None), _counted(path, samples)
            shown, end = frame, frame_end
        if shown is None:
            raise ImageError(f"{path}: a video without a picture")
        _check_whole(path, container, stream, end)
        image = None
        while target is not None and Fraction(target, 1000) < end:
            image = image or _upright(shown, turns)
            yield Sample(target, image)
            target, samples = next(wanted, None), _counted(path, samples)
        return end


def _counted(path: str | os.PathLike[str], samples: int) -> int:
    if samples >= MAX_SAMPLES:
        raise ImageError(f"{path}: gives over {MAX_SAMPLES:,} samples: ask for one less often")
    return samples + 1


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its stream of pictures; whatever is wrong while it is read becomes an ImageError."""
    if not video_is_read():
        raise ImageError(f"{path}: a video: to read it, {INSTALL_VIDEO}")
    import av

    try:
        _check_file(path)
        # A file object, not the path: FFmpeg takes paths for addresses.
        with (
            open(path, "rb") as file,
            av.open(file, "r", options={"format_whitelist": FORMATS, "protocol_whitelist": "none"}) as container,
        ):
            yield container, _pictures(path, container)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except MemoryError as error:
        raise ImageError(f"{path}: there is not enough memory to read it") from error
    except av.FFmpegError as error:
        raise ImageError(f"{path}: a damaged video, or none ({error.strerror})") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror or error})") from error
    except Exception as error:  # readers of damaged files raise ValueError, OverflowError and more
        raise ImageError(f"{path}: a damaged video ({error or type(error).__name__})") from None


def _check_file(path: str | os.PathLike[str]) -> None:
    try:
        status = os.stat(path)
    except ValueError:  # a null byte
        raise ImageError(f"{path}: no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}: not a file")
    if status.st_size == 0:
        raise ImageError(f"{path}: empty file")


def _pictures(path: str | os.PathLike[str], container: InputContainer) -> VideoStream:
    """The first stream of pictures that move: the cover of an album is none."""
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails
    stream = next((one for one in container.streams.video if not one.disposition & still), None)
    if stream is None:
        raise ImageError(f"{path}: no pictures in it: sound alone, or nothing")
    _check_pixels(path, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "AUTO"
    return stream


def _check_pixels(path: str | os.PathLike[str], width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path}: frames of {width} x {height} pixels are over the limit of {MAX_PIXELS:,}")


def _timed(
    path: str | os.PathLike[str], container: InputContainer, stream: VideoStream
) -> Iterator[tuple[Fraction, Fraction, VideoFrame]]:
    """Each frame with the seconds from which and up to which it is shown; frames that go back in time are left out."""
    step = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    first: Fraction | None = None
    last = end = Fraction(0)
    for number, frame in enumerate(container.decode(stream)):
        _check_pixels(path, frame.width, frame.height)
        base = frame.time_base or stream.time_base
        stamp = end + (first or 0) if frame.pts is None or base is None else frame.pts * Fraction(base)
        first = stamp if first is None else first
        start = stamp - first
        if start < last:
            continue
        length = frame.duration * Fraction(base) if frame.duration and base else step
        last, end = start, start + min(length, Fraction(MAX_SECONDS))
        if start > MAX_SECONDS or number >= MAX_FRAMES:
            raise ImageError(f"{path}: longer than {MAX_SECONDS // 3600} h, or {MAX_FRAMES:,} frames: cut it in parts")
        yield start, end, frame


def _check_whole(path: str | os.PathLike[str], container: InputContainer, stream: VideoStream, end: Fraction) -> None:
    """Compare the end of the last frame with what the header states, where it does.

    Raises:
        ImageError: The video is cut short.
    """
    stated = _stated(container, stream)
    if stated is not None and end < stated - Fraction(MISSING) - stated / 100:
        raise ImageError(f"{path}: a video that is cut short (at {float(end):.1f} s of {float(stated):.1f} s)")


def _stated(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds that the stream lasts, as the file's header has it; None where that is not known."""
    if container.format.name == "avi" and stream.time_base is not None:  # its duration is guessed by the file's size
        return stream.frames * Fraction(stream.time_base)
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * Fraction(stream.time_base)
    try:  # Matroska keeps the time of the end as a text: 00:01:02.500000000
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        start = (stream.start_time or 0) * Fraction(stream.time_base or 0)
        return 3600 * Fraction(hours) + 60 * Fraction(minutes) + Fraction(seconds) - start
    except (KeyError, ValueError, ZeroDivisionError):
        return None


def _upright(frame: Any, turns: Turns) -> Image.Image:
    """The frame as RGB, turned and mirrored as its display matrix says.

    `turns` gets what frames of its rotation need: PyAV keeps a frame whose side data were read until the garbage
    collector comes by, and these would pile up.
    """
    image: Image.Image = frame.to_image()
    if frame.rotation not in turns:
        turns[frame.rotation] = _turn(frame)
    turn = turns[frame.rotation]
    return image if turn is None else image.transpose(turn)


def _turn(frame: VideoFrame) -> Image.Transpose | None:
    """What makes the picture upright: the display matrix (ISO/IEC 14496-12, 8.3.2) maps a point (x, y) of the stored
    picture to (ax + cy, bx + dy), with y downwards; its first values are a, b, u, c, d.
    """
    from PIL import Image

    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None or len(raw := bytes(data)) != 36:
        return None
    a, b, _, c, d = struct.unpack("=5i", raw[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        turns = {
            (False, True): Image.Transpose.FLIP_TOP_BOTTOM,
            (True, False): Image.Transpose.FLIP_LEFT_RIGHT,
            (True, True): Image.Transpose.ROTATE_180,
        }
        return turns.get((a < 0, d < 0))
    return {
        (False, False): Image.Transpose.TRANSPOSE,
        (False, True): Image.Transpose.ROTATE_270,  # Pillow turns counterclockwise
        (True, False): Image.Transpose.ROTATE_90,
        (True, True): Image.Transpose.TRANSVERSE,
    }[b < 0, c < 0]
