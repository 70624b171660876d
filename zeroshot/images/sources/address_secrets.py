"""Secrets in addresses: such an address is refused before its name stands in a record, a manifest or a message."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from ...errors import UsageError
from .image_names import scheme_of

_WORDS = frozenset(
    (
        *("auth", "authorization", "bearer", "credential", "credentials", "hdnea", "hdntl", "hdnts", "hmac", "jwt"),
        *("otp", "pass", "passphrase", "passwd", "password", "pwd", "sas", "secret", "session", "sid", "sig"),
        *("signature", "ticket", "token"),
    )
)
"""Words in the name of a parameter that holds a secret: ``client_secret``, ``X-Amz-Signature``, ``accessToken``."""

_ENDS = ("token", "secret", "password", "signature", "credential", "sessionid", "sessid")
_KEYS = re.compile(r"(|.*(access|account|api|app|auth|client|private|secret|shared|sign|signing|subscription))key(id)?")
"""``key``, ``api_key``, ``AWSAccessKeyId``; but no ``sort_key``."""


def check_address(name: str) -> None:
    """Refuse an address that holds a secret: names stand in records, manifests and messages.

    Raises:
        UsageError: It holds a password, or a signature in its query.
    """
    if "://" not in name or not any(mark in name for mark in "@?#") or not scheme_of(name):
        return
    if what := find_secret(name):
        host = name.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0].rpartition("@")[2]
        raise UsageError(
            f"the address of {host} holds {what}, which would stand in every record",
            "s3://, gs:// and az:// take credentials from the environment",
        )


def find_secret(address: str) -> str:
    """Say what kind of secret an address holds; nothing where it holds none."""
    try:
        parts = urlsplit(address)
    except ValueError:  # brackets that are no IPv6 address; fetched, it is a failure of its own
        return "a user name or password" if "@" in address else ""
    if "@" in parts.netloc:
        return "a user name or password"
    pairs = (pair for text in (parts.query, parts.fragment) for pair in parse_qsl(text.replace(";", "&"), True))
    return "a signature or key" if any(_is_secret(name) for name, _ in pairs) else ""


def _is_secret(parameter: str) -> bool:
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", parameter).lower())
    joined = "".join(words)
    return not _WORDS.isdisjoint(words) or joined.endswith(_ENDS) or _KEYS.fullmatch(joined) is not None
