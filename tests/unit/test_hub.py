"""Downloads: the real huggingface_hub client against a stand-in for the hub."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
import pytest
from huggingface_hub import constants

from support.hub_server import COMMIT, Server, etag, serve
from zeroshot.errors import ModelError
from zeroshot.models import resolvers
from zeroshot.models.checkpoint_files import WEIGHTS
from zeroshot.models.hub import download, metadata

REPO = "org/model"
CONFIGURATION = {
    "model_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": 32}, "text_cfg": {}},
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
}
SAFE, OTHER_SAFE, PICKLE = WEIGHTS[0], WEIGHTS[1], WEIGHTS[3]
CONTENT = bytes(range(256)) * 2000
FILES = {
    PICKLE: CONTENT,
    "open_clip_config.json": b'{"model_cfg": {}}',
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "special_tokens_map.json": b"{}",
    "vocab.txt": b"a",
    "spiece.model": b"\x00\x01",
    "README.md": b"# hello",
    "pytorch_model.bin": b"not ours",
    "onnx/tokenizer.json": b"not ours",
}


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serve({REPO: FILES, "org/both": {**FILES, SAFE: CONTENT}, "org/none": {"README.md": b""}}) as server:
        yield server


@pytest.fixture
def server(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The stand-in without faults, as the hub of this process, with an empty cache."""
    running.faults = type(running.faults)()
    running.requests.clear()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    point_to(running.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(metadata, "RETRY_PAUSE_SECONDS", 0.0)
    huggingface_hub.close_session()
    return running


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def partial() -> Path:
    """Where the beginning of the weights is kept."""
    return Path(constants.HF_HUB_CACHE) / "models--org--model" / "blobs" / f"{etag(PICKLE, CONTENT)}.incomplete"


def refused(**arguments: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        download.fetch(**{"repo": REPO, "names": WEIGHTS, **arguments})  # type: ignore[arg-type]
    for line in (caught.value.message, caught.value.hint):
        assert line and "\n" not in line
    return caught.value


class TestFetch:
    """One file of a list of candidates."""

    def test_the_first_name_that_the_repository_has(self, server: Server) -> None:
        assert download.fetch(REPO, WEIGHTS).name == PICKLE
        assert download.fetch("org/both", WEIGHTS).name == SAFE

    def test_the_cache_is_the_one_that_huggingface_hub_reads(self, server: Server) -> None:
        path = download.fetch(REPO, WEIGHTS)
        assert path.read_bytes() == CONTENT
        assert huggingface_hub.try_to_load_from_cache(REPO, PICKLE) == str(path)
        assert huggingface_hub.hf_hub_download(REPO, PICKLE, local_files_only=True) == str(path)
        assert len(server.bodies(PICKLE)) == 1
        assert not partial().exists()

    def test_what_huggingface_hub_downloaded_is_found(self, server: Server) -> None:
        path = huggingface_hub.hf_hub_download(REPO, PICKLE)
        assert download.find_cached(REPO, WEIGHTS) == Path(path)

    def test_any_cached_candidate_wins_and_asks_nothing(self, server: Server) -> None:
        download.fetch("org/both", [PICKLE])
        server.requests.clear()
        server.faults.silent = True
        assert download.fetch("org/both", WEIGHTS).name == PICKLE
        assert server.requests == []

    def test_a_cached_file_is_found_offline(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        path = download.fetch(REPO, WEIGHTS)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert download.fetch(REPO, WEIGHTS) == path

    def test_a_revision_is_looked_up_by_itself(self, server: Server) -> None:
        path = download.fetch(REPO, [PICKLE], revision=COMMIT)
        assert path.parent.name == COMMIT
        assert download.find_cached(REPO, [PICKLE]) is None
        assert download.find_cached(REPO, [PICKLE], revision=COMMIT) == path
        assert download.fetch(REPO, [PICKLE]) == path
        assert len(server.bodies(PICKLE)) == 1

    def test_progress_starts_and_ends(self, server: Server) -> None:
        seen: list[download.Progress] = []
        download.fetch(REPO, WEIGHTS, on_progress=seen.append)
        assert seen[0] == download.Progress(REPO, PICKLE, 0, len(CONTENT))
        assert seen[-1].done == len(CONTENT)
        assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
        assert seen[0].title == "org/model/open_clip_pytorch_model.bin (512 kB)"
        download.fetch(REPO, WEIGHTS, on_progress=lambda _: pytest.fail("nothing is downloaded"))

    def test_nothing_is_printed(self, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
        download.fetch(REPO, WEIGHTS)
        assert capfd.readouterr() == ("", "")

    def test_the_token_stays_with_the_hub(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        server.faults.elsewhere = True
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT
        (stored,) = server.bodies(PICKLE)
        assert "authorization" not in stored.headers
        asked = [request for request in server.requests if request.method == "HEAD"]
        assert all(request.headers["authorization"] == "Bearer hf_secret" for request in asked)


class TestFetchSnapshot:
    """A whole model."""

    def test_config_tokenizer_and_one_weights_file(self, server: Server) -> None:
        folder = download.fetch_snapshot("org/both")
        tokenizer = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "spiece.model"}
        assert {path.name for path in folder.iterdir()} == {"open_clip_config.json", SAFE} | tokenizer

    def test_a_complete_folder_needs_no_network(self, server: Server) -> None:
        folder = download.fetch_snapshot(REPO)
        server.requests.clear()
        assert download.fetch_snapshot(REPO) == folder
        assert server.requests == []
        assert download.fetch_snapshot(REPO, refresh=True) == folder
        assert server.requests and not server.bodies(PICKLE)

    def test_an_interrupted_folder_is_not_taken_for_complete(self, server: Server) -> None:
        server.faults.cut_after, server.faults.cuts = 0, 99
        with pytest.raises(ModelError):
            download.fetch_snapshot(REPO)
        server.faults.cuts = 0
        assert (download.fetch_snapshot(REPO) / PICKLE).read_bytes() == CONTENT

    def test_a_repository_without_a_model_is_refused(self, server: Server) -> None:
        with pytest.raises(ModelError, match=r"org/none has none of these files.*open_clip_config.json"):
            download.fetch_snapshot("org/none")

    def test_a_repository_in_the_format_of_transformers(self, server: Server) -> None:
        names = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors")
        server.repos["org/other"] = dict.fromkeys((*names, "README.md"), b"{}")
        folder = download.fetch_snapshot("org/other")
        assert {path.name for path in folder.iterdir()} == set(names)
        server.requests.clear()
        assert download.fetch_snapshot("org/other") == folder
        assert server.requests == []

    def test_a_revision_is_asked_for_and_named_by_the_manifest(self, server: Server) -> None:
        name = f"hf-hub:{REPO}@{COMMIT}"
        server.repos[REPO] = server.repos[REPO] | {"open_clip_config.json": json.dumps(CONFIGURATION).encode()}
        files = resolvers.obtain(resolvers.resolve(name))
        assert files.origin == name
        assert files.weights.parent.name == COMMIT
        with pytest.raises(ModelError, match="no such revision"):
            resolvers.obtain(resolvers.resolve(f"hf-hub:{REPO}@v9"))


class TestResume:
    """Downloads that stop half-way."""

    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_a_dropped_connection_is_taken_up_again(self, server: Server, elsewhere: bool) -> None:
        server.faults.elsewhere = elsewhere
        server.faults.cut_after = 100_000
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT
        first, second = server.bodies(PICKLE)
        assert "range" not in first.headers
        assert second.headers["range"] == "bytes=100000-"

    def test_the_next_call_continues_where_the_last_one_stopped(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
        server.faults.stall_after = 100_000
        server.faults.ignore_range = True
        assert "stopped at 100 kB of 512 kB" in refused().message
        assert partial().read_bytes() == CONTENT[:100_000]
        server.faults.stall_after, server.faults.ignore_range = None, False
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 10)
        server.requests.clear()
        seen: list[download.Progress] = []
        assert download.fetch(REPO, WEIGHTS, on_progress=seen.append).read_bytes() == CONTENT
        (body,) = server.bodies(PICKLE)
        assert body.headers["range"] == "bytes=100000-"
        assert seen[0].done == 100_000

    def test_a_server_that_ignores_the_range_costs_time_and_nothing_else(self, server: Server) -> None:
        partial().parent.mkdir(parents=True)
        partial().write_bytes(CONTENT[:5000])
        server.faults.ignore_range = True
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT

    def test_a_partial_file_that_is_complete_is_only_verified(self, server: Server) -> None:
        partial().parent.mkdir(parents=True)
        partial().write_bytes(CONTENT)
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT
        assert not server.bodies(PICKLE)

    def test_a_killed_process_leaves_what_it_had(self, server: Server, tmp_path: Path) -> None:
        code = "from zeroshot.models.hub import download; "
        code += f"print(download.fetch({REPO!r}, {WEIGHTS!r}, on_progress=lambda p: print(p.done)))"
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_CACHE": constants.HF_HUB_CACHE}
        server.faults.stall_after = 200_000
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not (partial().exists() and partial().stat().st_size > 100_000) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        size = partial().stat().st_size
        server.faults.stall_after = None
        server.requests.clear()
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT
        assert server.bodies(PICKLE)[0].headers["range"] == f"bytes={size}-"


class TestDamage:
    """Content that is not what the hub states."""

    def test_other_bytes_of_the_same_length_are_removed(self, server: Server) -> None:
        server.faults.corrupt = True
        assert "SHA-256" in refused().message
        assert download.find_cached(REPO, WEIGHTS) is None
        assert not partial().exists()
        server.faults.corrupt = False
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT

    def test_a_body_that_is_too_short_is_never_taken_for_the_file(self, server: Server) -> None:
        server.faults.cut_after, server.faults.cuts = 0, 99
        assert "stopped at 0 bytes of 512 kB" in refused().message
        assert download.find_cached(REPO, WEIGHTS) is None


class TestMore:
    """More than was stated, and answers that are no hub's: one error, and soon."""

    def test_what_goes_on_beyond_its_size_is_stopped(self, server: Server) -> None:
        server.faults.endless = True
        assert "more than the 512 kB came that the hub stated" in refused().message
        assert not partial().exists()
        assert server.sent < 10**8

    def test_a_file_of_no_stated_size_is_had(self, server: Server) -> None:
        server.faults.no_size = True
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT

    def test_a_file_of_no_stated_size_is_stopped_at_a_limit(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.faults.endless = server.faults.no_size = True
        monkeypatch.setattr(download, "largest", lambda _: 2 * len(CONTENT))
        assert "more than the 1.02 MB came that any open_clip_pytorch_model.bin has" in refused().message
        assert not partial().exists()
        assert server.sent < 10**8

    @pytest.mark.parametrize(
        "listing",
        [
            b"[" * 50_000_000,
            b"[" * 100_000,
            b"{}",
            b"[]",
            b"null",
            b'{"siblings": null}',
            b'{"siblings": [{}]}',
            b'{"siblings": [3]}',
            b'{"siblings": [{"rfilename": 3}]}',
            b"\xff\xfe",
        ],
        ids=range(10),
    )
    def test_a_list_of_files_of_another_shape(self, server: Server, listing: bytes) -> None:
        server.faults.listing = listing
        with pytest.raises(ModelError, match="is not a Hugging Face hub"):
            download.fetch_snapshot(REPO)

    def test_names_that_lead_elsewhere_are_left_out(self, server: Server) -> None:
        names = [
            "../token.json",
            "a/tokenizer.json",
            "..\\token.json",
            "/etc/token.json",
            "x" * 300 + "token.json",
            PICKLE,
        ]
        server.faults.listing = json.dumps({"siblings": [{"rfilename": name} for name in names]}).encode()
        folder = download.fetch_snapshot(REPO)
        assert {path.name for path in folder.iterdir()} == {"open_clip_config.json", PICKLE}

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Linked-Size": "-1"},
            {"X-Linked-Size": str(10**15)},
            {"X-Repo-Commit": "../.."},
            {"X-Repo-Commit": "c" * 300},
            {"X-Linked-Etag": '"../../x"'},
            {"X-Linked-Etag": '""', "ETag": '""'},
        ],
        ids=str,
    )
    def test_facts_about_a_file_that_cannot_be(self, server: Server, headers: dict[str, str]) -> None:
        server.faults.headers = headers
        assert "is not a Hugging Face hub" in refused().message
        assert not list(Path(constants.HF_HUB_CACHE).rglob("*"))


class TestNoNetwork:
    """An error soon, and every way out of it."""

    def check(self, error: ModelError) -> None:
        assert f"{REPO} is not in the cache" in error.message
        for way_out in ("--model tiny", "zeroshot models pull", "--model ./folder", "open_clip_config.json"):
            assert way_out in error.hint

    def test_connection_refused(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        point_to("http://127.0.0.1:9", monkeypatch)
        self.check(refused())

    def test_unknown_host(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        point_to("http://hub.invalid", monkeypatch)
        self.check(refused())

    def test_a_hub_that_never_answers(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metadata, "_ANSWER_SECONDS", 0.3)
        server.faults.silent = True
        begin = time.monotonic()
        error = refused()
        assert time.monotonic() - begin < 10
        self.check(error)
        assert "did not answer" in error.message or "timed out" in error.message

    def test_a_name_lookup_that_hangs(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metadata, "_ANSWER_SECONDS", 0.3)
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(3))
        begin = time.monotonic()
        self.check(refused())
        assert time.monotonic() - begin < 10

    def test_offline_by_request(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        error = refused()
        self.check(error)
        assert "HF_HUB_OFFLINE" in error.message
        assert server.requests == []

    def test_a_login_page_is_not_the_hub(self, server: Server) -> None:
        server.faults.page = True
        assert "is not a Hugging Face hub" in refused().message

    def test_a_new_process_says_so_within_ten_seconds(self, server: Server, tmp_path: Path) -> None:
        server.faults.silent = True
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HUB_CACHE": str(tmp_path),
            "HF_HUB_ETAG_TIMEOUT": "1",
        }
        code = f"from zeroshot.models.hub import download; download.fetch({REPO!r}, {WEIGHTS!r})"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        assert done.stderr.splitlines()[-1].startswith("zeroshot.errors.ModelError: org/model is not in the cache")


class TestRefusals:
    """A hub that says no."""

    def test_no_such_file(self, server: Server) -> None:
        message = refused(repo="org/none").message
        assert all(name in message for name in ("org/none", *WEIGHTS))

    def test_no_such_repository(self, server: Server) -> None:
        error = refused(repo="org/absent")
        assert "org/absent" in error.message
        assert "hf auth login" in error.hint

    def test_no_such_revision(self, server: Server) -> None:
        assert "no such revision" in refused(revision="v9").message

    def test_no_name_of_a_repository(self, server: Server) -> None:
        assert "not the name of a hub repository" in refused(repo="a/b/c").message

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_gated_repository(self, server: Server, status: int) -> None:
        server.faults.refuse, server.faults.error_code = status, "GatedRepo"
        error = refused()
        assert "gated" in error.message
        assert "accept its licence" in error.hint and "hf auth login" in error.hint and "HF_TOKEN" in error.hint

    def test_a_plain_401(self, server: Server) -> None:
        server.faults.refuse = 401
        assert "HF_TOKEN" in refused().hint

    def test_a_mirror_that_does_not_say_what_is_missing(self, server: Server) -> None:
        server.faults.refuse, server.faults.refusals = 404, 2
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT

    def test_too_many_requests(self, server: Server) -> None:
        server.faults.refuse = 429
        assert "HTTP 429" in refused().message

    def test_a_server_error_is_tried_once_more(self, server: Server) -> None:
        server.faults.refuse, server.faults.refusals = 500, 1
        assert download.fetch(REPO, WEIGHTS).read_bytes() == CONTENT

    def test_a_lasting_server_error_ends_it(self, server: Server) -> None:
        server.faults.refuse = 503
        assert "HTTP 503" in refused().message


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


class TestDisk:
    """A cache folder that is full, closed or has no links."""

    def test_a_file_that_cannot_fit_is_not_begun(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
        error = refused()
        assert "512 kB are needed and 1 kB are free" in error.message
        assert not server.bodies(PICKLE)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_a_disk_that_fills_up(self, server: Server) -> None:
        partial().parent.mkdir(parents=True)
        partial().symlink_to("/dev/full")
        assert "is full" in refused().message

    def test_a_cache_that_cannot_be_written(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
        error = refused()
        assert str(tmp_path / "file" / "cache") in error.message
        assert "HF_HUB_CACHE" in error.hint

    def test_without_symbolic_links_the_file_stands_in_the_snapshot(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError("not supported here")

        monkeypatch.setattr(Path, "symlink_to", fail)
        path = download.fetch(REPO, WEIGHTS)
        assert path.read_bytes() == CONTENT and not path.is_symlink()
        assert download.fetch(REPO, WEIGHTS) == path


def test_importing_it_imports_no_client() -> None:
    code = (
        "import sys, zeroshot.models.hub.download; "
        "print([name for name in sys.modules if name.startswith(('huggingface', 'httpx'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
