"""Downloading a file, only on request, and verifying it."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from pyro_seq._files import replacing
from pyro_seq.errors import DataError

_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 2**16


def fetch(url: str, path: Path, *, sha256: str, max_bytes: int = 2**28) -> None:
    """Download `url` to `path`; the file appears only when complete and with the right checksum.

    Call this only if the user requested a download.

    Args:
        url: Public address of the file.
        path: Target path; missing folders are created, an existing file is replaced.
        sha256: Expected checksum, in hexadecimal.
        max_bytes: Size at which the transfer is aborted.

    Raises:
        DataError: When the file cannot be reached or stored, is too large, or is not the expected file.
    """
    digest, size = hashlib.sha256(), 0
    advice = f"Download {url} by other means, check that its sha256 is {sha256}, and put it at {path}."
    try:
        with replacing(path) as temporary:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as source, temporary.open("wb") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > max_bytes:
                        raise DataError(f"{url} must have at most {max_bytes} bytes but sends more. {advice}")
                    digest.update(chunk)
                    target.write(chunk)
            if digest.hexdigest() != sha256:
                raise DataError(f"{url} is not the expected file: sha256 {digest.hexdigest()}. {advice}")
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise DataError(f"{url} could not be downloaded to {path}: {error}. {advice}") from error
