"""The paper's figures on small networks and real digits: what is drawn, and what is refused."""

import json

import pytest
from absl import flags
from matplotlib.image import imread
from networks import pretrained
from refusals import files_of

import mmx_tf
from mmx_tf.errors import RecipeError
from mmx_tf.figures import __main__ as command
from mmx_tf.figures import comparison, documents, make, plots
from mmx_tf.figures import options as figure_options
from mmx_tf.figures.options import FigureOptions
from mmx_tf.recipe.recipe import Recipe

pytestmark = pytest.mark.slow

BITS = (8, 4, 3)
STEPS = 8


@pytest.fixture(scope="module")
def workdir(digits, tmp_path_factory):
    """A workdir as far as Figure 7 needs it, its float network trained by the run itself."""
    root = tmp_path_factory.mktemp("run")
    (root / "checkpoints").mkdir()
    network = pretrained(digits)
    network.save(root / "checkpoints" / "float.keras")
    search = mmx_tf.augment(network, bit_widths=BITS)
    search.selection_of([0, 1, 2]).save(root / "bit_selection.json")
    search.selection_of([2, 2, 2]).save(root / "other.json")
    return root


def recipe_of(workdir, *more) -> Recipe:
    # The built-in network is only built: the trained one is read.
    return Recipe.from_flagfile(
        "\n".join(["--image_size=16", "--batch_size=64", "--float_epochs=1", f"--workdir={workdir}", *more])
    )


@pytest.fixture(scope="module")
def made(workdir):
    options = FigureOptions(
        which=("1", "6", "2", "7"), layers=("project", "expand"), steps=STEPS, switch_every=2, images=100,
        compare=(str(workdir / "other.json"),), hessian_samples=3, hessian_images=128,
    )  # fmt: skip
    return make.make(options, recipe_of(workdir), command="python -m mmx_tf.figures ...")


def test_each_figure_is_a_picture_and_its_numbers(made, workdir):
    assert list(made) == ["1", "6", "2", "7"]
    for which, document in made.items():
        path = workdir / "figures" / f"figure{which}"
        assert json.loads(path.with_suffix(".json").read_text()) == document
        assert imread(path.with_suffix(".png")).shape[1] >= 1200
        assert document["figure"] == which and document["command"] == "python -m mmx_tf.figures ..."
        assert document["seed"] == 0 and "tensorflow" in document["versions"]
        assert {"commit", "date", "machine"} == set(document["provenance"])


@pytest.mark.parametrize("which", ["1", "6"])
def test_every_cell_has_all_of_a_layers_activations(made, which):
    document = made[which]
    assert document["layers"] == ["project", "expand"]
    cells = {(c["layer"], c["weight_bits"], c["activation_bits"]): c for c in document["cells"]}
    assert set(cells) == {(n, w, a) for n in ("project", "expand") for w in (None, 8, 4) for a in BITS}
    for cell in cells.values():
        assert sum(cell["counts"]) == 100 * 8 * 8 * 6  # images of 8 x 8 pixels and 6 channels
        assert 0 <= cell["top1"] <= 1 and cell["standard_deviation"] > 0
    for row in document["spread"]:
        deviations = [cells[row["layer"], row["weight_bits"], a]["standard_deviation"] for a in BITS]
        assert row["running"]["deviation_ratio"] == pytest.approx(max(deviations) / min(deviations))
        assert row["running"]["distance"] > 0 and row["batch"]["distance"] > 0
    for row in document["spread_over_weights"]:
        deviations = [
            cells[row["layer"], w, row["activation_bits"]]["standard_deviation"] for w in (None, 8, 4)
        ]
        assert row["running"]["deviation_ratio"] == pytest.approx(max(deviations) / min(deviations))


def test_the_later_of_figures_1_and_6_compares_them(made):
    assert "figures_1_and_6" not in made["1"]
    *rows, largest = made["6"]["figures_1_and_6"]
    assert len(rows) == 2 * 3 * 2  # layers, weights, norms
    for row in rows:
        for figure, name in (("1", "figure_1"), ("6", "figure_6")):
            spread = next(
                s for s in made[figure]["spread"]
                if (s["layer"], s["weight_bits"]) == (row["layer"], row["weight_bits"])
            )  # fmt: skip
            assert row[name] == spread[row["norm"]]
        expected = row["figure_6"]["distance"] < row["figure_1"]["distance"]
        assert row["smaller_in_figure_6"]["distance"] is expected
    drawn = [row["figure_1"]["distance"] for row in rows if row["norm"] == "running"]
    assert largest["figure_1"]["distance"] == max(drawn)


def test_figures_of_different_experiments_are_not_compared(made, warnings):
    for other in ({"options": made["6"]["options"] | {"steps": 9}}, {"float_weights": "0"}, {"layers": []}):
        assert comparison.compared(made["1"], made["6"] | other) is None
    assert len(warnings) == 3 and "different experiments" in warnings[0]


def test_figure_2_has_three_rows_under_the_same_bits(made):
    document = made["2"]
    assert document["layer"] == "depthwise" and len(document["bits"]) == STEPS
    assert all(document["bits"][i] == document["bits"][i + 1] for i in range(0, STEPS, 2))
    assert [(row["weight_bits"], row["meta"]) for row in document["rows"]] == [
        (None, False), (4, False), (None, True),
    ]  # fmt: skip
    for row in document["rows"]:
        for name in ("running_variance", "batch_variance"):
            assert len(row[name]) == STEPS and min(row[name]) > 0
            assert 0 <= row["explained_share"][name] <= 1
    assert document["rows"][0]["batch_variance"] != document["rows"][1]["batch_variance"]


def test_figure_7_has_both_selections_and_the_traces(made, workdir):
    document = made["7"]
    assert [(s["part"], s["name"], s["activation_bits"]) for s in document["selections"]] == [
        ("a", "other.json", [8, 3, 3, 3, 8]), ("b", workdir.name, [8, 8, 4, 3, 8]),
    ]  # fmt: skip
    assert [layer["name"] for layer in document["layers"]] == [
        "stem", "depthwise", "project", "expand", "logits",
    ]  # fmt: skip
    for layer in document["layers"]:
        assert layer["trace_per_operation"] == layer["trace"] / layer["macs"]
        assert layer["standard_error"] > 0
    assert -1 <= document["rank_correlation"] <= 1


def test_figure_7_knows_how_a_run_was_searched(tmp_path):
    fixed = finished(tmp_path / "fixed", bops=5, top1=0.9)
    trained = finished(tmp_path / "trained", "--train_weights_in_search", bops=5, top1=0.9)
    assert documents.name_of(fixed, trains_weights=False) == "fixed meta-state"
    assert documents.name_of(trained, trains_weights=True) == "weights trained in the search"
    with pytest.raises(RecipeError, match="--compare is to be one with --train_weights_in_search"):
        documents.name_of(fixed, trains_weights=True)
    with pytest.raises(RecipeError, match="trained is of a run with search that trains weights"):
        documents.name_of(trained, trains_weights=False)
    given = finished(tmp_path / "uniform", "--selection=uniform", "--uniform_bits=4", bops=5, top1=0.9)
    with pytest.raises(RecipeError, match="uniform bits"):
        documents.name_of(given, trains_weights=False)


def test_rank_correlation():
    assert documents.rank_correlation([8, 4, 3], [0.3, 0.2, -5.0]) == pytest.approx(1.0)
    # Ranks 1.5, 1.5, 0 and 0, 1, 2; centred 0.5, 0.5, -1 and -1, 0, 1: -1.5 / sqrt(1.5 * 2).
    assert documents.rank_correlation([4, 4, 3], [1.0, 2.0, 3.0]) == pytest.approx(-1.5 / 3**0.5)
    assert documents.rank_correlation([4, 4], [1.0, 2.0]) is None


# Figure 5


def finished(root, *recipe_flags, bops, top1, images=360):
    """A folder with what Figure 5 reads of a finished workdir; the accuracies are made up."""
    root.mkdir(parents=True)
    lines = ["--float_epochs=1", f"--workdir={root}", *recipe_flags]
    (root / "run.flags").write_text(Recipe.from_flagfile("\n".join(lines)).to_flagfile())
    metrics = {
        "bops": bops, "target_bops": bops, "average_bits": {"plain": 4.0}, "float_top1": 0.95,
        "fixed_top1": top1, "folded_top1": top1, "tflite_top1": top1, "eval_images": images,
    }  # fmt: skip
    (root / "metrics.json").write_text(json.dumps(metrics))
    return root


def test_figure_5_draws_a_line_for_each_way_to_choose_bits(tmp_path):
    dear = finished(tmp_path / "run", bops=5_000_000, top1=0.9)
    finished(tmp_path / "several" / "target_4M", bops=4_000_000, top1=0.8)
    uniform = finished(
        tmp_path / "uniform", "--selection=uniform", "--uniform_bits=4", bops=4_500_000, top1=0.7
    )
    options = FigureOptions(which=("5",), compare=(str(tmp_path / "several"), str(uniform)))
    document = make.make(options, recipe_of(dear))["5"]
    assert [(run["label"], run["bops"], run["fixed_top1"]) for run in document["runs"]] == [
        ("MetaMix, 4-bit weights", 4_000_000, 0.8),
        ("uniform bits, 4-bit weights", 4_500_000, 0.7),
        ("MetaMix, 4-bit weights", 5_000_000, 0.9),
    ]
    assert (document["dataset"], document["eval_images"]) == ("digits", 360)
    # Points, the line through them, and an empty one for the legend, for each of the two.
    points, line, _, uniform_points, *_ = make._drawn("5", document).axes[0].lines
    for drawn in (points, line):
        assert list(drawn.get_xdata()) == [4.0, 5.0] and list(drawn.get_ydata()) == [80.0, 90.0]
    assert list(uniform_points.get_xdata()) == [4.5]
    assert imread(dear / "figures" / "figure5.png").shape[:2] == (600, 1000)


def test_figure_5_draws_a_line_through_the_mean_of_each_budget():
    runs = [
        {"label": "MetaMix", "bops": bops, "target_bops": target, "fixed_top1": top1, "float_top1": 0.9}
        for bops, target, top1 in (
            (3_000_000, 4_000_000, 0.5), (3_500_000, 4_000_000, 0.75), (6_000_000, 6_000_000, 0.875),
            (5_000_000, None, 0.25),
        )
    ]  # fmt: skip
    points, line, *_ = plots.accuracy_figure({"runs": runs, "eval_images": 8}).axes[0].lines
    assert sorted(points.get_xdata()) == [3.0, 3.5, 5.0, 6.0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([3.25, 5.0, 6.0], [62.5, 25.0, 87.5])


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        (["--train_weights_in_search"], "search that trains weights, 4-bit weights"),
        (["--nometa_training", "--weight_bits=3"], "search without bit-meta training, 3-bit weights"),
        (["--weight_bits=8,4,2", "--target_bops=5G"], "MetaMix, 8/4/2-bit weights"),
        (["--weight_bits=8,4", "--target_bytes=3M"], "MetaMix, 8/4-bit weights, budget in bytes"),
        (["--cost_table=x.json", "--target_cost=3"], "MetaMix, 4-bit weights, budget of own costs"),
        (["--selection=random", "--from_scratch"], "random bits, 4-bit weights, from the float network"),
        (["--bit_selection=x.json", "--teacher=float"], "given bits, 4-bit weights, distilled"),
    ],
)
def test_labels(arguments, label):
    assert documents.label(Recipe.from_flagfile("\n".join(arguments))) == label


def test_runs_of_different_recipes_are_on_different_lines():
    """Budgets and seeds may differ on a line; what differs otherwise is told, in every run of that label."""
    given = [
        ["--target_bops=5G", "--seed=1", "--workdir=a", "--output_type=class"],
        ["--target_average_bits=4"],
        ["--target_bops=5G", "--train_epochs=20", "--teacher="],
        ["--selection=uniform", "--uniform_bits=4", "--candidate_bits=4"],
        ["--selection=uniform", "--uniform_bits=8", "--candidate_bits=8"],
    ]
    assert documents.labels([Recipe.from_flagfile("\n".join(lines)) for lines in given]) == [
        "MetaMix, 4-bit weights, train_epochs=10",
        "MetaMix, 4-bit weights, train_epochs=10",
        "MetaMix, 4-bit weights, train_epochs=20",
        "uniform bits, 4-bit weights",
        "uniform bits, 4-bit weights",
    ]


def test_accuracies_on_different_images_are_refused(tmp_path):
    one = finished(tmp_path / "one", bops=5, top1=0.9)
    other = finished(tmp_path / "other", bops=5, top1=0.9, images=64)
    with pytest.raises(RecipeError, match="different images .*64 images of digits"):
        documents.accuracy_document([one, other])
    (other / "metrics.json").write_text("{")
    with pytest.raises(RecipeError, match="other is no finished workdir"):
        documents.accuracy_document([other])


# What is refused, before anything is written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"which": ("3",)}, r"--which=3 is not allowed; allowed: .*1, 2, 5, 6, 7"),
        ({"which": ()}, "--which= is not allowed"),
        ({"which": ("1", "1")}, "--which=1,1 is not allowed"),
        ({"which": ("1",), "steps": 1}, "--steps=1 is not allowed; allowed: 2 or more"),
        (
            {"which": ("2",), "steps": 9, "switch_every": 5},
            "--switch_every=5 is not allowed; allowed: 1 to 4",
        ),
        ({"which": ("1",), "statistics_momentum": 1.0}, "--statistics_momentum=1.0 is not allowed"),
        ({"which": ("1",), "layers": ("stem",)}, "'stem' is no searched layer; allowed: depthwise, project"),
        ({"which": ("2",), "switched_layer": "x"}, "--switched_layer=x: 'x' is no searched layer"),
        ({"which": ("2",), "switched_layer": "project"}, "no batch norm behind it.*allowed: depthwise"),
        ({"which": ("7",), "compare": ("nowhere",)}, "--compare=nowhere: there is no nowhere"),
        ({"which": ("7",), "compare": ("a", "b")}, "--compare"),
        ({"which": ("5",)}, "there is no finished workdir"),
    ],
)
def test_refused(workdir, options, message):
    before = files_of(workdir)
    with pytest.raises(RecipeError, match=message):
        make.make(FigureOptions(**options), recipe_of(workdir))
    assert files_of(workdir) == before


def test_without_a_trained_float_network_or_a_selection_of_its_own(workdir, tmp_path, digits):
    with pytest.raises(RecipeError, match="has no trained float network"):
        make.make(FigureOptions(which=("1",)), recipe_of(tmp_path))
    float_model = f"--float_model={workdir / 'checkpoints' / 'float.keras'}"
    with pytest.raises(RecipeError, match=r"bit_selection.json is no bit selection"):
        make.make(FigureOptions(which=("7",)), recipe_of(tmp_path, float_model))
    built_in = mmx_tf.models.build("mobilenet_v2", input_shape=(16, 16, 1), num_classes=10, width=0.35)
    other = mmx_tf.augment(built_in, bit_widths=BITS)
    other.selection_of([0] * len(other.quantizers)).save(tmp_path / "bit_selection.json")
    with pytest.raises(RecipeError, match="of another network"):
        make.make(FigureOptions(which=("7",)), recipe_of(tmp_path, float_model))
    assert [path.name for path in tmp_path.iterdir()] == ["bit_selection.json"]


def parsed(*arguments):
    flag_values = flags.FlagValues()
    figure_options.define(flag_values)
    argv = command.parse_flags(["figures", *arguments], flag_values)
    return argv, flag_values


def test_the_recipe_is_the_runs_with_the_flags_that_are_given(tmp_path):
    root = finished(tmp_path / "run", "--seed=5", "--candidate_bits=8,2", bops=5, top1=0.9)
    flagfile = tmp_path / "some.flags"
    flagfile.write_text("--batch_size=32\n")
    _, flag_values = parsed(
        "--which=1,6", f"--workdir={root}", f"--flagfile={flagfile}", "--nonesterov", "--layers=a,b"
    )
    options, recipe = figure_options.from_flags(flag_values)
    assert (options.which, options.layers, options.steps) == (("1", "6"), ("a", "b"), 150)
    assert (recipe.seed, recipe.candidate_bits, recipe.batch_size, recipe.nesterov) == (5, (8, 2), 32, False)
    assert recipe.workdir == str(root)


def test_a_flagfile_that_is_no_text_is_refused(tmp_path, capsys):
    (tmp_path / "bytes.flags").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit, match="2"):
        parsed("--which=1", f"--flagfile={tmp_path / 'bytes.flags'}")
    assert "bytes.flags is no text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--which=4", "--workdir=x"], "--which=4 is not allowed"),
        (["--which=1"], "--workdir= is not allowed"),
        (["--which=1", "--workdir=x", "--float_epochs=1", "more"], "'more' is not a flag"),
        (["--which=1", "--workdir=x", "--batch_size=9"], "no float network to start from"),
        (["--which=1", "--workdir=/nope"], "--workdir=/nope: there is no such folder; give that of a run"),
        (["--which=5", "--workdir=/nope"], "--workdir=/nope: there is no such folder; figure 5 is drawn of"),
        (["--which=5,7", "--workdir=x", "--seed=1"], "--workdir=x: there is no such folder; figure 5 and 7"),
        (["--which=5", "--workdir=."], "--workdir=.: there is no finished workdir to draw"),
        (
            ["--which=1", "--workdir=x", "--float_epochs=1", "--out=/dev/null/figures"],
            "--out=/dev/null/figures cannot be made: /dev/null is no folder that can be written",
        ),
        (
            [
                "--which=6,2",
                "--workdir=x",
                "--float_epochs=1",
                "--candidate_bits=4",
                "--selection=uniform",
                "--uniform_bits=4",
            ],
            "--candidate_bits=4 is not allowed for --which=6,2; allowed: two or more",
        ),
    ],
)
def test_the_command_refuses_in_one_paragraph(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        command.main(*parsed(*arguments))
    shown = capsys.readouterr()
    assert exit_.value.code == 2 and message in shown.err and shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
