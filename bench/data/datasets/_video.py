"""A video file taken apart into pictures, once: OpenCV reads it in C++, where no audit hook sees the file being opened."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.core.errors import BadFile
from bench.core.files import locked, whole
from bench.core.progress import Progress, quiet

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
SHORT = 0.9
"""A file that gives less than this share of the frames its header promises is taken to be truncated (the promise is not exact)."""


def extract(video: Path, cache: Path, progress: Progress = quiet) -> Path:
    """Folder of the video's frames, ``000000.png`` onwards, made now if it is not there. It is named by the file's content.

    Raises:
        BadFile: not there, no video, or truncated.
        RunError: the cache cannot be written.
    """
    folder = cache / "frames" / f"{video.stem}-{fingerprint(video)}"
    with locked(folder):
        if folder.is_dir():  # it was moved into place whole
            return folder
        with whole(folder) as scratch:
            scratch.mkdir()
            _decode_into(scratch, video, progress)
    return folder


def fingerprint(file: Path) -> str:
    """First 12 hex digits of the content's SHA-256.

    Raises:
        BadFile: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(file, "rb") as opened:
            while block := opened.read(1 << 22):
                digest.update(block)
    except OSError as error:
        raise BadFile(file, "missing", f"cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()[:12]


def _decode_into(folder: Path, video: Path, progress: Progress) -> None:
    import cv2

    capture = cv2.VideoCapture(str(video))
    try:
        promised, done = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
        while True:
            there, picture = capture.read()
            if not there:
                break
            coded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
            (folder / f"{done:06d}.png").write_bytes(coded.tobytes())
            done += 1
            progress(f"extract {video.name}", done, max(promised, done))
    finally:
        capture.release()
    if not done:
        raise BadFile(video, "not a video", "no frame of it can be decoded; is it a video?")
    if done < SHORT * promised:
        raise BadFile(video, "truncated", f"stops after {done} of {promised} frames; is it truncated?")
