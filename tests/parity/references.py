"""The independent implementation of each row of the table: another library's model, in its own file format, behind its
own processor."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import safetensors.torch
import torch
import torchvision
import transformers
from PIL import Image
from torchvision import transforms

from cbmir.encoders.layouts import LAYOUTS, rename
from cbmir.encoders.outputs import content_noise
from tests.parity.shake import shake

transformers.logging.set_verbosity_error()
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)
CLIP = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


@dataclass
class Reference:
    """weights: the file in the library's own format; `vectors`: images (h, w, 3) uint8 -> (n, dim) by its own pipeline."""

    weights: Path
    vectors: Callable[[list[np.ndarray]], np.ndarray]
    options: dict[str, object] | None = None  # what our side is told where the reference is smaller than the original
    forward: Callable[[torch.Tensor], torch.Tensor] | None = (
        None  # of the model alone, where another reference needs it
    )


Make = Callable[[Path, int], Reference]
REFERENCES: dict[str, Make] = {}


def reference(*rows: str) -> Callable[[Make], Make]:
    def keep(make: Make) -> Make:
        REFERENCES.update(dict.fromkeys(rows, make))
        return make

    return keep


# --- transformers ----------------------------------------------------------------------------------------------------


def _transformers(model, scratch: Path, seed: int, processor, take, options=None) -> Reference:
    """A transformers model, saved as it saves itself."""
    shake(model, seed).save_pretrained(scratch)

    def vectors(images: list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            inputs = [processor(images=Image.fromarray(i), return_tensors="pt")["pixel_values"] for i in images]
            return np.concatenate([take(model, pixels).numpy() for pixels in inputs])

    return Reference(scratch / "model.safetensors", vectors, options)


def _mean_std(values) -> dict:
    return {"image_mean": list(values[0]), "image_std": list(values[1])}


def _squash(size: int, resample: int, values):
    return transformers.ViTImageProcessorPil(
        size={"height": size, "width": size}, resample=resample, **_mean_std(values)
    )


def _short_side(size: int, resize: int, values):
    return transformers.BitImageProcessorPil(
        size={"shortest_edge": resize}, crop_size={"height": size, "width": size}, resample=3, **_mean_std(values)
    )


def _cls(model, pixels):
    return model(pixels).last_hidden_state[:, 0]


@reference("vit-b16-in21k")
def vit(scratch: Path, seed: int) -> Reference:
    model = transformers.ViTModel(transformers.ViTConfig())
    return _transformers(model, scratch, seed, _squash(224, 2, HALF), _cls)


@reference("mae-vit-b16")
def mae(scratch: Path, seed: int) -> Reference:
    """The masked autoencoder with nothing masked: mask_ratio 0, and noise that leaves the patches in their order."""
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(mask_ratio=0.0, num_hidden_layers=4))
    order = torch.arange(196)[None].float()

    def take(model, pixels):
        return model.vit(pixels, noise=order).last_hidden_state[:, 0]

    return _transformers(model, scratch, seed, _squash(224, 2, IMAGENET), take, {"depth": 4})


@reference("mae-vit-b16-masked")
def masked(scratch: Path, seed: int) -> Reference:
    """As the first paper ran it, with the noise that our side draws from each image."""
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(num_hidden_layers=4))
    made = _transformers(model, scratch, seed, None, None)
    processor = _squash(224, 2, IMAGENET)

    def vectors(images: list[np.ndarray]) -> np.ndarray:
        out = []
        with torch.inference_mode():
            for image in map(Image.fromarray, images):
                squashed = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
                pixels = processor(images=image, return_tensors="pt")["pixel_values"]
                out.append(model.vit(pixels, noise=content_noise(squashed[None], 196)).last_hidden_state[:, 0].numpy())
        return np.concatenate(out)

    return Reference(made.weights, vectors, {"depth": 4})


def _dinov2(depth: int = 12, **config):
    return transformers.Dinov2Model(transformers.Dinov2Config(num_hidden_layers=depth, **config))


@reference("dinov2-vit-b14")
def dinov2(scratch: Path, seed: int) -> Reference:
    return _transformers(
        _dinov2(4, image_size=518, patch_size=14), scratch, seed, _short_side(224, 256, IMAGENET), _cls, {"depth": 4}
    )


@reference("rad-dino", "rad-dino-maira-2")
def rad_dino(scratch: Path, seed: int) -> Reference:
    processor = _short_side(518, 518, ((0.5307,) * 3, (0.2583,) * 3))
    return _transformers(_dinov2(2, image_size=518, patch_size=14), scratch, seed, processor, _cls, {"depth": 2})


@reference("phikon-v2")
def phikon(scratch: Path, seed: int) -> Reference:
    model = _dinov2(3, image_size=224, patch_size=16, hidden_size=1024, num_attention_heads=16)
    return _transformers(model, scratch, seed, _short_side(224, 224, IMAGENET), _cls, {"depth": 3})


@reference("uni")
def uni(scratch: Path, seed: int) -> Reference:
    """UNI is a ViT-L/16 with layer scales: what transformers calls Dinov2; its file has timm's names."""
    model = _dinov2(3, image_size=224, patch_size=16, hidden_size=1024, num_attention_heads=16)
    transform = transforms.Compose(
        [transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(*IMAGENET)]
    )
    made = _transformers(model, scratch, seed, None, None, {"depth": 3})
    state = _timm_names(safetensors.torch.load_file(made.weights), layers=3)
    torch.save(state, scratch / "pytorch_model.bin")
    return Reference(scratch / "pytorch_model.bin", _run(transform, lambda x: _cls(model, x)), {"depth": 3})


def _timm_names(state: dict[str, torch.Tensor], *, layers: int) -> dict[str, torch.Tensor]:
    """transformers' Dinov2 -> timm's names, written out by hand."""
    out = {
        "cls_token": state["embeddings.cls_token"],
        "pos_embed": state["embeddings.position_embeddings"],
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
    }
    for i in range(layers):
        theirs, ours = f"encoder.layer.{i}.", f"blocks.{i}."
        for kind in ("weight", "bias"):
            parts = [state[f"{theirs}attention.attention.{p}.{kind}"] for p in ("query", "key", "value")]
            out[f"{ours}attn.qkv.{kind}"] = torch.cat(parts)
            out[f"{ours}attn.proj.{kind}"] = state[f"{theirs}attention.output.dense.{kind}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                out[f"{ours}{part}.{kind}"] = state[f"{theirs}{part}.{kind}"]
        for n in (1, 2):
            out[f"{ours}ls{n}.gamma"] = state[f"{theirs}layer_scale{n}.lambda1"]
    return out


def _dinov3(width: int, heads: int) -> Make:
    """The files have timm's names: transformers' are renamed by the layout for them, which this holds to account, too."""

    def make(scratch: Path, seed: int) -> Reference:
        config = transformers.DINOv3ViTConfig(
            hidden_size=width, num_hidden_layers=3, num_attention_heads=heads, intermediate_size=4 * width,
            num_register_tokens=4, image_size=256, query_bias=False, key_bias=False, value_bias=False,
        )  # fmt: skip
        model = transformers.DINOv3ViTModel(config)
        made = _transformers(model, scratch, seed, None, None)
        state, _ = rename(LAYOUTS["hf_dinov3"], safetensors.torch.load_file(made.weights))
        safetensors.torch.save_file(state, scratch / "timm.safetensors")
        resize = transforms.Resize(256, transforms.InterpolationMode.BICUBIC)
        transform = transforms.Compose(
            [resize, transforms.CenterCrop(256), transforms.ToTensor(), transforms.Normalize(*IMAGENET)]
        )
        return Reference(scratch / "timm.safetensors", _run(transform, lambda x: _cls(model, x)), {"depth": 3})

    return make


REFERENCES["dinov3-vit-s16"] = _dinov3(384, 6)
REFERENCES["dinov3-vit-b16"] = _dinov3(768, 12)
REFERENCES["dinov3-vit-l16"] = _dinov3(1024, 16)


@reference("siglip2-vit-b16")
def siglip(scratch: Path, seed: int) -> Reference:
    text = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 64,
    }
    config = transformers.SiglipConfig(
        text_config=text, vision_config={"image_size": 224, "patch_size": 16, "num_hidden_layers": 3}
    )
    return _siglip(config, scratch, seed, 224, 2, {"depth": 3})


@reference("siglip2-so400m")
def siglip_so(scratch: Path, seed: int) -> Reference:
    return _siglip(_so400m(378), scratch, seed, 378, 2, {"depth": 2})


@reference("medsiglip")
def medsiglip(scratch: Path, seed: int) -> Reference:
    return _siglip(_so400m(448), scratch, seed, 448, 3, {"depth": 2})


def _so400m(size: int):
    text = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 64,
    }
    vision = {
        "image_size": size, "patch_size": 14, "hidden_size": 1152, "num_hidden_layers": 2, "num_attention_heads": 16,
        "intermediate_size": 4304,
    }  # fmt: skip
    return transformers.SiglipConfig(text_config=text, vision_config=vision)


def _siglip(config, scratch: Path, seed: int, size: int, resample: int, options) -> Reference:
    model = transformers.SiglipModel(config)
    processor = transformers.SiglipImageProcessorPil(
        size={"height": size, "width": size}, resample=resample, **_mean_std(HALF)
    )
    return _transformers(model, scratch, seed, processor, lambda m, x: m.vision_model(x).pooler_output, options)


@reference("resnet50-logits")
def resnet_logits(scratch: Path, seed: int) -> Reference:
    return _resnet(scratch, seed, lambda model, x: model(x).logits)


@reference("resnet50")
def resnet(scratch: Path, seed: int) -> Reference:
    return _resnet(scratch, seed, lambda model, x: model.resnet(x).pooler_output.flatten(1))


def _resnet(scratch: Path, seed: int, take) -> Reference:
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))
    processor = transformers.ConvNextImageProcessorPil(
        size={"shortest_edge": 224}, crop_pct=0.875, resample=3, **_mean_std(IMAGENET)
    )
    return _transformers(model, scratch, seed, processor, take)


@reference("sam-vit-b")
def sam(scratch: Path, seed: int) -> Reference:
    return _sam(scratch, seed)


@reference("medsam-vit-b")
def medsam(scratch: Path, seed: int) -> Reference:
    """The same network under the names of the published .pth, written out by hand."""
    made = _sam(scratch, seed)
    names = (
        (r"vision_encoder\.patch_embed\.projection", "image_encoder.patch_embed.proj"),
        (r"vision_encoder\.layers\.(\d+)\.layer_norm([12])", r"image_encoder.blocks.\1.norm\2"),
        (r"vision_encoder\.layers\.", "image_encoder.blocks."),
        (r"vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
        (r"vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
        (r"vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
        (r"vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
        (r"vision_encoder\.", "image_encoder."),
        (
            r"shared_image_embedding\.positional_embedding",
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        ),
    )
    state = {}
    for key, tensor in safetensors.torch.load_file(made.weights).items():
        for pattern, new in names:
            key = re.sub(f"^{pattern}", new, key)
        state[key] = tensor
    torch.save(state, scratch / "medsam_vit_b.pth")
    return Reference(scratch / "medsam_vit_b.pth", made.vectors, made.options)


def _sam(scratch: Path, seed: int) -> Reference:
    """The whole of SAM's image encoder but for its depth: two blocks, one of which sees the whole image."""
    vision = {"num_hidden_layers": 2, "global_attn_indexes": [1]}
    decoder = {"num_hidden_layers": 1, "mlp_dim": 64}
    config = transformers.SamConfig(vision_config=vision, mask_decoder_config=decoder)
    options = {"depth": 2, "global_attn_indexes": [1]}

    def take(model, pixels):
        return model.vision_encoder(pixels).last_hidden_state.mean((2, 3))

    return _transformers(
        transformers.SamModel(config), scratch, seed, transformers.SamImageProcessorPil(), take, options
    )


class _MedClip(torch.nn.Module):
    """MedCLIP's modules."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_model = torch.nn.Module()
        self.vision_model.model = transformers.SwinModel(transformers.SwinConfig())
        self.vision_model.projection_head = torch.nn.Linear(768, 512, bias=False)
        self.text_model = torch.nn.Linear(4, 4)
        self.logit_scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, pixels):
        vectors = self.vision_model.projection_head(self.vision_model.model(pixels).pooler_output)
        return vectors / vectors.norm(dim=-1, keepdim=True)


@reference("medclip-vit")
def medclip(scratch: Path, seed: int) -> Reference:
    values = ((0.5862785803043838,) * 3, (0.27950088968644304,) * 3)
    processor = transformers.CLIPImageProcessorPil(**_mean_std(values))
    return _medclip(scratch, seed, lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0])


@reference("medclip-vit-padded")
def medclip_padded(scratch: Path, seed: int) -> Reference:
    """MedCLIPProcessor in torchvision's words: onto a black square, grey, then CLIP's resize and crop."""

    def processor(image: Image.Image) -> torch.Tensor:
        side = max(224, *image.size)
        square = Image.new("L", (side, side), 0)
        square.paste(image, (int((side - image.width) / 2), int((side - image.height) / 2)))
        resize = transforms.Resize(224, transforms.InterpolationMode.BICUBIC)
        pixels = transforms.ToTensor()(transforms.CenterCrop(224)(resize(square)))
        return ((pixels - 0.5862785803043838) / 0.27950088968644304).repeat(3, 1, 1)

    return _medclip(scratch, seed, processor)


def _medclip(scratch: Path, seed: int, processor) -> Reference:
    model = shake(_MedClip(), seed)
    model.vision_model.model.save_pretrained(scratch)  # under the names that its release of transformers had
    swin = safetensors.torch.load_file(scratch / "model.safetensors")
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("vision_model.model.")}
    torch.save(state | {f"vision_model.model.{key}": t for key, t in swin.items()}, scratch / "pytorch_model.bin")
    return Reference(scratch / "pytorch_model.bin", _run(processor, model))


@reference("monet")
def monet(scratch: Path, seed: int) -> Reference:
    text = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 64,
    }
    vision = {
        "image_size": 224, "patch_size": 14, "hidden_size": 1024, "num_hidden_layers": 3, "num_attention_heads": 16,
        "intermediate_size": 4096,
    }  # fmt: skip
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=768)
    processor = transformers.CLIPImageProcessorPil(**_mean_std(CLIP))

    def take(model, pixels):
        return model.visual_projection(model.vision_model(pixels).pooler_output)

    return _transformers(transformers.CLIPModel(config), scratch, seed, processor, take, {"layers": 3})


# --- torchvision -----------------------------------------------------------------------------------------------------


def _run(transform, forward) -> Callable[[list[np.ndarray]], np.ndarray]:
    def vectors(images: list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate([forward(transform(Image.fromarray(i))[None]).numpy() for i in images])

    return vectors


def _torchvision(model, scratch: Path, seed: int, transform, forward, state=None) -> Reference:
    shake(model, seed)
    torch.save(model.state_dict() if state is None else state(model), scratch / "w.pth")
    return Reference(scratch / "w.pth", _run(transform, lambda x: forward(model, x)))


def _squashed(values=IMAGENET, size: int = 224):
    resize = transforms.Resize((size, size), transforms.InterpolationMode.BILINEAR)
    return transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize(*values)])


def _pooled_resnet(model, x):
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    x = model.layer4(model.layer3(model.layer2(model.layer1(x))))
    return model.avgpool(x).flatten(1)


@reference("resnet50-tv")
def tv_resnet(scratch: Path, seed: int) -> Reference:
    return _torchvision(torchvision.models.resnet50(), scratch, seed, _squashed(), _pooled_resnet)


@reference("radimagenet-resnet50")
def radimagenet(scratch: Path, seed: int) -> Reference:
    """As its authors' notebook builds it: the children of a torchvision ResNet-50 in a row, without the last."""

    def state(model):
        row = torch.nn.Sequential(*list(model.children())[:9])
        return {f"backbone.{name}": tensor for name, tensor in row.state_dict().items()}

    return _torchvision(torchvision.models.resnet50(), scratch, seed, _squashed(HALF), _pooled_resnet, state)


@reference("xrv-resnet50")
def xrv_resnet(scratch: Path, seed: int) -> Reference:
    model = torchvision.models.resnet50(num_classes=18)
    model.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return _torchvision(model, scratch, seed, _xrv(512), _pooled_resnet)


@reference("xrv-densenet121")
def xrv_densenet(scratch: Path, seed: int) -> Reference:
    model = torchvision.models.densenet121(num_classes=18)
    model.features.conv0 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def state(model):
        return model.state_dict() | {"op_threshs": torch.full((18,), 0.5)}

    return _torchvision(model, scratch, seed, _xrv(224), _pooled_densenet, state)


def _xrv(size: int):
    """Grey, -1024..1024, the centre square: torchxrayvision's own steps, with Pillow's filter."""

    def transform(image: Image.Image) -> torch.Tensor:
        grey = image.convert("L")
        resize = transforms.Resize(size, transforms.InterpolationMode.BILINEAR)
        pixels = np.asarray(transforms.CenterCrop(size)(resize(grey)), np.float32)
        return torch.from_numpy((2 * (pixels / 255) - 1) * 1024)[None]

    return transform


def _pooled_densenet(model, x):
    return torch.nn.functional.relu(model.features(x)).mean((2, 3))


@reference("densenet121")
def tv_densenet(scratch: Path, seed: int) -> Reference:
    return _torchvision(torchvision.models.densenet121(), scratch, seed, _squashed(), _pooled_densenet)


@reference("vgg19")
def tv_vgg(scratch: Path, seed: int) -> Reference:
    return _torchvision(torchvision.models.vgg19(), scratch, seed, _squashed(), lambda m, x: m.features(x).mean((2, 3)))


@reference("efficientnetv2-m")
def tv_efficientnet(scratch: Path, seed: int) -> Reference:
    """torchvision's network pads evenly, TensorFlow's (and so the row) as its convolutions' "same" does: parity is shown without that."""
    model = torchvision.models.efficientnet_v2_m()

    def state(model):
        return rename(LAYOUTS["tv_efficientnetv2"], model.state_dict())[0]

    made = _torchvision(model, scratch, seed, _squashed(HALF), lambda m, x: m.avgpool(m.features(x)).flatten(1), state)
    return Reference(made.weights, made.vectors, {"pad_type": ""})


# --- open_clip -------------------------------------------------------------------------------------------------------


def _open_clip(architecture: str, scratch: Path, seed: int, *, layers: int) -> Reference:
    """open_clip's own model, checkpoint format and transform; a short text half, which has no say in the vector."""
    from copy import deepcopy

    config = deepcopy(open_clip.get_model_config(architecture))
    config["text_cfg"] = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    config["vision_cfg"]["layers"] = layers
    custom = config.pop("custom_text", False)
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    shake(model, seed)
    torch.save(
        {"epoch": 3, "name": architecture, "state_dict": model.state_dict()}, scratch / "open_clip_pytorch_model.bin"
    )
    size = config["vision_cfg"]["image_size"]
    transform = open_clip.transform.image_transform(size, is_train=False, mean=CLIP[0], std=CLIP[1])
    return Reference(
        scratch / "open_clip_pytorch_model.bin",
        _run(transform, model.encode_image),
        {"layers": layers},
        model.encode_image,
    )


@reference("clip-vit-l14")
def clip(scratch: Path, seed: int) -> Reference:
    return _open_clip("ViT-L-14-quickgelu", scratch, seed, layers=3)


@reference("openclip-vit-g14")
def clip_g(scratch: Path, seed: int) -> Reference:
    return _open_clip("ViT-g-14", scratch, seed, layers=2)


@reference("chexzero")
def chexzero(scratch: Path, seed: int) -> Reference:
    made = _open_clip("ViT-B-32-quickgelu", scratch, seed, layers=3)
    state = torch.load(made.weights, weights_only=True)["state_dict"]
    torch.save(state, scratch / "best_64.pt")  # a bare state dict, as CheXzero publishes it

    def transform(image: Image.Image) -> torch.Tensor:
        side = 224 / max(image.size)
        grey = image.convert("L").resize([max(1, round(s * side)) for s in image.size], Image.Resampling.BICUBIC)
        square = Image.new("L", (224, 224), 0)
        square.paste(grey, ((224 - grey.width) // 2, (224 - grey.height) // 2))
        pixels = torch.from_numpy(np.asarray(square, np.float32)).repeat(3, 1, 1)
        return (pixels - 101.48761) / 83.43944

    return Reference(scratch / "best_64.pt", _run(transform, made.forward), made.options)


@reference("biomedclip")
def biomedclip(scratch: Path, seed: int) -> Reference:
    """Its open_clip configuration, with another text half: a timm tower with a linear projection."""
    from open_clip.model import CLIPVisionCfg

    vision = CLIPVisionCfg(timm_model_name="vit_base_patch16_224", timm_pool="", timm_proj="linear", image_size=224)
    text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    model = shake(open_clip.CustomTextCLIP(512, vision, text), seed)
    torch.save(model.state_dict(), scratch / "open_clip_pytorch_model.bin")
    transform = open_clip.transform.image_transform(224, is_train=False, mean=CLIP[0], std=CLIP[1])
    return Reference(scratch / "open_clip_pytorch_model.bin", _run(transform, model.encode_image))
