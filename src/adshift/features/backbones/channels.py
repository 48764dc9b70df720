"""How many channels the usual layers of a backbone have, known without building it."""

_RESNET50 = (256, 512, 1024)

CHANNELS = {
    "tf_efficientnet_lite0": (24, 40, 112),
    "tf_efficientnet_lite1": (24, 40, 112),
    "tf_efficientnet_lite2": (24, 48, 120),
    "mobilenetv2_100": (24, 32, 96),
    "resnet18": (64, 128, 256),
    "resnet50": _RESNET50,
    "wide_resnet50_2": _RESNET50,
    "vit_tiny_patch16_224": (192, 192, 192),
    "vit_small_patch16_224": (384, 384, 384),
    "vit_base_patch16_224": (768, 768, 768),
}
