"""Files that hold many images: how to name one of them."""

from __future__ import annotations

from contextlib import closing

from cbmir.images import dicom, files, nifti, npz
from cbmir.images.dicom_header import read_header
from cbmir.images.parts import number
from cbmir.images.read import split_uri

_HEAD = 4_096  # bytes that tell a format
_PLANES = ("sagittal", "coronal", "axial")  # axis 0, 1, 2


def unsliced(uri: str, data: bytes | None = None) -> str | None:
    """Why `uri` names many images and not one, with how one is named; None where it names one.

    data: the file's bytes, if they have been read. ImageError where the file cannot be read.
    """
    location, part = split_uri(uri)
    name = location.partition("?")[0].lower()
    if name.endswith(".npz") or "row" in part:
        return _arrays(uri, location, part)
    if "slice" in part or "frame" in part:
        return None
    if name.endswith(nifti.SUFFIXES):
        return _volume(location, part, location)
    if data is None:
        with files.opened(location) as file:
            head = file.read(_HEAD)
    else:
        head = data
    if nifti.is_nifti(head):
        return _volume(location, part, location if data is None else data)
    return _frames(location, data) if dicom.is_dicom(head) else None


def _volume(location: str, part: dict[str, str], source: str | bytes) -> str | None:
    shape, times = nifti.volume_shape(source)
    axis = number(part, "axis", 2)
    if axis in (0, 1, 2) and shape[axis] == 1 and times == 1:
        return None
    axis = axis if axis in (0, 1, 2) else 2
    others = ", ".join(f"axis={i} is {_PLANES[i]}, of {shape[i]}" for i in range(3) if i != axis)
    time = f"; &time=0 to {times - 1} of its {times} volumes" if times > 1 else ""
    return (
        f"a volume; name one of its {shape[axis]} {_PLANES[axis]} slices: {location}#axis={axis}&slice={shape[axis] // 2} "
        f"(0 to {shape[axis] - 1}; {others}{time})"
    )


def _frames(location: str, data: bytes | None) -> str | None:
    frames = read_header(location if data is None else data).frames
    if frames == 1:
        return None
    return f"a DICOM of {frames} frames; name one of them: {location}#frame={frames // 2} (0 to {frames - 1})"


def _arrays(uri: str, location: str, part: dict[str, str]) -> str | None:
    if "array" not in part or "row" not in part:
        shapes = npz.array_names(location)
        fit = [name for name, shape in shapes.items() if len(shape) > 2] or list(shapes)
        array = part["array"] if part.get("array") in shapes else next(iter(fit), "NAME")
        said = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
        last = max(0, shapes.get(array, (1,))[0] - 1)
        return f"a file of arrays ({said}); name one image: {location}#array={array}&row=0 (0 to {last})"
    if "slice" in part:
        return None
    with closing(npz.open_array(location, part["array"])) as stream:
        shape = stream.shape[1:]
    if len(shape) < 3 or (len(shape) == 3 and shape[2] in (1, 3)):
        return None
    axis = number(part, "axis", 0)
    count = number(part, "zoom", 0) or shape[axis if axis in (0, 1, 2) else 0]
    return f"a volume of {' x '.join(map(str, shape[:3]))}; name one of its {count} slices: {uri}&slice={count // 2} (0 to {count - 1})"
