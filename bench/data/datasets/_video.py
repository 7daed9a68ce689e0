"""A video file taken apart into pictures, once: OpenCV reads it in C++, where no audit hook sees the file being opened."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from bench.core.errors import BadFile
from bench.core.files import disk_errors, locked, no_file, sha256_of, whole
from bench.core.progress import Progress, quiet, say
from bench.core.sealed import crc_of, load_json, sealed, unsealed

VIDEOS = (
    ".mp4",
    ".avi",
    ".mov",
    ".mkv",
    ".webm",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".m2ts",
    ".wmv",
    ".flv",
    ".3gp",
    ".gif",
)
SHORT = 0.9
"""A file that gives less than this share of the frames its header promises is taken to be truncated (the promise is not exact)."""
SUMS = ".frames.json"
"""Size and CRC-32 of each frame, beside them."""
CODECS = {
    "av01": "AV1",
    "avc1": "H.264",
    "h264": "H.264",
    "hvc1": "H.265",
    "hev1": "H.265",
    "hevc": "H.265",
    "vp90": "VP9",
}
"""What people call the commonest codecs."""


def extract(video: Path, cache: Path, progress: Progress = quiet) -> Path:
    """Folder of the video's frames, ``000000.png`` onwards, made now if it is not there as it was made (:data:`SUMS`). It is named
    by the file's content.

    Raises:
        BadFile: not there, no video, truncated, or of a codec that OpenCV cannot decode.
        RunError: the cache cannot be written.
    """
    folder = cache / "frames" / f"{video.stem}-{fingerprint(video)}"
    with locked(folder):
        if folder.is_dir():
            if (damaged := _changed(folder)) is None:
                return folder
            say(f"{folder / damaged} is damaged; {video.name} is taken apart again")
            with disk_errors(folder):
                shutil.rmtree(folder)
        with whole(folder) as scratch:
            scratch.mkdir()
            _decode_into(scratch, video, progress)
            sums = {frame.name: crc_of(frame) for frame in sorted(scratch.iterdir())}
            (scratch / SUMS).write_text(json.dumps(sealed(sums)), encoding="utf-8")
    return folder


def _changed(folder: Path) -> str | None:
    """Name of a file that is not as it was made; None where all are, and in older folders, which have no list of them."""
    name = SUMS
    try:
        if not (folder / SUMS).is_file():
            return None
        sums = unsealed(load_json((folder / SUMS).read_text(encoding="utf-8")))
        for name in sorted({*sums, *(path.name for path in folder.iterdir())} - {SUMS}):
            if sums.get(name) != crc_of(folder / name):
                return name
    except (OSError, ValueError):
        return name
    return None


def fingerprint(file: Path) -> str:
    """First 12 hex digits of the content's SHA-256.

    Raises:
        BadFile: it cannot be read.
    """
    if kind := no_file(file):
        raise BadFile(file, "unreadable", f"is {kind}, a video file is expected")
    try:
        return sha256_of(file)[:12]
    except OSError as error:
        raise BadFile(file, "missing", f"cannot be read: {error.strerror or error}") from None


def _decode_into(folder: Path, video: Path, progress: Progress) -> None:
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its lines say less than ours
    capture = cv2.VideoCapture(str(video))
    try:
        promised, done = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
        codec = (
            int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).decode("ascii", "ignore").lower()
        )
        while True:
            success, picture = capture.read()
            if not success:
                break
            coded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
            (folder / f"{done:06d}.png").write_bytes(coded.tobytes())
            done += 1
            progress(f"extract {video.name}", done, max(promised, done))
    finally:
        capture.release()
    if not done and codec.strip("\0 ").isalnum():
        name = CODECS.get(codec, codec)
        raise BadFile(
            video,
            "codec",
            f"no frame of it can be decoded: it is {name} ({codec}), which this OpenCV cannot decode, or damaged. Convert it: "
            "ffmpeg -i IN -c:v libx264 OUT.mp4",
        )
    if not done:
        raise BadFile(video, "not a video", "no frame of it can be decoded; is it a video?")
    if done < SHORT * promised:
        raise BadFile(video, "truncated", f"stops after {done} of {promised} frames; is it truncated?")
