"""The Hugging Face hub: files of a repository, and its refusals in words."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
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
        try:
            found = try_to_load_from_cache(
                address.repository, file, cache_dir=hub_cache(cache), revision=address.revision
            )
        except ValueError as error:  # a name that no repository or file of the hub can have
            raise UserError(
                f"'{address.repository}' with the file '{file}' is nothing the hub can have ({_first(error)}); "
                "expected hf://OWNER/NAME@REVISION/FILE; check --weights or the spec's checkpoint"
            ) from error
        if isinstance(found, str) and os.path.isfile(found):
            return found, _commit(found, file)
    return None


def fetch_hub_file(address: HubFile, encoder: str, cache: str | None) -> tuple[str, str]:
    """(path, commit) of the first of the address's files that the repository has; the token is the environment's."""
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    for file in address.files:
        try:
            found = hf_hub_download(address.repository, file, revision=address.revision, cache_dir=hub_cache(cache))
            return found, _commit(found, file)
        except hub.LocalEntryNotFoundError as error:  # neither there nor in the cache; its cause says why
            raise _refusal(error.__cause__ or error, encoder, address) from error
        except hub.EntryNotFoundError:
            continue
        except Exception as error:  # the hub, the connection, hf_xet and the disk each have their own
            raise _refusal(error, encoder, address) from error
    raise UserError(
        f"{encoder}: '{_place(address)}' on the hub has no file {' or '.join(address.files)}; "
        "check the spec's checkpoint"
    )


def _refusal(error: BaseException, encoder: str, address: HubFile) -> UserError:
    """A library's error -> what it means and what to do."""
    from huggingface_hub import errors as hub

    if isinstance(error, hub.GatedRepoError):
        return UserError(_gated(encoder, address))
    if isinstance(error, hub.RevisionNotFoundError):
        return UserError(
            f"{encoder}: the hub's repository '{address.repository}' has no revision '{address.revision}'; "
            "expected a commit, branch or tag of it; check the spec's checkpoint"
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return UserError(
            f"{encoder}: the hub has no repository '{address.repository}', or hides it from those without access; "
            "check the spec's checkpoint, and HF_TOKEN if it is private"
        )
    if isinstance(error, hub.HfHubHTTPError):
        found = f"the hub answers {error.response.status_code} for '{_place(address)}'; try again, or check HF_TOKEN"
    else:
        found = f"'{_place(address)}' did not come from the hub ({_first(error)}); try again, or supply them with --weights FILE"
    return UserError(f"the weights of {encoder} cannot be had: {found}")


def _gated(encoder: str, address: HubFile) -> str:
    from huggingface_hub import get_token

    page = f"https://huggingface.co/{address.repository}"
    if get_token():
        return f"the weights of {encoder} are gated and the token found has no access: accept the license at {page} with the token's account"
    return f"the weights of {encoder} are gated: accept the license at {page}, then set HF_TOKEN (found no token)"


def _place(address: HubFile) -> str:
    return f"{address.repository}@{address.revision}"


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _commit(path: str, file: str) -> str:
    """<cache>/models--owner--name/snapshots/<commit>/<file> -> commit."""
    return Path(path).parts[-1 - len(PurePosixPath(file).parts)]
