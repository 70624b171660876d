"""Images and runs in Google's storage, as obstore asks for them: its XML interface, which is S3's but for headers.

No emulator of Google's storage that can be installed lists objects in that interface. moto's S3 server does, and what
stands before it here turns the headers of the one into those of the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fakes import FakeModel
from support.object_store import KEY_ID, Faults, misbehaving, moto
from support.store_runs import assert_a_run_there_is_one_here

_SIGNED = f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class Translator:
    """Turns headers for Google into headers for S3.

    Attributes:
        created: How many requests said that nothing may stand there yet.
    """

    def __init__(self) -> None:
        self.created = 0

    def __call__(self, headers: dict[str, str]) -> dict[str, str]:
        """Return the headers of one request."""
        kept = {k: v for k, v in headers.items() if not k.lower().startswith(("x-goog-", "authorization"))}
        generation = {k.lower(): v for k, v in headers.items()}.get("x-goog-if-generation-match")
        if generation is None:
            return kept | {"Authorization": _SIGNED}
        assert generation == "0", "no object is written over one of a known generation"
        self.created += 1
        return kept | {"Authorization": _SIGNED, "If-None-Match": "*"}


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Translator]:
    """A bucket that is reached as Google's are, and this process's environment set to it."""
    translator = Translator()
    with moto(monkeypatch) as address, misbehaving(address, Faults(), translator) as front:
        account = {"gcs_base_url": front, "disable_oauth": True, "client_email": "", "private_key": ""}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account | {"private_key_id": ""}))
        monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.delenv(name)
        yield translator


def test_a_run_at_google_is_one_here(google: Translator, fake_model: FakeModel, tmp_path: Path) -> None:
    """Objects and archives are listed and read, and a run there is created once and merged to the bytes of one run."""
    assert_a_run_there_is_one_here("gs://bucket", tmp_path)
    assert google.created > 10
