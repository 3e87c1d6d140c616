"""Detection by queries: transformers that find a fixed number of boxes, matched one to one with what is there."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from runner_agent.trainer.batch import Boxes, Detections, Predictions, Targets
from runner_agent.trainer.models.base import Model

# COCO's evaluation takes 100 an image; more never help.
MAX_DETECTIONS = 300


class QueryDetector(Model):
    """A network of the RT-DETR kind, whose decoder has heads for classes and boxes.

    `loss` is transformers' own, weighted as published: classification, boxes and their overlap, for each layer and for
    queries made from noisy targets; a sum over the boxes divided by their number.
    """

    network: Any

    def __init__(self, whole: nn.Module, loss: Callable[..., Any], inputs: nn.Module) -> None:
        super().__init__()
        # What transformers saves and loads; its heads are a second copy of the decoder's.
        self.published = type(whole)
        self.network = whole.model
        self.inputs = inputs
        self._loss = loss

    def forward(self, pixels: Tensor, targets: Targets) -> tuple[Tensor, tuple[Tensor, ...]]:
        assert isinstance(targets, tuple)
        wanted = [_wanted(one) for one in targets]
        found = self.network(pixel_values=self.inputs(pixels), labels=wanted)
        # The matching compares small differences, which half precision would lose.
        with torch.autocast(pixels.device.type, enabled=False):
            loss = self._measure(found, wanted)
        return loss, self._last(found)

    def outputs(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Logits (n, queries, classes), and boxes (n, queries, 4) as centre, width and height in shares of the size."""
        return self._last(self.network(pixel_values=self.inputs(pixels)))

    def decode(self, raw: tuple[Tensor, ...]) -> Predictions:
        scores, boxes = raw[0].float().sigmoid(), corners(raw[1].float()).clamp(0, 1)
        classes = scores.shape[2]
        best, places = scores.flatten(1).topk(min(MAX_DETECTIONS, scores.shape[1] * classes))
        return tuple(
            Detections(boxes[image, place // classes], place % classes, score)
            for image, (score, place) in enumerate(zip(best, places, strict=True))
        )

    def _last(self, found: Any) -> tuple[Tensor, ...]:
        """Of the last layer, without the queries that were made from noisy targets, which come first."""
        queries = self.network.config.num_queries
        logits, boxes = found.intermediate_logits, found.intermediate_reference_points
        return logits[:, -1, -queries:], boxes[:, -1, -queries:]

    def _measure(self, found: Any, wanted: list[dict[str, Tensor]]) -> Tensor:
        logits, boxes = found.intermediate_logits.float(), found.intermediate_reference_points.float()
        first_logits, first_boxes = found.enc_topk_logits.float(), found.enc_topk_bboxes.float()
        if not any(len(one["boxes"]) for one in wanted):
            # transformers' matching fails without a single box. That of boxes counts for nothing here, but belongs
            # to the graph, as processes that train together expect.
            unused = [boxes, first_boxes, found.intermediate_predicted_corners]
            unused.append(self.network.denoising_class_embed.weight if self.network.config.num_denoising else None)
            nothing = torch.stack([one.float().sum() for one in unused if one is not None]).sum()
            absent: Tensor = self._absence(logits) + self._absence(first_logits) + 0 * nothing
            return absent
        if not (boxes.isfinite().all() and first_boxes.isfinite().all()):
            # The same: a training that has diverged is told by its loss.
            diverged: Tensor = logits.sum() * torch.nan
            return diverged
        corners_found, references = found.intermediate_predicted_corners, found.initial_reference_points
        measured: tuple[Tensor, Any, Any] = self._loss(
            logits[:, -1],
            wanted,
            logits.device,
            boxes[:, -1],
            self.network.config,
            logits,
            boxes,
            enc_topk_logits=first_logits,
            enc_topk_bboxes=first_boxes,
            denoising_meta_values=found.denoising_meta_values,
            predicted_corners=corners_found.float() if corners_found is not None else None,
            initial_reference_points=references.float() if references is not None else None,
        )
        return measured[0]

    def _absence(self, logits: Tensor) -> Tensor:
        """The varifocal loss (https://arxiv.org/abs/2008.13367) where nothing is to be found."""
        config = self.network.config
        weight = config.focal_loss_alpha * logits.detach().sigmoid().pow(config.focal_loss_gamma)
        return functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), weight, reduction="sum")


def _wanted(one: Boxes) -> dict[str, Tensor]:
    """An image's targets as transformers takes them. Boxes that stand for a crowd are not trained on."""
    alone = ~one.crowd
    left, top, right, bottom = one.boxes[alone].float().unbind(1)
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
    return {"class_labels": one.labels[alone], "boxes": boxes}


def corners(boxes: Tensor) -> Tensor:
    """Left, top, right and bottom of boxes (..., 4) given as centre, width and height."""
    x, y, width, height = boxes.unbind(-1)
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)


@torch.no_grad()
def start_afresh(network: nn.Module) -> None:
    """Draw the weights again as the papers do (Glorot for linear layers, He for convolutions).

    transformers draws all of them, those of normalisation included, from a narrow distribution around zero, as for
    weights that are overwritten anyway: from there a training without pretrained weights hardly gets going. What starts
    at zero on purpose stays there.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear) and bool(module.weight.any()):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
