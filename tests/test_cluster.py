"""Clusters: the batch script that ``fastdd slurm`` prints, and the examples for other schedulers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fastdd.cli import main

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"
HOSTILE = ["description=$(touch hurt) `touch hurt` \"a\" 'b' {nodes} \\", "--out", "runs/my set; touch hurt"]


def printed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main(["slurm", *map(str, words)]) == 0
    return capsys.readouterr().out


def require_bash(script: str) -> None:
    """Refuse a script that bash cannot read."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def stub(folder: Path, name: str, content: str) -> None:
    """A program of a cluster."""
    (folder / name).write_text(f"#!/bin/bash\n{content}\n")
    (folder / name).chmod(0o755)


def test_the_example_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    script = printed(
        capsys,
        "imagenet1k-deda",
        "data.root=/shared/imagenet",
        *("--out", "/shared/runs/imagenet1k-deda", "--nodes", "4", "--gpus", "8"),
    )
    assert script == (CLUSTER / "slurm.sbatch").read_text()
    require_bash(script)
    for line in ("#SBATCH --nodes=4", "#SBATCH --gpus-per-node=8", "#SBATCH --no-kill", "#SBATCH --requeue"):
        assert line in script.splitlines()
    assert "--nnodes=1:4 --nproc-per-node=8" in script


def test_text_of_users_is_never_read_by_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script runs, with a cluster that only writes down what it is asked for."""
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "a $(touch hurt).yaml"
    recipe.write_text("data: {root: digits}\narms: {one: {method: deda}}\n")
    script = printed(capsys, recipe, *HOSTILE, "--gpus", "0", "--partition", "long,short")
    require_bash(script)
    assert "#SBATCH --job-name=fastdd-a-touch-hurt-\n" in script
    assert "#SBATCH --partition=long,short\n" in script
    assert "gpus-per-node" not in script
    (tmp_path / "bin").mkdir()
    stub(tmp_path / "bin", "srun", 'printf "%s\\0" "$@" > asked')
    stub(tmp_path / "bin", "scontrol", "printf 'first\\nsecond\\n'")
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    environment |= {"SLURM_JOB_ID": "20007", "SLURM_JOB_NODELIST": "first,second"}
    subprocess.run(["bash"], input=script, text=True, check=True, env=environment)
    words = (tmp_path / "asked").read_text().split("\0")[:-1]
    assert words[words.index("-m") + 1 :] == ["fastdd", "run", str(recipe), *HOSTILE]
    assert "--rdzv-endpoint=first:20007" in words
    assert "--nproc-per-node=1" in words
    assert not (tmp_path / "hurt").exists()


@pytest.mark.bad_input("cluster")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("digits", "--partition", "a b"), "--partition 'a b' is no word of Slurm's"),
        (("digits", "--account", "a\n#SBATCH --wrap=x"), "is no word of Slurm's; give letters"),
        (("digits", "--time", ""), "an argument is an empty text"),
        (("digits", "method.stepz=3"), "unknown key 'method.stepz'"),
        (("nowhere",), "nowhere"),
    ],
)
def test_what_slurm_could_misread_and_bad_recipes_are_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert main(["slurm", *words]) == 2
    out, err = capsys.readouterr()
    assert told in err
    assert not out


@pytest.mark.parametrize("option", [("--nodes", "0"), ("--gpus", "-1"), ("--cpus", "many")])
def test_numbers_that_are_none_are_refused(option: tuple[str, str]) -> None:
    with pytest.raises(SystemExit):
        main(["slurm", "digits", *option])


def scripts(node: object) -> Iterator[str]:
    """The shell scripts in a document: texts of several lines that start a program."""
    if isinstance(node, dict):
        for value in node.values():
            yield from scripts(value)
    elif isinstance(node, list):
        for value in node:
            yield from scripts(value)
    elif isinstance(node, str) and "torchrun" in node:
        yield node


@pytest.mark.parametrize("name", ["skypilot.yaml", "jobset.yaml"])
def test_examples_for_other_schedulers_are_yaml_with_a_script_that_bash_reads(name: str) -> None:
    document = yaml.safe_load((CLUSTER / name).read_text())
    (script,) = scripts(document)
    require_bash(script)
    assert '-m fastdd run "$RECIPE" "data.root=$IMAGES" --out "$OUT"' in script
    assert "--max-restarts" in script
