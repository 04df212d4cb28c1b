"""One linear layer on vectors of unit length, trained with AdamW; the weights of the epoch with the best validation accuracy stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from cbmir.classifying.examples import Examples
from cbmir.errors import UserError

WEIGHT_STD = 0.01  # of the first weights; the first bias is 0


@dataclass(frozen=True)
class Recipe:
    """How a probe is trained."""

    epochs: int = 100
    patience: int = 20  # epochs without a better validation accuracy
    batch_size: int = 512
    lr: float = 1e-3
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Trained:
    """A probe at its best epoch: weight (labels, dim), bias (labels,), float32 on its device; epochs count from 1."""

    weight: torch.Tensor
    bias: torch.Tensor
    epochs: int
    best_epoch: int
    accuracy: float

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """vectors (m, dim) float32 of unit length -> (m, labels) float32, each row summing to 1."""
        with torch.inference_mode():
            scores = functional.linear(torch.from_numpy(vectors).to(self.weight.device), self.weight, self.bias)
            return scores.softmax(dim=1).cpu().numpy()


class Tensors:
    """Examples on a device: those that fit are moved there once."""

    def __init__(self, examples: Examples, device: str) -> None:
        self.examples = examples
        self.device = device
        self._held: list[tuple[torch.Tensor, torch.Tensor]] | None = None

    def chunks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(vectors (m, dim), codes (m, most labels)) of all images once."""
        if self._held is not None:
            yield from self._held
            return
        made = (
            (torch.from_numpy(c.vectors).to(self.device), torch.from_numpy(c.codes).to(self.device))
            for c in self.examples.chunks(rng)
        )
        if self.examples.fits:
            self._held = list(made)
            made = iter(self._held)
        yield from made


def train(
    training: Tensors,
    validation: Tensors,
    labels: int,
    recipe: Recipe,
    *,
    seed: int,
    told: Callable[[int, float], None] = lambda *_: None,
) -> Trained:
    """Train from the weights that `seed` draws -> the first epoch with the best accuracy on `validation`.

    `told` hears of every epoch (its number from 1, the best accuracy so far). The same seed gives the same weights on a processor, with the same
    number of threads. UserError where the loss is no number.
    """
    weight, bias = first_weights(labels, training.examples.vectors.dim, seed, training.device)
    optimizer = torch.optim.AdamW([weight, bias], lr=recipe.lr, weight_decay=recipe.weight_decay)
    best, epoch = Trained(weight.detach().clone(), bias.detach().clone(), 0, 0, -1.0), 0
    for epoch in range(1, recipe.epochs + 1):
        rng = np.random.default_rng([seed, epoch])
        for vectors, codes in training.chunks(rng):
            for rows in torch.from_numpy(rng.permutation(len(vectors))).to(training.device).split(recipe.batch_size):
                loss = functional.cross_entropy(
                    functional.linear(vectors[rows], weight, bias), targets(codes[rows], labels)
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        accuracy = accuracy_of(validation, weight, bias)
        if accuracy > best.accuracy:
            best = Trained(weight.detach().clone(), bias.detach().clone(), epoch, epoch, accuracy)
        told(epoch, best.accuracy)
        if epoch - best.best_epoch >= recipe.patience:
            break
    return Trained(best.weight, best.bias, epoch, best.best_epoch, best.accuracy)


def first_weights(labels: int, dim: int, seed: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """weight (labels, dim) ~ N(0, WEIGHT_STD), bias (labels,) 0; the same on every device."""
    drawn = torch.randn(labels, dim, generator=torch.Generator().manual_seed(seed)) * WEIGHT_STD
    return drawn.to(device).requires_grad_(), torch.zeros(labels, device=device, requires_grad=True)


def targets(codes: torch.Tensor, labels: int) -> torch.Tensor:
    """codes (m, most labels), below 0 in empty places -> (m, labels) float32: an image's labels share 1 equally."""
    filled = codes >= 0
    share = filled / filled.sum(dim=1, keepdim=True)  # (m, most labels)
    table = torch.zeros(len(codes), labels + 1, device=codes.device)
    return table.scatter_(1, torch.where(filled, codes, labels), share)[:, :labels]


def accuracy_of(examples: Tensors, weight: torch.Tensor, bias: torch.Tensor) -> float:
    """Share of images whose highest score is one of their labels; UserError where a score is no number."""
    hits, total = 0, 0
    with torch.inference_mode():
        for vectors, codes in examples.chunks():
            scores = functional.linear(vectors, weight, bias)
            if not bool(torch.isfinite(scores).all()):
                raise UserError(
                    "training diverged: scores are no numbers any more; expected finite ones; try a smaller --lr"
                )
            hits += int((codes == scores.argmax(dim=1, keepdim=True)).any(dim=1).sum())
            total += len(vectors)
    return hits / total
