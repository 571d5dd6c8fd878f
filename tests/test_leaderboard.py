"""The leaderboard: what stands in its rows, what it refuses, and its table in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from run_folders import write_recipe
from test_report import Page, make_run

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.report.leaderboard import data_name, leaderboard
from fastdd.run_folder import RunFolder

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "one")


def rows_of(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((out / "leaderboard.json").read_text())
    return found


def test_every_set_stands_beside_the_control_of_its_run(run: Path, tmp_path: Path) -> None:
    page = leaderboard([tmp_path / "runs"], tmp_path / "site")
    rows = rows_of(tmp_path / "site")
    # the best difference first, then what is below, then the control and the reference
    assert [row["title"] for row in rows[:3]] == ["DEDA <&> mine", "SRe2L", "random real images"]
    assert rows[0]["gain"] == pytest.approx(9.0)
    assert rows[0]["told"] == "+9.0 ± 2.5"
    assert (rows[1]["told"], rows[1]["distinguishable"]) == ("−12.0 ± 5.0", True)
    assert rows[2]["role"] == "control"
    assert rows[2]["gain"] is None
    source = page.read_text()
    assert "DEDA &lt;&amp;&gt; mine" in source
    assert "<b>+9.0 ± 2.5</b>" in source
    assert "<b>−12.0" not in source
    text = Page(page).text
    assert "every value of the recipe" in text


def test_it_shows_no_paths_of_the_machine_in_recipes(run: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    write_recipe(RunFolder(run), recipe | {"data": {"root": "/home/somebody/photos.tar"}})
    leaderboard([run], tmp_path / "site")
    shown = (tmp_path / "site" / "index.html").read_text()
    root = re.search(r"root: (.*)", shown)
    assert root is not None
    assert root[1] == "photos.tar"
    assert "somebody" not in shown


def test_the_projects_own_results_make_one(tmp_path: Path) -> None:
    leaderboard([RESULTS], tmp_path / "site")
    rows = rows_of(tmp_path / "site")
    assert {row["data"] for row in rows} == {"cifar10"}
    assert {"hard", "online"} <= {row["regime"] for row in rows}
    four = [row for row in rows if row["title"] == "DM, four in one" and row["regime"] == "hard"]
    assert [(row["ipc"], row["seen"], row["told"]) for row in four] == [(10, 40, "+24.0 ± 2.1")]
    # one group: one data set, images a class, and protocol, and a control in each
    keys = [(row["ipc"], row["protocol"]) for row in rows]
    assert len(set(keys)) == sum(before != after for before, after in zip([None, *keys], keys, strict=False))
    assert {key for key, row in zip(keys, rows, strict=True) if row["role"] == "control"} == set(keys)


def test_a_file_given_twice_counts_once(run: Path, tmp_path: Path) -> None:
    leaderboard([run, run / "metrics.json", tmp_path / "runs"], tmp_path / "site")
    titles = [row["title"] for row in rows_of(tmp_path / "site")]
    assert len(titles) == len(set(titles))


def test_bad_input_is_named_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    with pytest.raises(InputError, match=r"/onee does not exist \(did you mean '/.*/one'\?\)"):
        leaderboard([run.parent / "onee"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no results \(metrics\.json\)"):
        leaderboard([run, tmp_path / "empty"], out)
    (run / "metrics.json").write_text('{"recipe": "old"}')
    with pytest.raises(InputError, match=r"metrics\.json cannot be read as results .* field required"):
        leaderboard([run], out)
    assert not out.exists()
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file, and a leaderboard is a folder"):
        leaderboard([tmp_path], file)
    with pytest.raises(InputError, match="holds other files than a leaderboard's"):
        leaderboard([RESULTS], run)


def test_the_command_writes_it_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["leaderboard", str(run), "--out", str(tmp_path / "site")]) == 0
        assert capsys.readouterr().out == f"open {tmp_path / 'site' / 'index.html'}\n"


def test_data_sets_are_named_by_their_paths() -> None:
    assert [data_name(root) for root in ("a/cifar10.tar.xz", "digits", "photos/")] == [
        "cifar10",
        "digits",
        "photos",
    ]


def test_a_browser_sorts_and_filters_the_table(run: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    leaderboard([run, RESULTS / "cifar10_matching_ipc10.json"], tmp_path / "site")
    act = """<script>
      document.querySelectorAll("th button")[6].click();
      const regime = document.querySelector("select[data-key=regime]");
      regime.value = "hard"; regime.dispatchEvent(new Event("change"));
      document.title = JSON.stringify([...document.querySelectorAll("tbody tr")].filter(r => !r.hidden)
        .map(r => Number(r.cells[6].dataset.value)));
    </script></body>"""
    page = tmp_path / "acted.html"
    page.write_text((tmp_path / "site" / "index.html").read_text().replace("</body>", act))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [chromium, *options, "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r"<title>(\[.*?\])</title>", dom)
    assert found is not None, dom[:300]
    shown = json.loads(found[1])
    hard = [row["accuracy"] for row in rows_of(tmp_path / "site") if row["regime"] == "hard"]
    assert len(shown) == len(hard) > 5
    assert shown == sorted(shown, reverse=True)


def test_data_sets_of_one_name_with_other_images_do_not_stand_beside_one_another(
    run: Path, tmp_path: Path
) -> None:
    content = json.loads((run / "metrics.json").read_text())
    content["data"]["test"] = 3
    (tmp_path / "easy.json").write_text(json.dumps(content))
    leaderboard([run, tmp_path / "easy.json"], tmp_path / "site")
    names = {str(row["data"]) for row in rows_of(tmp_path / "site")}
    assert len(names) == 2
    assert any(name.endswith(" / 3)") for name in names)
