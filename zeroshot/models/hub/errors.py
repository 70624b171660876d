"""Errors of the hub and of the network, each in one line with a remedy."""

from __future__ import annotations

from pathlib import Path

from ...errors import ModelError
from ..checkpoint_files import CONFIG_NAME


def refused(repo: str, error: Exception) -> ModelError:
    """Explain an HTTP error of the hub."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return ModelError(f"{repo} has no such revision", "leave the revision out for the main branch")
    if isinstance(error, GatedRepoError) or status == 403:
        what = f"{repo} is gated" if isinstance(error, GatedRepoError) else f"the hub refuses access to {repo}"
        return ModelError(f"{what} (HTTP {status})", f"accept its licence at {endpoint()}/{repo}, then {log_in}")
    if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
        hint = f"check the name; if it is private, {log_in}"
        return ModelError(f"the hub knows no repository {repo}, or keeps it private (HTTP {status})", hint)
    if status == 429:
        return ModelError(f"the hub limits how often it is asked, and refused {repo} (HTTP 429)", f"wait, or {log_in}")
    return ModelError(f"the hub cannot serve {repo} now (HTTP {status})", "try again later, or use `--model tiny`")


def no_hub(repo: str) -> ModelError:
    """The answer is not a hub's: a login portal, or a wrong address."""
    return ModelError(
        f"what answered for {repo} is not a Hugging Face hub",
        "check HF_ENDPOINT and the proxy, or sign in to the network if it asks for that in a browser",
    )


def offline(repo: str, reason: str) -> ModelError:
    """The hub cannot be reached, and the file is not in the cache."""
    return ModelError(
        f"{repo} is not in the cache and cannot be downloaded: {reason}",
        "use `--model tiny`, which needs no network; or run `zeroshot models pull MODEL` on a machine with network "
        f"and copy its cache to {cache_folder()}; or give a folder with {CONFIG_NAME} and the weights: "
        "`--model ./folder`",
    )


def full(detail: str) -> ModelError:
    """The disk with the cache is full."""
    return ModelError(
        f"the disk with the model cache {cache_folder()} is full: {detail}",
        "free some space and run the same command again, or set HF_HUB_CACHE to a folder on another disk",
    )


def cache_folder() -> Path:
    """Return the folder of the cache that all hub tools share."""
    # Its constants module is cheap; the rest of huggingface_hub costs a quarter of a second.
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def endpoint() -> str:
    """Return the address of the hub."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def one_line(text: str) -> str:
    """Fold a message of several lines into one."""
    return " ".join(text.split())
