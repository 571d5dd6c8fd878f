"""Matching of trajectories: the gradient, the draws, the learned rate, and a run from experts to images."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from forked import together
from safetensors.torch import load_file, save_file
from test_experts import PLAN, trained
from torch import Tensor

import fastdd
from fastdd.config import BatchSize, Match, Siamese
from fastdd.errors import InputError
from fastdd.experts import ExpertBuffer
from fastdd.models.build import build
from fastdd.models.flat import FlatNetwork
from fastdd.models.registry import NETWORKS
from fastdd.recover import TrajectorySignal, Unit, plan
from fastdd.recover.plan import UnitError
from fastdd.recover.steps import Round
from fastdd.recover.variables import Pixels
from fastdd.run_folder import RunFolder
from fastdd.runs.status import status
from fastdd_kernels import siamese_augment

CLASSES, SLOTS = 3, 2
DEFAULT = Siamese()
BOUNDS = (torch.full((3, 1, 1), -9.0), torch.full((3, 1, 1), 9.0))


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> ExpertBuffer:
    """Three experts of three epochs."""
    return trained(tmp_path_factory.mktemp("experts"), PLAN.model_copy(update={"epochs": 3}))


def unit() -> Unit:
    (only,) = plan(CLASSES, SLOTS, BatchSize(classes="all", slots="all"), 1)
    return only


def make(experts: ExpertBuffer, siamese: Siamese = DEFAULT, **values: object) -> TrajectorySignal:
    """A signal of five student steps on batches of four of the six images."""
    trajectory = {"steps": 5, "batch": 4, "epochs": 1, "latest_start": 2, "lr": 0.02, "lr_lr": 1e-6} | values
    match = Match.model_validate({"trajectory": trajectory, "siamese": siamese})
    assert match.trajectory is not None
    signal = TrajectorySignal(
        match.trajectory, match, network=FlatNetwork(build("convnet1", 3)), experts=experts, count=3, seed=7
    )
    signal.start(unit(), steps=10)
    return signal


def images() -> Pixels:
    start = torch.randn(CLASSES * SLOTS, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Pixels(start, BOUNDS)


def gradient(signal: TrajectorySignal, step: int = 0) -> Tensor:
    """The gradient of one step to the images."""
    variable = images()
    signal(variable, Round(range(10), unit(), None), step)
    assert variable.free.grad is not None
    return variable.free.grad


def unrolled(signal: TrajectorySignal, step: int, number: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Distance, and its gradients to images and learning rate, by autograd through all student steps."""
    variable, config = images(), signal.config
    shown, lr = variable.free, signal.lr.clone().requires_grad_()
    walk = signal._draw(len(shown), shown.shape[2:], step, number)
    start = signal.experts.weights(walk.expert, walk.epoch)
    target = signal.experts.weights(walk.expert, walk.epoch + config.epochs)
    drawn: Sequence[Tensor] = [torch.empty(0)] * config.steps
    if len(walk.augmentation):
        drawn = walk.augmentation.split([len(rows) for rows in walk.rows])
    weights = start.clone().requires_grad_()
    for rows, parameters in zip(walk.rows, drawn, strict=True):
        batch = siamese_augment(shown[rows], parameters) if len(parameters) else shown[rows]
        loss = F.cross_entropy(signal.network(weights, batch), signal.labels[rows])
        weights = weights - lr * torch.autograd.grad(loss, weights, create_graph=True)[0]
    distance = (weights - target).square().sum() / (start - target).square().sum()
    of_images, of_lr = torch.autograd.grad(distance, (shown, lr))
    return distance.detach(), of_images, of_lr


def assert_close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert (found - wanted).norm() <= tolerance * wanted.norm()


# -- the gradient ----------------------------------------------------------------------------------


@pytest.mark.parametrize("siamese", [Siamese(), Siamese(operations=()), Siamese(together=True)])
def test_the_gradient_is_that_of_all_steps_unrolled_with_augmentation_and_images_shown_twice(
    experts: ExpertBuffer, siamese: Siamese
) -> None:
    signal = make(experts, siamese)
    for step in (0, 1):
        _, of_images, _ = unrolled(signal, step)
        assert_close(gradient(signal, step), of_images)
        signal.start(unit(), 10)  # the learning rate of the first step again


def test_several_trajectories_give_their_mean(experts: ExpertBuffer) -> None:
    signal = make(experts, together=2)
    parts = [unrolled(signal, 0, number) for number in (0, 1)]
    variable = images()
    values = signal(variable, Round(range(10), unit(), None), 0)
    torch.testing.assert_close(values["trajectory"], (parts[0][0] + parts[1][0]) / 2)
    assert variable.free.grad is not None
    assert_close(variable.free.grad, (parts[0][1] + parts[1][1]) / 2)


def test_tesla_leaves_out_how_an_image_moves_later_weights(experts: ExpertBuffer) -> None:
    exact = gradient(make(experts))
    tesla = gradient(make(experts, through_weights=False))
    halved = gradient(make(experts, through_weights=False, factor=1))
    cosine = F.cosine_similarity(exact.flatten(), tesla.flatten(), dim=0).item()
    assert 0.5 < cosine < 0.9999
    torch.testing.assert_close(halved, tesla / 2)
    single = make(experts, steps=1), make(experts, steps=1, through_weights=False)
    assert_close(gradient(single[0]), gradient(single[1]))  # a single step has no later weights


def test_memory_does_not_grow_with_the_steps_of_the_student(experts: ExpertBuffer) -> None:
    def most_saved(steps: int) -> int:
        live, most = 0, 0

        class Saved:
            """A tensor that a graph keeps; its bytes count as long as the graph lives."""

            def __init__(self, x: Tensor) -> None:
                nonlocal live, most
                self.x, self.bytes = x, x.nbytes
                live += self.bytes
                most = max(most, live)

            def __del__(self) -> None:
                nonlocal live
                live -= self.bytes

        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.x):
            gradient(make(experts, steps=steps, batch="all"))
        return most

    assert most_saved(12) <= 1.1 * most_saved(3)


# -- what is drawn ---------------------------------------------------------------------------------


def test_what_a_step_draws_depends_on_seed_and_step_alone(experts: ExpertBuffer) -> None:
    used = make(experts, lr_lr=0)
    for step in range(3):
        gradient(used, step)
    assert torch.equal(gradient(used, 3), gradient(make(experts, lr_lr=0), 3))
    assert not torch.equal(gradient(used, 3), gradient(used, 4))


def test_batches_go_through_all_images_before_one_comes_again(experts: ExpertBuffer) -> None:
    walk = make(experts)._draw(6, torch.Size((8, 8)), 0, 0)
    assert [len(rows) for rows in walk.rows] == [2, 4, 2, 4, 2]  # the short batch first, as released
    for first in (0, 2):
        assert sorted(torch.cat(walk.rows[first : first + 2]).tolist()) == list(range(6))


def test_starts_reach_from_the_initial_weights_to_the_latest(experts: ExpertBuffer) -> None:
    signal = make(experts, latest_start=3)
    walks = [signal._draw(6, torch.Size((8, 8)), step, 0) for step in range(60)]
    assert {walk.epoch for walk in walks} == {0, 1, 2}
    assert {walk.expert for walk in walks} == {0, 1, 2}


# -- the learned learning rate ---------------------------------------------------------------------


def test_the_learning_rate_is_learned_by_sgd_with_momentum_and_continues_from_a_checkpoint(
    experts: ExpertBuffer,
) -> None:
    signal, lr = make(experts), torch.tensor(0.02, requires_grad=True)
    optimizer = torch.optim.SGD([lr], lr=1e-6, momentum=0.5)
    for step in range(4):
        _, _, lr.grad = unrolled(signal, step)
        gradient(signal, step)
        optimizer.step()
        assert signal.learned()["lr"] == pytest.approx(lr.item(), rel=1e-5)
        continued = make(experts)
        continued.restore(signal.state())
        signal = continued
    assert signal.learned()["lr"] != pytest.approx(0.02, rel=1e-3)


def test_a_learning_rate_that_is_no_longer_positive_names_the_step(experts: ExpertBuffer) -> None:
    with pytest.raises(UnitError, match=r"is -[\d.]+ after step 2, .*lower match.trajectory.lr_lr = 1e-06"):
        make(experts)._learn(torch.tensor(1e6), 2)
    with pytest.raises(UnitError, match="is nan after step 4"):
        make(experts)._learn(torch.tensor(float("nan")), 4)


# -- a run -----------------------------------------------------------------------------------------

RECIPE = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128}
arms:
  mtt:
    method: custom
    init: real
    batch: {classes: all, slots: all}
    augment: {roll: [0, 0]}
    terms: {ce: null}
    match:
      trajectory: {steps: 6, epochs: 1, latest_start: 2, lr: 0.03, lr_lr: 1.0e-4}
      networks: {network: convnet1}
    steps: 6
    optimizer: sgd
    lr: 3
    schedule: constant
experts: {count: 2, lr: 0.05, batch: 32, images_per_class: 30}
recover: {log_every: 2, checkpoint_every: 2}
student: {network: convnet1, steps: 5, batch: 10, pad: 1, flip: 0.0, seeds: 1, labels: hard}
"""
TRAJECTORY = "method.match.trajectory"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("recipe") / "trajectories.yaml"
    file.write_text(RECIPE)
    return str(file)


@pytest.fixture(scope="module")
def recovered(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has come to its page, by way of its experts.

    It has one thread, as the processes with which it is compared.
    """
    out = tmp_path_factory.mktemp("run") / "out"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastdd.run(recipe, out, until="experts")
    rows = {row.stage: str(row).split(maxsplit=1)[1] for row in status(out)}
    assert rows["experts"].split() == ["done", "2/2", "experts"]
    assert len(RunFolder(out).finished_experts()) == 2
    assert not (out / "images").exists()
    fastdd.run(recipe, out)
    torch.set_num_threads(threads)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_run_trains_experts_then_images_and_reports_the_learned_rate(recovered: Path) -> None:
    assert "Test accuracy in percent of the 2 networks" in (recovered / "report.html").read_text()
    assert '"experts"' in (recovered / "manifest.json").read_text()
    log = (recovered / "recover/mtt/unit_00000.json").read_text()
    assert '"learned"' in log
    assert '"lr"' in log
    assert (
        len(ExpertBuffer(recovered / "experts").accuracies()[0]) == 3
    )  # epoch 0 and latest_start - 1 + epochs


@pytest.mark.slow
def test_two_processes_share_the_experts_and_give_the_bytes_of_one(
    recovered: Path, recipe: str, tmp_path: Path
) -> None:
    together("-m", "fastdd", "experts", recipe, "--out", tmp_path / "out")
    assert contents(tmp_path / "out/experts") == contents(recovered / "experts")


def test_terms_through_a_network_that_sees_no_real_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"match.trajectory .* set match.added.through to teacher"):
        Match.model_validate({"trajectory": {}, "added": {"through": "network"}})


def test_experts_whose_images_are_made_may_be_deleted(recovered: Path, recipe: str, tmp_path: Path) -> None:
    shutil.copytree(recovered, tmp_path / "out")
    shutil.rmtree(tmp_path / "out/experts")
    (tmp_path / "out/report.html").unlink()
    fastdd.run(recipe, tmp_path / "out")
    assert not (tmp_path / "out/experts").exists()
    assert (tmp_path / "out/report.html").is_file()


def test_images_that_were_killed_on_the_way_end_with_the_same_bytes(
    recovered: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = TrajectorySignal._learn

    def dying(self: TrajectorySignal, slope: Tensor, step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt
        learn(self, slope, step)

    overrides = [f"experts.path={recovered}"]
    with monkeypatch.context() as patch:
        patch.setattr(TrajectorySignal, "_learn", dying)
        with pytest.raises(KeyboardInterrupt):
            fastdd.run(recipe, tmp_path / "out", overrides, until="recover")
    fastdd.run(recipe, tmp_path / "out", overrides, until="recover")
    assert not (tmp_path / "out/experts").exists()  # those given were used
    for folder in ("images", "recover"):
        assert contents(tmp_path / "out" / folder) == contents(recovered / folder)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=3"], "of another seed: 0 there, 3 here"),
        (["method.match.networks.network=convnet1_narrow"], "unknown network"),
        (["teacher.mean=[0.3]"], "another normalization"),
        ([f"{TRAJECTORY}.latest_start=3"], "have 2 epochs, but trajectories reach as far as epoch 3"),
        (["experts.count=9"], "holds 2 experts, but experts.count is 9"),
        (
            ["experts.keep=9"],
            "experts.keep is 9, but the experts in .* have 2 epochs; set experts.keep to auto",
        ),
    ],
)
def test_given_experts_that_do_not_fit_are_refused_before_any_work(
    recovered: Path, recipe: str, tmp_path: Path, overrides: list[str], message: str
) -> None:
    path = f"experts.path={recovered / 'experts'}"
    with pytest.raises(InputError, match=message):
        fastdd.run(recipe, tmp_path / "out", [path, *overrides])
    assert not (tmp_path / "out").exists()


def cut_short(weights: Tensor) -> Tensor:
    """The weights without those of the last epoch."""
    return weights[:-1]


def of_another_network(weights: Tensor) -> Tensor:
    """The weights without the last of each epoch."""
    return weights[:, :-1]


@pytest.mark.parametrize("change", [cut_short, of_another_network, None])
def test_a_damaged_file_among_given_experts_is_named_before_any_work(
    recovered: Path, recipe: str, tmp_path: Path, change: Callable[[Tensor], Tensor] | None
) -> None:
    shutil.copytree(recovered / "experts", tmp_path / "given")
    file = tmp_path / "given/00001.safetensors"
    if change is None:
        file.write_bytes(file.read_bytes()[:-8])
    else:
        weights = change(load_file(file)["weights"]).contiguous()
        save_file({"weights": weights, "accuracy": torch.zeros(len(weights))}, file)
    with pytest.raises(InputError, match=r"00001\.safetensors is damaged .*; put back a whole copy"):
        fastdd.run(recipe, tmp_path / "out", [f"experts.path={tmp_path / 'given'}"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experts.keep=1"], "experts.keep is 1, but trajectories reach as far as epoch 2"),
        (["method.match.networks.network=resnet8"], r"match.networks.network: .* statistics"),
        (
            ["experts.images_per_class=500"],
            r"experts.images_per_class is 500, but class '8' has 1\d\d real images",
        ),
        (["experts.path=nowhere"], "experts.path: nowhere holds no experts"),
    ],
)
def test_experts_that_could_not_be_trained_are_refused_before_any_work(
    recipe: str, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fastdd.run(recipe, tmp_path / "out", overrides)
    assert not (tmp_path / "out").exists()


def test_arms_that_follow_experts_of_two_networks_are_refused(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS._things, "convnet1_again", NETWORKS["convnet1"])
    file = tmp_path / "two.yaml"
    arm = (
        RECIPE.split("arms:\n")[1]
        .split("experts:")[0]
        .replace("mtt:", "other:")
        .replace("convnet1", "convnet1_again")
    )
    file.write_text(RECIPE.replace("experts: {", arm + "experts: {"))
    with pytest.raises(
        InputError, match=r"arms.mtt follows experts of convnet1 and arms.other of convnet1_again"
    ):
        fastdd.run(str(file), tmp_path / "out")
