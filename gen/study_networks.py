"""Networks of the published studies that the chip itself was not measured with, layer by layer."""

from rowmesh.gen.workloads import Layer

__all__ = ["googlenet", "vgg16"]

#: Szegedy et al., CVPR 2015, table 1. Rows of the input, channels of the input, then the filters
#: of: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
_INCEPTION = {
    "3a": (28, 192, 64, 96, 128, 16, 32, 32),
    "3b": (28, 256, 128, 128, 192, 32, 96, 64),
    "4a": (14, 480, 192, 96, 208, 16, 48, 64),
    "4b": (14, 512, 160, 112, 224, 24, 64, 64),
    "4c": (14, 512, 128, 128, 256, 24, 64, 64),
    "4d": (14, 512, 112, 144, 288, 32, 64, 64),
    "4e": (14, 528, 256, 160, 320, 32, 128, 128),
    "5a": (7, 832, 256, 160, 320, 32, 128, 128),
    "5b": (7, 832, 384, 192, 384, 48, 128, 128),
}


def googlenet() -> tuple[Layer, ...]:
    """GoogLeNet (Inception v1) at 224 x 224, without its training heads: 1.58 G multiplications."""
    layers = [
        Layer(name="conv1", M=64, C=3, R=7, S=7, H=224, U=2, pad=(3, 3)),
        Layer(name="conv2_reduce", M=64, C=64, R=1, S=1, H=56),
        Layer(name="conv2", M=192, C=64, R=3, S=3, H=56, pad=(1, 1)),
    ]
    for name, (H, C, one, reduce3, three, reduce5, five, pooled) in _INCEPTION.items():
        layers += [
            Layer(name=f"{name}_1x1", M=one, C=C, R=1, S=1, H=H),
            Layer(name=f"{name}_reduce3", M=reduce3, C=C, R=1, S=1, H=H),
            Layer(name=f"{name}_3x3", M=three, C=reduce3, R=3, S=3, H=H, pad=(1, 1)),
            Layer(name=f"{name}_reduce5", M=reduce5, C=C, R=1, S=1, H=H),
            Layer(name=f"{name}_5x5", M=five, C=reduce5, R=5, S=5, H=H, pad=(2, 2)),
            Layer(name=f"{name}_pool", M=pooled, C=C, R=1, S=1, H=H),
        ]
    return (*layers, Layer(name="fc", M=1000, C=1024, R=1, S=1, H=1))


def vgg16() -> tuple[Layer, ...]:
    """The convolutions of VGG-16: 15.35 G multiplications."""
    layers: list[Layer] = []
    made, rows = 3, 224
    for stage, (filters, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for number in range(1, count + 1):
            name = f"conv{stage}-{number}"
            layers.append(Layer(name=name, M=filters, C=made, R=3, S=3, H=rows, pad=(1, 1)))
            made = filters
        rows //= 2
    return tuple(layers)
