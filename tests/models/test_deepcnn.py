import pytest
import torch
import torch.nn.functional as F

POOLED = (5, 8)
UNITS = ((2, 3), (4, 5), (6, 7, 8), (9, 10))


def written_out(weights, x, skip):
    """The network once more, in plain functions: ten times convolution and ReLU, pools, the additions."""
    for i in range(1, 11):
        if any(i == unit[0] for unit in UNITS):
            entry = x
        x = F.conv2d(x, weights[f"conv{i}.weight"], weights[f"conv{i}.bias"], padding=1)
        if skip and any(i == unit[-1] for unit in UNITS):
            x = torch.cat([x[:, : entry.shape[1]] + entry, x[:, entry.shape[1] :]], dim=1)
        x = x.relu()
        if i in POOLED:
            x = F.max_pool2d(x, 2)
    return F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"])


@pytest.mark.parametrize("skip", [True, False])
def test_structure(build, skip):
    net = build("deepcnn", skip=skip, init="he")
    images = torch.randn(2, 3, 33, 33)
    torch.testing.assert_close(net(images), written_out(net.state_dict(), images, skip))


def test_the_published_stds_are_those_of_the_default_weights(build):
    net = build("deepcnn")
    assert net.conv1.weight.std().item() == pytest.approx(0.111, abs=0.003)
    assert net.conv10.weight.std().item() == pytest.approx(0.0120, abs=0.0001)


def test_the_gradient_vanishes_without_skip_and_not_with_it(build):
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)

    def conv1_gradient(skip):
        net = build("deepcnn", skip=skip)
        F.cross_entropy(net(images), labels).backward()
        return net.conv1.weight.grad.norm()

    assert conv1_gradient(skip=True) > 100 * conv1_gradient(skip=False)
