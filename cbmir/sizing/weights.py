"""Files of weights, as they were given for encoders, for the same encoders at several image sizes."""

from __future__ import annotations

from cbmir.encoders.table import resolve
from cbmir.errors import UserError


def weights_at_sizes(given: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    """--weights of the encoders as they were named -> of each at every size; `names`: that at a size -> the one given."""
    encoders = list(dict.fromkeys(names.values()))
    unknown = [name for name in given if name and name not in encoders]
    if unknown:
        raise UserError(f"--weights {unknown[0]}=...: no such --encoder; found: {', '.join(encoders)}")
    takers = [encoder for encoder in encoders if (spec := resolve(encoder)).needs_weights and not spec.is_random]
    if "" in given and len(takers) != 1:
        raise UserError(
            f"--weights FILE fits one encoder; {len(takers)} of those named take weights; give --weights NAME=FILE for each"
        )
    files = {takers[0]: given[""]} if "" in given else given
    return {name: files[encoder] for name, encoder in names.items() if encoder in files}
