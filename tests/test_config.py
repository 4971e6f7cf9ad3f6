"""Configuration: files, flags, typos."""

from pathlib import Path

import pytest

from gs4d.config import Config, load_config, save_config
from gs4d.errors import UserError
from gs4d.export import ExportOptions
from gs4d.fit import FitOptions
from gs4d.options import changes, from_record, parse, split_config_flag, to_record

ROOT = Path(__file__).parent.parent


def flags(*arguments: str) -> Config:
    return parse(Config, list(arguments), default=Config(), program="train.py", description="")


@pytest.mark.parametrize("name", ["i2v", "quick", "quality"])
def test_shipped_configs_load(name: str):
    assert isinstance(load_config(ROOT / "arguments" / f"{name}.py"), Config)


def test_every_nested_value_is_a_flag_with_either_spelling():
    config = flags(
        "-e",
        "fox",
        "--fit.steps",
        "500",
        "--fit.losses.plane-smoothness",
        "0.5",
        "--data_dir",
        "x",
        "--resume",
    )
    assert (config.name, config.fit.steps, config.fit.losses.plane_smoothness, config.data_dir) == (
        "fox",
        500,
        0.5,
        Path("x"),
    )
    assert config.resume
    assert flags("--fit.motion.multires", "1", "2", "4").fit.motion.multires == (1, 2, 4)
    assert flags("-e", "run2", "--name_override", "fox").clip == "fox"


def test_flags_win_over_the_file(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from gs4d.config import Config, FitOptions\nconfig = Config(name='a', "
        "fit=FitOptions(steps=7, seed=1))\n"
    )
    path, rest = split_config_flag(["--configs", str(file), "--fit.seed", "2"])
    assert path == file
    config = parse(Config, rest, default=load_config(file), program="train.py", description="")
    assert (config.name, config.fit.steps, config.fit.seed) == ("a", 7, 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--fit.stepss", "5"], r"unknown option --fit\.stepss \(did you mean '--fit\.steps'\?\)"),
        (["--fit.loses.ssim", "5"], r"did you mean '--fit\.losses\.ssim'"),
        (["--fit.steps", "many"], r"--fit\.steps: invalid literal"),
        (
            ["--fit.start", "hul"],
            r"start is 'hul' \(did you mean 'hull'\?\); there are: hull, ball",
        ),
        (["--export.background", "1", "1"], r"--export\.background wants 3 value"),
        (["rose"], "unknown option rose"),
        (["--export.fps", "-1"], r"^--export\.fps is -1\.0; it must lie in 0\.1 to 240"),
        (
            ["--fit.motion.channels", "3"],
            "is 3; it must be a multiple of 16 and lie in 16 to 1024",
        ),
        (["--fit.steps", "0"], r"^--fit\.steps is 0; it must lie in 1 to"),
        (["--fit.losses.ssim", "nan"], r"fit\.losses\.ssim is nan; it must lie in 0 to 1"),
        (["--fit.threads", "100000"], r"fit\.threads is 100000"),
        (["--fit.seed", "99999999999999999999999"], r"fit\.seed"),
        (["--fit.learning_rates.means", "1e30"], r"fit\.learning_rates\.means"),
        (
            ["--fit.motion.resolution", "100000"],
            "is 100000; it must lie in 2 to 1024",
        ),
        (["--export.background", "nan", "0", "0"], r"export\.background"),
        (["--fit.motion.multires", "1", "99"], "factors from 1, up to 1024 texels"),
        (["--fit.static", "0.6", "--fit.fine", "0.6"], r"--fit\.static 0\.6 and --fit\.fine 0\.6"),
        (["--fit.score.place.device", "gpu"], r"^--fit\.score\.place\.device is 'gpu'; give auto"),
        (["--export.freeze", "2"], r"^--export\.freeze is 2\.0; it must lie in 0 to 1; see train"),
        (
            ["--view_port", "0"],
            r"^--view_port is 0; it must lie in 1 to 65535; see train",
        ),
        (["--fit.static_frame", "x"], r"--fit\.static_frame: .*invalid literal.*'x'"),
        (["-e", "a\nb"], "no name of a folder"),
        (["-e", "../rose"], "no name of a folder"),
        (["-e", ""], "no name of a folder"),
    ],
)
def test_typos_get_one_sentence(arguments: list[str], sentence: str):
    with pytest.raises(UserError, match=sentence) as caught:
        flags(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("config = 3", "sets config to a int"),
        ("x = 1", "sets config to nothing"),
        ("config = = 3", "fails with SyntaxError"),
        ("raise SystemExit(0)", "fails with SystemExit"),
        ("from gs4d.config import Config\nconfig = Config(nam='x')", "fails with TypeError.*nam"),
        (
            "from gs4d.config import FitOptions\nconfig = FitOptions(steps=0)",
            r"config file .*c\.py: FitOptions\.steps is 0; it must lie in 1 to 1e\+08",
        ),
    ],
)
def test_bad_config_files_get_one_sentence(tmp_path: Path, text: str, sentence: str):
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_config(tmp_path / "c.py")


def test_absent_config_files_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"nope\.py does not exist"):
        load_config(tmp_path / "nope.py")
    with pytest.raises(UserError, match="wants a file"):
        split_config_flag(["--configs"])
    with pytest.raises(UserError, match="wants a file"):
        split_config_flag(["--configs", "--skip_train"])


def test_the_record_reads_back_equal(tmp_path: Path):
    config = Config(
        name="a",
        fit=FitOptions(steps=12, sh_degree=2),
        export=ExportOptions(freeze=0.25, background=(0.0, 0.5, 1.0)),
    )
    save_config(tmp_path / "config.json", config)
    assert load_config(tmp_path / "config.json") == config


def test_records_are_checked():
    record = to_record(Config())
    with pytest.raises(UserError, match="unknown option 'naem'.*did you mean 'name'"):
        from_record(Config, {**record, "naem": "x"}, "record")
    with pytest.raises(UserError, match="fit: steps is 'x', wanted int"):
        from_record(Config, {"fit": {"steps": "x"}}, "record")
    with pytest.raises(UserError, match="start is 'cube', wanted one of 'hull', 'ball'"):
        from_record(Config, {"fit": {"start": "cube"}}, "record")
    with pytest.raises(UserError, match=r"^record: fit: steps is 0; it must lie in 1 to"):
        from_record(Config, {"fit": {"steps": 0}}, "record")
    with pytest.raises(UserError, match="steps is True"):
        from_record(Config, {"fit": {"steps": True}}, "record")


def test_changes_name_what_differs():
    old, new = to_record(Config()), to_record(Config(fit=FitOptions(steps=5)))
    assert changes(old, new) == [f"fit.steps {FitOptions().steps} -> 5"]
