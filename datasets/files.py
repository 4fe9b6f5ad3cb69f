"""What is dear to make and cheap to keep: files in the user's cache, trusted by their checksum alone."""

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache for this project, as the XDG specification has it; it need not exist, and may be deleted."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noisy-pairs"


def keep(name: str, content: bytes) -> None:
    """Put `content` into the cache, whole or not at all; a cache that cannot be written keeps nothing."""
    folder = cache_folder()
    part = folder / f".{name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(blake2b(content).digest() + content)
        part.replace(folder / name)
    except OSError:
        with suppress(OSError):
            part.unlink()


def kept(name: str) -> bytes | None:
    """What `keep` put there; None where there is nothing, or something that was cut off or changed."""
    try:
        data = (cache_folder() / name).read_bytes()
    except OSError:
        return None
    size = blake2b().digest_size
    return data[size:] if blake2b(data[size:]).digest() == data[:size] else None
