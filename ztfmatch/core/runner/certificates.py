"""TLS certificates of one run, so that only its own processes can talk to its scheduler and workers.

Who reaches the port of a Dask scheduler or worker can have it run any code. Each run has a key of its own; whoever
holds it is of the run, and everybody else is turned away in the handshake. It lies in files that only the user can
read, on a file system that workers see, and is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Keywords

_PREFIX: Final = ".ztfmatch-run-"
_NAME: Final = "ztfmatch-run"
_CLOCKS_DIFFER: Final = timedelta(minutes=10)
"""The clocks of nodes may be behind by so much."""


@dataclass(frozen=True)
class Credentials:
    """Files of a run's key and certificate, and when it ends."""

    directory: Path
    """Which nobody else can enter."""
    expires: float
    """Seconds since 1970."""

    @property
    def security(self) -> Any:
        """What Dask takes; scheduler, workers and clients have the same certificate, which signs itself."""
        from distributed.security import Security

        certificate, key = str(self.directory / "certificate.pem"), str(self.directory / "key.pem")
        files = {f"tls_{role}_{what}": path for role in ("client", "scheduler", "worker")
                 for what, path in (("cert", certificate), ("key", key))}  # fmt: skip
        return Security(require_encryption=True, tls_ca_file=certificate, **files)

    def expired(self) -> Exception | None:
        """The error to end with once no process can join any more."""
        if time.time() < self.expires:
            return None
        return ConfigError(
            f"the certificates of this run ended at {datetime.fromtimestamp(self.expires, UTC):%Y-%m-%dT%H:%M:%SZ}, so "
            "that no worker can join it; what its tasks did is kept: run it again, and raise certificate_lifetime in "
            "the profile"
        )


@contextlib.contextmanager
def credentials_for(security: str, place: str, lifetime_s: float) -> Iterator[Credentials | None]:
    """Certificates of a run, if it is to have any: see :func:`credentials_for_run`."""
    if security == "none":
        yield None
        return
    with credentials_for_run(place, lifetime_s) as made:
        yield made


def spoken(credentials: Credentials | None) -> Keywords:
    """Keywords of a cluster of Dask that say how its processes speak; without any, as Dask's configuration says."""
    return {} if credentials is None else {"protocol": "tls://", "security": credentials.security}


@contextlib.contextmanager
def credentials_for_run(place: str, lifetime_s: float) -> Iterator[Credentials]:
    """Make the certificates of a run, and remove them at its end.

    Parameters
    ----------
    place : str
        Directory in which theirs is made; all nodes must see it. Empty for the home directory.
    lifetime_s : float
        How long they are good.

    Raises
    ------
    ConfigError
        If ``cryptography`` is missing, or nothing can be written there.
    """
    above = Path(place or "~").expanduser().absolute()
    key, certificate, expires = _made(lifetime_s)
    try:
        above.mkdir(parents=True, exist_ok=True)
        _remove_ended(above)
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=above))  # mode 0700
    except OSError as error:
        raise ConfigError(f"cannot write the certificates of this run in {above}: {error.strerror}") from error
    try:
        for name, content in (("key.pem", key), ("certificate.pem", certificate)):
            handle = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        os.utime(directory, (expires, expires))
        yield Credentials(directory, expires)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_ended(above: Path) -> None:
    """Take away what killed runs left; the time of such a directory is when its certificate ends."""
    for directory in above.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.stat().st_mtime < time.time():
                shutil.rmtree(directory, ignore_errors=True)


def _made(lifetime_s: float) -> tuple[bytes, bytes, float]:
    """Key, the certificate that signs itself with it, and when that ends."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise ConfigError("security = \"tls\" needs cryptography: pip install 'ztfmatch[slurm]'") from None
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    end = now + timedelta(seconds=lifetime_s)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return pem, certificate.public_bytes(serialization.Encoding.PEM), end.timestamp()
