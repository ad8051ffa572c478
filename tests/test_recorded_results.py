"""What the recorded results claim, as far as something is promised of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def recorded(name: str) -> dict:
    return json.loads((RESULTS / name).read_text())


def test_an_hour_on_two_cores_finds_motion() -> None:
    """The recipe `cpu`, trained for no more than an hour on a CPU, gets 0.7 of the way from random to the oracle."""
    table = recorded("chapter7-cpu-hour.json")
    assert table["metrics"]["motion_retrieval/way_to_oracle_best"] >= 0.7
    assert table["device"].startswith("CPU")
    for run in table["runs"]["best"]:
        assert run["recipe"]["training"]["minutes"] <= 60
        assert run["recipe"]["model"]["motion_layers"] > 0


@pytest.mark.parametrize("name", ["chapter7-cpu.json", "chapter7-cpu-hour.json"])
def test_the_row_as_written_is_the_loss_of_the_thesis(name: str) -> None:
    for run in recorded(name)["runs"]["written"]:
        assert run["recipe"]["model"]["motion_layers"] == 0
        prediction = run["recipe"]["objective"]["prediction"]
        assert (prediction["similarity"], prediction["negatives"], prediction["targets"]) == ("dot", "all", "states")
        assert (prediction["temperature"], prediction["reduction"]) == (1, "sum")


def test_every_row_saw_as_many_clips() -> None:
    for runs in recorded("chapter7-cpu.json")["runs"].values():
        for run in runs:
            recipe = run["recipe"]
            before = recipe["objective"].get("transformer", {}).get("fraction", 0)
            assert recipe["training"]["epochs"] * (1 - before) == 6
            assert recipe["training"]["minutes"] is None


@pytest.mark.parametrize("name", ["chapter7-cpu.json", "chapter7-cpu-hour.json"])
def test_means_are_those_of_the_runs(name: str) -> None:
    table = recorded(name)
    for source, runs in table["runs"].items():
        values = [run["metrics"]["motion_retrieval/way_to_oracle_motion"] for run in runs]
        if values:
            mean = sum(values) / len(values)
            assert table["metrics"][f"motion_retrieval/way_to_oracle_{source}"] == pytest.approx(mean)
            assert table["metrics"][f"motion_retrieval/way_to_oracle_{source}/seeds"] == len(values)


def test_the_judge_of_the_tables_is_right() -> None:
    metrics = recorded("judge-sprites.json")["metrics"]
    assert metrics["clips"] == 2664
    assert min(metrics[f"judge/{label}_accuracy"] for label in ("action", "skin", "pants", "top", "hair")) >= 0.999


def test_the_bias_study_finds_the_paper_s_signs() -> None:
    """sigma_x is overestimated whatever sigma_f; sigma_z underestimated where sigma_f is 2, not where it is 1."""
    metrics = recorded("elbo-bias.json")["metrics"]
    for sigma_f in ("0.5", "1", "2", "4"):
        for true in ("0.3", "0.5", "1"):
            assert metrics[f"elbo_bias/sigma_f_{sigma_f}/sigma_x/{true}/lowest"] > 0
    for true in ("0.5", "1"):
        assert metrics[f"elbo_bias/sigma_f_2/sigma_z/{true}/highest"] < 0
    assert metrics["elbo_bias/sigma_f_1/sigma_z/1/lowest"] > 0


def sprites_runs(row: str) -> list[dict]:
    return recorded("sprites-table-cpu.json")["runs"][row]


def test_rows_of_the_sprites_table_are_what_they_are_called() -> None:
    for beta in (1, 6, 150):
        for run in sprites_runs(f"beta_{beta}"):
            objective, model = run["recipe"]["objective"], run["recipe"]["model"]
            assert (objective["beta"], objective["sigma"], objective["beta_motion"]) == (beta, 1, None)
            assert not objective["restricted_views"]
            assert (model["pooled_content"], model["modulated_decoder"], model["f_dim"]) == (False, False, 256)
    for run in sprites_runs("views"):
        assert run["recipe"]["objective"]["restricted_views"]
        assert run["recipe"]["objective"]["swapped_views"] > 0
        assert run["recipe"]["objective"]["decoder_stage"]["after"] < 1
        assert run["recipe"]["model"]["prior_components"] == 16
        assert run["recipe"]["motion_vector"] == "drawn"


def test_the_time_of_an_hour_of_two_cores_reaches_the_paper_s_top_and_hair() -> None:
    """5.4 and 2.0% of its table 1, by the recipe `sequential-vae/sprites-views-cpu`, for every seed that is there."""
    table = recorded("sprites-table-cpu.json")
    assert table["device"].startswith("CPU")
    assert table["metrics"]["views/disagreement/top/most"] <= 5.4
    assert table["metrics"]["views/disagreement/hair/most"] <= 2.0
    for run in sprites_runs("views"):
        # Trained where it was measured.
        threads = int(re.fullmatch(r"CPU \S+, (\d+) threads", run["device"])[1])
        assert run["recipe"]["training"]["minutes"] * threads <= 120


def test_restricted_views_keep_the_action_apart() -> None:
    """Goals that are reached: the action, top and hair by disagreement, leaks of retrieval but for top's 0.04."""
    metrics = recorded("sprites-table-cpu.json")["metrics"]
    for label in ("action", "top", "hair"):
        assert metrics[f"views/disagreement/{label}/most"] < 1
    for label, most in (("hair", 0.03), ("top", 0.04), ("pants", 0.03), ("skin", 0.03)):
        leak = metrics[f"views/motion/{label}/precision_at_10/most"] - metrics[f"views/motion/{label}/chance"]
        assert leak <= most
    assert metrics["views/motion/action/precision_at_10/least"] >= 0.99
    assert metrics["views/appearance/action/precision_at_10/most"] <= 0.2
    for label in ("hair", "top"):
        assert metrics[f"views/appearance/{label}/precision_at_10/least"] >= 0.95


def test_the_views_do_what_their_control_does_not() -> None:
    """The same network, weights, last stage and minutes, but for the views: the motion carries the skin."""
    metrics = recorded("sprites-table-cpu.json")["metrics"]
    for run in sprites_runs("no_views"):
        assert not run["recipe"]["objective"]["restricted_views"]
        for section in ("model", "optimizer", "data"):
            assert run["recipe"][section] == sprites_runs("views")[0]["recipe"][section]
        assert run["recipe"]["training"]["minutes"] == sprites_runs("views")[0]["recipe"]["training"]["minutes"]
    for label in ("skin", "pants", "action"):
        assert metrics[f"views/disagreement/{label}/most"] < metrics[f"no_views/disagreement/{label}/least"]
    skin = "motion/skin/precision_at_10"
    assert metrics[f"views/{skin}/most"] < 0.2 < 0.6 < metrics[f"no_views/{skin}/least"]


def test_the_goals_of_generation() -> None:
    """By a judge that is as certain of true clips; the best published are 100%, 8.942, 0.006 and 2.197."""
    metrics = recorded("sprites-table-cpu.json")["metrics"]
    assert metrics["views/generation/action_accuracy/least"] == 1
    assert metrics["views/generation/inception_score/least"] >= 8.94
    assert metrics["views/generation/h_y_given_x/most"] <= 0.006
    assert metrics["views/generation/h_y/least"] >= 2.19
    assert metrics["views/judge/h_y_given_x"] < 0.01
    for label in ("top", "hair"):
        assert metrics[f"views/generation/{label}_accuracy/least"] >= 0.99


def test_appearance_is_near_what_any_ranking_could_reach() -> None:
    """Eight of ten nearest are at best the query's own character, the other two differ in an attribute."""
    metrics = recorded("sprites-table-cpu.json")["metrics"]
    assert metrics["views/appearance/best_possible"] == pytest.approx(1 - 0.2 / 4)
    assert metrics["views/appearance/precision_at_10/least"] >= 0.98 * metrics["views/appearance/best_possible"]


def test_means_of_the_sprites_table_are_those_of_its_runs() -> None:
    table = recorded("sprites-table-cpu.json")
    for row, runs in table["runs"].items():
        for protocol, metric in (("disagreement", "disagreement/hair"), ("generation", "generation/inception_score")):
            values = [run["metrics"][metric] for run in runs if run["protocol"] == protocol]
            if values:
                assert table["metrics"][f"{row}/{metric}"] == pytest.approx(sum(values) / len(values))
                assert table["metrics"][f"{row}/{metric}/seeds"] == len(values)


def test_an_hour_of_a_core_draws_moving_digits_ahead() -> None:
    result = recorded("moving-mnist-kernel-cpu.json")
    assert (result["split"], result["metrics"]["clips"]) == ("test", 10_000)
    assert result["recipe"]["training"]["minutes"] <= 60
    assert result["metrics"]["prediction/gain_over_copy_last"] >= 4


@pytest.mark.parametrize(("predictor", "action_gain"), [("kernel", 3), ("cvae", 2)])
def test_actions_tell_where_the_arm_goes(predictor: str, action_gain: float) -> None:
    """Less than two core-hours of training: 4 dB above copying, and much of it lost without actions."""
    result = recorded(f"pushing-{predictor}-cpu.json")
    assert (result["split"], result["metrics"]["clips"]) == ("test", 300)
    threads = int(re.fullmatch(r"CPU \S+, (\d+) threads", result["training"]["device"])[1])
    assert result["recipe"]["training"]["minutes"] * threads <= 120
    assert result["metrics"]["prediction/gain_over_copy_last"] >= 4
    assert result["metrics"]["prediction/action_gain"] >= action_gain


def test_pushed_objects_do_not_stay() -> None:
    result = recorded("pushing-kernel-cpu.json")
    assert result["metrics"]["prediction/object_error_px"] < 0.6 * result["metrics"]["prediction/object_error_px_still"]


@pytest.mark.parametrize("forcing", ["always", "early", "late", "never"])
def test_z_lives_by_annealing_and_by_the_truth_that_is_fed(forcing: str) -> None:
    metrics = recorded("prediction-schedules-z.json")["metrics"]
    none, *annealed = (metrics[f"{kind}/{forcing}/kl"] for kind in ("none", "monotonic", "cyclical"))
    if forcing == "never":
        assert max(none, *annealed) < 0.1
    else:
        assert min(annealed) > 2.5 * max(none, 1)


def test_futures_differ_and_win_no_psnr() -> None:
    many, one = recorded("pushing-futures-cpu.json"), recorded("pushing-one-future-cpu.json")
    assert many["recipe"]["training"] == one["recipe"]["training"]
    assert many["training"]["device"] == one["training"]["device"]
    assert (many["recipe"]["model"].pop("latent_dim"), one["recipe"]["model"].pop("latent_dim")) == (8, 0)
    assert many["recipe"]["model"] == one["recipe"]["model"]
    assert 0.5 < many["metrics"]["prediction/spread_over_error"] < 1
    assert many["metrics"]["prediction/psnr_best_of_n"] < one["metrics"]["prediction/psnr"]


@pytest.mark.parametrize("annealing", ["none", "monotonic", "cyclical"])
def test_teacher_forcing_that_decays_early_draws_best(annealing: str) -> None:
    result = recorded("prediction-schedules.json")
    psnr = {name: result["metrics"][f"{annealing}/{name}/psnr"] for name in ("always", "early", "late", "never")}
    assert (max(psnr, key=psnr.get), min(psnr, key=psnr.get)) == ("early", "always")
    # Why annealing makes no difference.
    assert all(result["metrics"][f"{annealing}/{name}/kl"] < 0.03 for name in psnr)


def test_search_costs_little_over_bare_faiss() -> None:
    metrics = recorded("retrieval-cpu.json")["metrics"]
    end = "/ours/times_plain"
    ratios = {name.removesuffix(end): ratio for name, ratio in metrics.items() if name.endswith(end)}
    assert len(ratios) == 2 * (3 + 3 + 2)
    # README says so.
    missed = {name for name, ratio in ratios.items() if ratio < 0.95}
    assert missed == {"100000/hnsw/batch_64"}
    assert min(ratios.values()) > 0.94


def test_structures_find_what_they_are_tuned_to_find_and_are_worth_it() -> None:
    metrics = recorded("retrieval-cpu.json")["metrics"]
    recalls = {name: found for name, found in metrics.items() if name.endswith("/recall_at_10")}
    assert len(recalls) == 2 + 3 + 1
    assert min(recalls.values()) >= 0.95
    assert metrics["1000000/ivf/batch_1/times_exact"] >= 15


def test_the_service_bears_two_hundred_clients_and_damaged_uploads() -> None:
    result = recorded("service-cpu.json")
    metrics = result["metrics"]
    assert metrics["load/errors"] == metrics["mutants/failed"] == 0
    assert metrics["mutants/refused"] + metrics["mutants/answered"] == 2000
    assert metrics["load/p99_over_p50"] < 5
    assert metrics["load/memory_end_over_begin"] <= 1.02
    assert metrics["new_clip/seconds"] < 2
    assert metrics["upload/times_by_hand"] <= 1.3
