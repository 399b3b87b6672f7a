"""Train the Fashion-MNIST network, dense and pruned, and write both as int8 QDQ ONNX files.

The network is stated once (`NETWORK`) and executed twice: as a torch module that is trained, and
as a rowmesh graph with the batch normalizations folded, which is quantized and written.

    python examples/fashion_mnist/train.py dense     # float training, then int8
    python examples/fashion_mnist/train.py pruned    # starts from the dense weights

Needs ``pip install rowmesh[train]`` and the Debian package ``dataset-fashion-mnist``. The test
images are read once, at the end, to measure.
"""

import argparse
import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from rowmesh.gen.datasets import fashion_mnist
from rowmesh.gen.export_onnx import export_onnx
from rowmesh.gen.graph import (
    AddAttrs,
    Attrs,
    Clamp,
    ConvAttrs,
    FcAttrs,
    Graph,
    Node,
    Op,
    PoolAttrs,
    ReshapeAttrs,
    Tensor,
)
from rowmesh.gen.import_onnx import import_onnx
from rowmesh.gen.post_training import quantize_graph
from rowmesh.gen.prune import densities, keep_masks
from rowmesh.verif.accuracy import golden_accuracy, onnxruntime_accuracy

SEED = 1
CLASSES = 10
SIZE = 28
BATCH = 128
#: Training images, taken from the start of the set, that quantization is calibrated on.
CALIBRATION = 1000
EPOCHS = {"dense": 12, "pruned": 10}
PEAK_RATE = {"dense": 0.2, "pruned": 0.08}
#: Zero fraction of the weights that have none of their own here, before quantization adds a few.
TARGET = 0.76
LAYER_TARGETS = {"stem": 0.25, "dw1": 0.25, "dw2": 0.25, "dw3": 0.25}
#: Upper bound of every activation function: a small range leaves fine steps to int8.
LIMIT = 6.0
#: Share of the pruning run during which the zero fraction grows; the rest only fine-tunes.
RAMP = 0.6


@dataclass(frozen=True)
class Layer:
    """One layer: `kind` is conv, max_pool, add, mean (global average) or fc."""

    kind: str
    name: str
    sources: tuple[str, ...]
    channels: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    relu: bool = True


NETWORK = (
    Layer("conv", "stem", ("image",), 16, kernel=3),
    Layer("max_pool", "pool", ("stem",), 16, kernel=2, stride=2, relu=False),
    Layer("conv", "dw1", ("pool",), 16, kernel=3, depthwise=True),
    Layer("conv", "pw1", ("dw1",), 32),
    Layer("conv", "res1", ("pw1",), 32, kernel=3),
    Layer("conv", "res2", ("res1",), 32, relu=False),
    Layer("add", "sum1", ("pw1", "res2"), 32),
    Layer("conv", "dw2", ("sum1",), 32, kernel=3, stride=2, depthwise=True),
    Layer("conv", "pw2", ("dw2",), 64),
    Layer("conv", "dw3", ("pw2",), 64, kernel=3, depthwise=True),
    Layer("conv", "pw3", ("dw3",), 64, relu=False),
    Layer("add", "sum2", ("pw2", "pw3"), 64),
    Layer("mean", "mean", ("sum2",), 64, relu=False),
    Layer("fc", "logits", ("mean",), CLASSES, relu=False),
)
WEIGHTED = tuple(layer for layer in NETWORK if layer.kind in ("conv", "fc"))


class Net(nn.Module):
    """`NETWORK` with a batch normalization after every convolution."""

    def __init__(self) -> None:
        super().__init__()
        channels = {"image": 1, **{layer.name: layer.channels for layer in NETWORK}}
        self.weighted = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for layer in WEIGHTED:
            inputs = channels[layer.sources[0]]
            if layer.kind == "fc":
                self.weighted[layer.name] = nn.Linear(inputs, layer.channels)
                continue
            self.weighted[layer.name] = nn.Conv2d(
                inputs, layer.channels, layer.kernel, layer.stride, layer.kernel // 2,
                groups=inputs if layer.depthwise else 1, bias=False,
            )  # fmt: skip
            self.norms[layer.name] = nn.BatchNorm2d(layer.channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [N, 10] of images [N, 1, 28, 28]."""
        values = {"image": image}
        for layer in NETWORK:
            x = values[layer.sources[0]]
            if layer.kind == "conv":
                x = self.norms[layer.name](self.weighted[layer.name](x))
            elif layer.kind == "max_pool":
                x = functional.max_pool2d(x, layer.kernel, layer.stride)
            elif layer.kind == "add":
                x = x + values[layer.sources[1]]
            elif layer.kind == "mean":
                x = x.mean((2, 3))
            else:
                x = self.weighted[layer.name](x)
            values[layer.name] = x.clamp(0, LIMIT) if layer.relu else x
        return values[NETWORK[-1].name]

    @torch.no_grad()
    def folded(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and bias of a layer with its batch normalization folded in."""
        weight = self.weighted[name].weight.detach()
        if name not in self.norms:
            return weight, self.weighted[name].bias.detach()
        norm = self.norms[name]
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return weight * gain.reshape(-1, 1, 1, 1), norm.bias - norm.running_mean * gain


def lamp_scores(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a weight adds to its layer, on one scale for all layers.

    The layer-adaptive magnitude of Lee et al. (ICLR 2021): the square of a weight over the sum of
    the squares that are not smaller.
    """
    squares = weights.reshape(-1) ** 2
    order = np.argsort(squares)
    rest = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(rest, np.finfo(np.float32).tiny)
    return scores.reshape(weights.shape)


class Pruner:
    """Gradual pruning: masks by the folded weights, applied after every step."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.masks: dict[str, torch.Tensor] = {}

    def update(self, progress: float) -> None:
        """Choose the masks for a progress of 0 to 1 of the run; the fraction grows cubically."""
        grown = 1 - (1 - min(1.0, progress / RAMP)) ** 3
        scores = {
            layer.name: lamp_scores(self.net.folded(layer.name)[0].numpy()) for layer in WEIGHTED
        }
        own = {name: fraction * grown for name, fraction in LAYER_TARGETS.items()}
        masks = keep_masks(scores, TARGET * grown, own)
        self.masks = {name: torch.from_numpy(mask) for name, mask in masks.items()}

    @torch.no_grad()
    def apply(self) -> None:
        """Set what is pruned to zero again."""
        for name, mask in self.masks.items():
            self.net.weighted[name].weight.mul_(mask)


def augmented(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random mirror images, moved by up to two pixels."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    down, right = torch.randint(-2, 3, (2,), generator=generator).tolist()
    padded = functional.pad(images, (2, 2, 2, 2))
    return padded[:, :, 2 + down : 2 + down + SIZE, 2 + right : 2 + right + SIZE]


def train(net: Net, stage: str, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Train, or fine-tune while pruning, with a one-cycle learning rate."""
    generator = torch.Generator().manual_seed(SEED)
    steps = EPOCHS[stage] * (len(images) // BATCH)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}],
        lr=PEAK_RATE[stage], momentum=0.9, nesterov=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE[stage], steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    pruner = Pruner(net) if stage == "pruned" else None
    step, start = 0, time.monotonic()
    for epoch in range(EPOCHS[stage]):
        net.train()
        total = 0.0
        for index in torch.randperm(len(images), generator=generator).split(BATCH):
            if len(index) < BATCH:
                continue
            batch = augmented(images[index], generator)
            loss = loss_of(net(batch.contiguous(memory_format=torch.channels_last)), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if pruner is not None:
                if step % 100 == 0:
                    pruner.update(step / steps)
                pruner.apply()
            step += 1
            total += loss.item()
        seconds = time.monotonic() - start
        print(f"epoch {epoch + 1}: loss {total * BATCH / len(images):.4f}, {seconds:.0f} s",
              flush=True)  # fmt: skip


def float_graph(net: Net) -> Graph:
    """The trained network as a rowmesh graph, batch normalizations folded."""
    tensors = {"image": Tensor("image", (1, SIZE, SIZE, 1), "float32", model_image=(SIZE, SIZE, 1))}
    nodes = []

    def emit(op: Op, layer: Layer, name: str, shape: tuple[int, ...], attrs: Attrs) -> None:
        image = (shape[1], shape[2], shape[3]) if len(shape) == 4 else None
        tensors[name] = Tensor(name, shape, "float32", model_image=image)
        constants = [tensor for tensor in (f"{name}_w", f"{name}_b") if tensor in tensors]
        sources = ("mean_image",) if op == Op.RESHAPE else layer.sources
        nodes.append(Node(op, name, (*sources, *constants), (name,), attrs))

    for layer in NETWORK:
        name, shape = layer.name, tensors[layer.sources[0]].shape
        clamp: Clamp | None = (0.0, LIMIT) if layer.relu else None
        if layer in WEIGHTED:
            weight, bias = (array.numpy() for array in net.folded(name))
            stored = weight.transpose(0, 2, 3, 1) if weight.ndim == 4 else weight
            for suffix, data in (("w", np.ascontiguousarray(stored)), ("b", bias)):
                constant = f"{name}_{suffix}"
                tensors[constant] = Tensor(constant, data.shape, "float32", data=data)
        size = (shape[1] // layer.stride, shape[2] // layer.stride) if len(shape) == 4 else ()
        if layer.kind == "conv":
            attrs: Attrs = ConvAttrs(
                strides=(layer.stride, layer.stride), pads=_pads(layer, shape[1]),
                groups=shape[3] if layer.depthwise else 1, clamp=clamp,
            )  # fmt: skip
            emit(Op.CONV, layer, name, (1, *size, layer.channels), attrs)
        elif layer.kind == "max_pool":
            window = (layer.kernel, layer.kernel)
            attrs = PoolAttrs(kernel=window, strides=(layer.stride, layer.stride))
            emit(Op.MAX_POOL, layer, name, (1, *size, layer.channels), attrs)
        elif layer.kind == "add":
            emit(Op.ADD, layer, name, shape, AddAttrs(clamp=clamp))
        elif layer.kind == "mean":
            attrs = PoolAttrs(kernel=shape[1:3], strides=shape[1:3])
            emit(Op.AVG_POOL, layer, "mean_image", (1, 1, 1, layer.channels), attrs)
            emit(Op.RESHAPE, layer, name, (1, layer.channels), ReshapeAttrs())
        else:
            emit(Op.FULLY_CONNECTED, layer, name, (1, layer.channels), FcAttrs(clamp=clamp))
    return Graph("fashion_mnist", tensors, tuple(nodes), ("image",), (NETWORK[-1].name,))


def _pads(layer: Layer, size: int) -> tuple[int, int, int, int]:
    """What torch pads, without the rows and columns at the end that no window reaches."""
    near = layer.kernel // 2
    far = max(0, (size // layer.stride - 1) * layer.stride + layer.kernel - size - near)
    return near, far, near, far


@torch.no_grad()
def float_accuracy(net: Net, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Part of the images that the float network classifies right."""
    net.eval()
    batches = torch.from_numpy(images).split(500)
    found = torch.cat([net(batch).argmax(1) for batch in batches]).numpy()
    return float((found == labels).mean())


def nominal_macs(graph: Graph) -> int:
    """Multiplications for one image, zeros included."""
    return sum(
        graph.constant(node.inputs[1]).size * math.prod(graph.tensors[node.outputs[0]].shape[1:-1])
        for node in graph.nodes
        if node.op in (Op.CONV, Op.FULLY_CONNECTED)
    )


def write(net: Net, stage: str, folder: Path, training_images: NDArray[np.float32]) -> None:
    """Quantize, write the file, measure it on the test images, and record that beside it."""
    net.eval()
    graph = float_graph(net)
    samples = graph.from_model({"image": training_images[:CALIBRATION]})
    path = folder / f"{stage}.onnx"
    export_onnx(quantize_graph(graph, samples), path)

    images, labels = fashion_mnist("test")
    written = import_onnx(path)
    found = densities(written)
    record = {
        "seed": SEED,
        "epochs": EPOCHS[stage],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "macs": nominal_macs(written),
        "weights": sum(layer.weights for layer in found),
        "zeros": sum(layer.zeros for layer in found),
        "zero_fraction": {layer.name: round(layer.zero_fraction, 4) for layer in found},
        "test_images": len(images),
        "accuracy_float": float_accuracy(net, images, labels),
        "accuracy_golden": golden_accuracy(written, images, labels),
        "accuracy_onnxruntime": onnxruntime_accuracy(path, images, labels),
    }
    text = json.dumps(record, indent=2)
    (folder / f"{stage}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def main() -> None:
    """Train one stage and write what comes of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("dense", "pruned"))
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent)
    parser.add_argument(
        "--weights", type=Path, default=Path("build/fashion_mnist"), metavar="FOLDER",
        help="where the torch weights of each stage go, and the dense ones come from",
    )  # fmt: skip
    arguments = parser.parse_args()
    stage, weights = arguments.stage, arguments.weights
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images, labels = fashion_mnist("train")
    net = Net().to(memory_format=torch.channels_last)
    if stage == "pruned":
        net.load_state_dict(torch.load(weights / "dense.pt", weights_only=True))
    train(net, stage, torch.from_numpy(images), torch.from_numpy(labels))
    weights.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), weights / f"{stage}.pt")
    write(net, stage, arguments.output, images)


if __name__ == "__main__":
    main()
