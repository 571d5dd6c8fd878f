"""Experts: what determines their weights, which of them are refused, and what a kill leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from galleries import gallery
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fastdd.config import Experts, Siamese
from fastdd.errors import InputError
from fastdd.experts import ExpertBuffer, ExpertData, ExpertPlan, build_experts, epochs_to_keep
from fastdd.experts.training import Training
from fastdd.models.build import build
from fastdd.models.flat import FlatNetwork, flattened

PLAN = ExpertPlan(
    network="convnet1",
    structure="s" * 64,
    experts=3,
    epochs=2,
    images_per_class=None,
    lr=0.05,
    batch=16,
    siamese=Siamese(),
    precision="fp32",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    shape=(3, 8, 8),
    resize=None,
    classes=3,
    data="d" * 64,
    seed=4,
)


def real_images() -> ExpertData:
    images, labels = gallery((14, 14, 14))
    return ExpertData(images, labels, images[::2], labels[::2])


def changed(**values: object) -> ExpertPlan:
    return PLAN.model_copy(update=values)


def trained(folder: Path, plan: ExpertPlan = PLAN, group: int = 1) -> ExpertBuffer:
    build_experts(folder, plan, network=FlatNetwork(build("convnet1", 3)), group=group, real=real_images)
    return ExpertBuffer(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


# -- weights as one vector -------------------------------------------------------------------------


def test_a_flat_network_computes_what_its_module_does() -> None:
    network, images = build("convnet1", 3), torch.randn(4, 3, 8, 8)
    flat = FlatNetwork(build("convnet1", 3))
    weights = flattened(network)
    assert weights.shape == (flat.size,)
    torch.testing.assert_close(flat(weights, images), network(images), rtol=0, atol=0)


def test_networks_with_batch_norm_are_refused_because_weights_alone_do_not_say_what_they_compute() -> None:
    with pytest.raises(InputError, match=r"networks.network: .* statistics .* convnet"):
        FlatNetwork(build("resnet8", 3), "networks.network")


# -- training --------------------------------------------------------------------------------------


def test_an_expert_is_plain_sgd_on_the_shuffled_images_without_augmentation(tmp_path: Path) -> None:
    """By torch's own optimizer, with the order that the expert drew."""
    plan, real = changed(siamese=Siamese(operations=()), experts=1), real_images()
    buffer = trained(tmp_path, plan)
    network = build("convnet1", 3)
    nn.utils.vector_to_parameters(buffer.weights(0, 0), network.parameters())
    optimizer = torch.optim.SGD(network.parameters(), lr=plan.lr)
    training = Training(plan, FlatNetwork(build("convnet1", 3)), real)
    for epoch in (1, 2):
        order = torch.randperm(len(real.images), generator=training._generator(0, "order", epoch))
        for rows in order.split(plan.batch):
            optimizer.zero_grad()
            images = (real.images[rows].float() / 255 - 0.5) / 0.25
            F.cross_entropy(network(images), real.labels[rows]).backward()
            optimizer.step()
        torch.testing.assert_close(buffer.weights(0, epoch), flattened(network), rtol=1e-5, atol=1e-6)


def test_experts_in_a_group_get_the_weights_that_each_gets_alone(tmp_path: Path) -> None:
    alone, together = trained(tmp_path / "1"), trained(tmp_path / "3", group=3)
    for expert in range(3):
        for epoch in range(3):
            torch.testing.assert_close(
                alone.weights(expert, epoch), together.weights(expert, epoch), rtol=1e-5, atol=1e-5
            )


def test_experts_differ_from_each_other_and_move_in_every_epoch(tmp_path: Path) -> None:
    """Every row is a copy: on a CPU, rows that share memory would all be the last one."""
    buffer = trained(tmp_path)
    rows = [buffer.weights(expert, epoch) for expert in range(3) for epoch in range(3)]
    assert len({row.sum().item() for row in rows}) == 9
    assert buffer.accuracies().shape == (3, 3)


def test_more_experts_and_epochs_begin_with_the_same_weights(tmp_path: Path) -> None:
    few, many = trained(tmp_path / "few"), trained(tmp_path / "many", changed(experts=4, epochs=3))
    assert torch.equal(few.weights(2, 2), many.weights(2, 2))


def test_experts_learn(tmp_path: Path) -> None:
    buffer = trained(tmp_path, changed(epochs=8, experts=1, siamese=Siamese(operations=("flip",))))
    first, *_, last = buffer.accuracies()[0].tolist()
    assert last > max(first, 0.6)


def test_an_expert_that_diverges_is_named_with_its_epoch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expert 0 diverged in epoch 1: .* lower experts\.lr = 1e\+30"):
        trained(tmp_path, changed(lr=1e30))


# -- resuming --------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("batches", [1, 4, 7, 11])
def test_experts_that_were_killed_within_an_epoch_end_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int, group: int
) -> None:
    trained(tmp_path / "whole", group=group)
    step, left = Training._step, batches

    def dying(self: Training, weights: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        return step(self, weights, images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", dying)
        with pytest.raises(KilledError):
            trained(tmp_path / "killed", group=group)
    trained(tmp_path / "killed", group=group)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_finished_experts_are_not_trained_again_and_no_image_is_read(tmp_path: Path) -> None:
    before = contents((trained(tmp_path)).folder)

    def unread() -> ExpertData:
        raise AssertionError("the images were read")

    assert build_experts(tmp_path, PLAN, network=FlatNetwork(build("convnet1", 3)), group=1, real=unread) == 0
    assert contents(tmp_path) == before


def test_the_parts_of_a_kill_between_two_files_of_a_group_are_made_whole(tmp_path: Path) -> None:
    """The first expert of the group is finished, the second has its last epoch, the third is one behind."""
    trained(tmp_path / "whole", group=3)
    trained(tmp_path / "torn", group=3)
    trained(tmp_path / "short", changed(epochs=1), group=3)
    torn = tmp_path / "torn"
    (torn / "00001.safetensors").rename(torn / "00001.partial.safetensors")
    (torn / "00002.safetensors").unlink()
    (tmp_path / "short/00002.safetensors").rename(torn / "00002.partial.safetensors")
    trained(torn, group=3)
    assert contents(torn) == contents(tmp_path / "whole")


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "convnet2"}, "of another network: convnet1 there, convnet2 here; use that network"),
        ({"structure": "t" * 64}, "another structure of the network"),
        ({"network": "convnet2", "shape": (3, 16, 16)}, "another size of images"),
        ({"data": "e" * 64}, "another data set: dddddddddddd there, eeeeeeeeeeee here"),
        ({"seed": 5}, "another seed: 4 there, 5 here; use that seed"),
        ({"mean": (0.4, 0.4, 0.4)}, "another normalization"),
        ({"lr": 0.01}, "another experts.lr: 0.05 there, 0.01 here"),
        ({"siamese": Siamese(operations=())}, "another experts.siamese"),
        ({"images_per_class": 7}, "another experts.images_per_class: null there, 7 here"),
        ({"epochs": 3}, "have 2 epochs, but trajectories reach as far as epoch 3; lower latest_start"),
        ({"experts": 4}, r"holds 3 experts, but experts.count is 4"),
    ],
)
def test_experts_of_another_plan_are_refused_and_the_difference_is_named(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PLAN.require(changed(**values), Path("elsewhere"))


def test_more_experts_and_epochs_than_asked_are_welcome() -> None:
    PLAN.require(changed(experts=1, epochs=1, precision="bf16"), Path("elsewhere"))


def test_only_the_epochs_that_trajectories_read_are_trained() -> None:
    assert epochs_to_keep(Experts(), 21) == 21
    assert epochs_to_keep(Experts(keep=50), 21) == 50
    with pytest.raises(InputError, match=r"experts.keep is 20, but trajectories reach as far as epoch 21"):
        epochs_to_keep(Experts(keep=20), 21)


def test_a_folder_without_experts_or_with_unfinished_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no experts: it has no plan\.json"):
        ExpertBuffer(tmp_path)
    trained(tmp_path)
    (tmp_path / "00001.safetensors").unlink()
    with pytest.raises(InputError, match=r"1 of the 3 experts in .* not finished, such as 00001.safetensors"):
        ExpertBuffer(tmp_path)


def test_a_damaged_expert_is_named(tmp_path: Path) -> None:
    buffer = trained(tmp_path)
    (tmp_path / "00001.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match=r"00001.safetensors is damaged .*; delete it"):
        buffer.weights(1, 0)


@pytest.mark.parametrize("few", [True, False])
def test_weights_that_are_not_finite_are_found_before_their_row_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, few: bool
) -> None:
    buffer = trained(tmp_path)
    file = tmp_path / "00001.safetensors"
    tensors = load_file(file)
    tensors["weights"][-1, 0] = float("nan")
    save_file(tensors, file)
    size, named = tensors["weights"].shape[1], r"00001\.safetensors is damaged \('weights' holds NaN"
    if few:
        with pytest.raises(InputError, match=named):
            buffer.require(PLAN, size)
        return
    monkeypatch.setattr(ExpertBuffer, "LOOKED_AT_ONCE", 0)
    buffer.require(PLAN, size)
    buffer.weights(0, 0)
    with pytest.raises(InputError, match=named):
        buffer.weights(1, 0)


@pytest.mark.parametrize("name", ["plan.json", "00001.safetensors"])
def test_a_damaged_file_of_given_experts_is_not_for_this_run_to_write(tmp_path: Path, name: str) -> None:
    size = trained(tmp_path).weights(0, 0).numel()
    (tmp_path / name).write_text("{}")
    reads = (ExpertBuffer.accuracies, lambda buffer: buffer.weights(1, 0), lambda b: b.require(PLAN, size))
    for read in reads:
        with pytest.raises(InputError) as given:
            read(ExpertBuffer(tmp_path, "experts.path"))
        said = str(given.value)
        assert said.startswith(f"{tmp_path / name} is damaged (")
        assert said.endswith(
            "; put back a whole copy from where these experts come from, or set experts.path to null to "
            "train others"
        )
    if name != "plan.json":
        return
    with pytest.raises(InputError, match="delete it and start the same `fastdd run` command again"):
        ExpertBuffer(tmp_path)  # the run's own


def test_a_folder_of_another_plan_is_not_trained_over(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(InputError, match="holds experts of another plan"):
        trained(tmp_path, changed(lr=0.02))
