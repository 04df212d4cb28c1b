"""The Hugging Face hub: files of a repository, and its refusals in words."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlparse

from cbmir.encoders.addresses import HubFile
from cbmir.errors import UserError


def hub_host() -> str | None:
    from huggingface_hub import constants

    return urlparse(constants.ENDPOINT).hostname


def hub_cache(cache: str | None) -> str:
    """The directory that holds hub files: the one given, else Hugging Face's own."""
    from huggingface_hub import constants

    return str(Path(cache).expanduser() / "hub") if cache else constants.HF_HUB_CACHE


def cached_hub_file(address: HubFile, cache: str | None) -> tuple[str, str] | None:
    """(path, commit) of the first of the address's files that the cache has."""
    from huggingface_hub import try_to_load_from_cache

    for file in address.files:
        found = try_to_load_from_cache(address.repository, file, cache_dir=hub_cache(cache), revision=address.revision)
        if isinstance(found, str) and os.path.isfile(found):
            return found, _commit(found)
    return None


def fetch_hub_file(address: HubFile, encoder: str, cache: str | None) -> tuple[str, str]:
    """(path, commit) of the first of the address's files that the repository has; the token is the environment's."""
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    place = f"{address.repository}@{address.revision}"
    try:
        for file in address.files:
            try:
                found = hf_hub_download(address.repository, file, revision=address.revision, cache_dir=hub_cache(cache))
            except hub.EntryNotFoundError as error:
                if isinstance(error, hub.LocalEntryNotFoundError):  # the network failed on the way
                    raise UserError(
                        f"the weights of {encoder} cannot be had: the hub does not answer for '{place}'; try again, "
                        "or supply them with --weights FILE"
                    ) from error
                continue
            return found, _commit(found)
    except hub.GatedRepoError as error:
        raise UserError(_refused(encoder, address)) from error
    except hub.RevisionNotFoundError as error:
        raise UserError(
            f"{encoder}: the hub's repository '{address.repository}' has no revision '{address.revision}'; "
            "expected a commit, branch or tag of it; check the spec's checkpoint"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise UserError(
            f"{encoder}: the hub has no repository '{address.repository}', or hides it from those without access; "
            "check the spec's checkpoint, and HF_TOKEN if it is private"
        ) from error
    except hub.HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else "no status"
        raise UserError(
            f"the weights of {encoder} cannot be had: the hub answers {code} for '{place}'; try again, or check HF_TOKEN"
        ) from error
    raise UserError(
        f"{encoder}: '{place}' on the hub has no file {' or '.join(address.files)}; check the spec's checkpoint"
    )


def _refused(encoder: str, address: HubFile) -> str:
    from huggingface_hub import get_token

    page = f"https://huggingface.co/{address.repository}"
    if get_token():
        return f"the weights of {encoder} are gated and the token found has no access: accept the license at {page} with the token's account"
    return f"the weights of {encoder} are gated: accept the license at {page}, then set HF_TOKEN (found no token)"


def _commit(path: str) -> str:
    """<cache>/models--owner--name/snapshots/<commit>/<file> -> commit."""
    parts = Path(path).parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""
