"""Every public module has a file of tests of its name, and every file of tests the name of a module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "pyro_seq"

# files of tests of what is no single module: the reason beside each
OTHERS = {
    "data/test_properties.py": "properties that any operation on data keeps, on data that Hypothesis makes up",
    "datasets/test_video_words.py": "what files of every kind say about pictures beside their pixels",
    "infer/test_devices.py": "one run on several devices",
    "infer/test_energy_learning.py": "one model with an energy-based prior under every method",
    "infer/test_simulated_posteriors.py": "posteriors of several methods and models on data of their own",
    "infer/test_restored_models.py": "files of the library's models, read without them",
    "models/test_driven.py": "known inputs in the models that they drive",
    "models/test_kalman_vae_faults.py": "known faults of the public code, each shown absent",
    "models/test_ode2vae_faults.py": "known faults of the public code, each shown absent",
    "models/test_restart_term.py": "one term of ODELEBM, against closed forms",
    "models/test_time_stamps.py": "close time stamps through every model",
    "ops/test_joint_simulation.py": "the joint distribution that Langevin steps keep",
    "test_asked_times.py": "solvers through models and verbs",
    "test_units_are_kept.py": "units through every method and model",
    "predict/test_ragged_forecasts.py": "ragged series through every model",
    "test_bad_batches.py": "a bad batch through every model",
    "test_conftest.py": "the guard over all tests",
    "test_deep_markov.py": "a model of the manual",
    "test_derivations.py": "a page of the manual",
    "test_docs.py": "pages of the manual",
    "test_examples.py": "the examples",
    "test_door_properties.py": "whatever may come to the verbs, on calls that Hypothesis makes up",
    "test_far_values.py": "values far outside of the training data at every verb",
    "test_floors.py": "imports between files",
    "test_flipped_bits.py": "files of every kind that the library writes",
    "test_invariances.py": "what may not change a prediction, through every model",
    "test_kills.py": "every method in processes that are killed",
    "test_kinds_of_values.py": "emissions of every kind through models, files and verbs",
    "test_make_believe_gpu.py": "every model, method and verb on a device that is only said to be one",
    "test_mirror.py": "the names of the tests",
    "test_mistakes.py": "what is easily got wrong with tables, from reading to predicting",
    "test_names.py": "names of columns at every verb",
    "test_new_model.py": "a page of the manual",
    "test_public_api.py": "names of the package",
    "test_readme.py": "the code of the README",
    "test_sizes.py": "sizes of files, classes and functions",
    "test_tutorials.py": "the code of the manual",
    "test_units_of_variables.py": "a unit for each variable through every model",
    "test_waits.py": "waits for a device and operations, of every model",
    "test_which_model.py": "a page of the manual",
    "test_user_parts.py": "parts of a user's own in every model",
}


def has_test(file: Path) -> bool:
    """Whether a file exists and holds at least one test function."""
    nodes = ast.walk(ast.parse(file.read_text())) if file.is_file() else ()
    return any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in nodes)


def untested(package: Path, tests: Path) -> Iterator[str]:
    """Public modules without a file of tests of their name."""
    for module in sorted(package.rglob("*.py")):
        place = module.relative_to(package)
        if not module.name.startswith("_") and not has_test(tests / place.parent / f"test_{module.name}"):
            yield str(place)


def strangers(package: Path, tests: Path) -> Iterator[str]:
    """Files of tests in a folder of the package that name no module there, public or private."""
    for file in sorted(tests.rglob("test_*.py")):
        place = file.relative_to(tests)
        folder, name = package / place.parent, file.name.removeprefix("test_")
        if folder.is_dir() and not any((folder / module).is_file() for module in (name, f"_{name}")):
            yield str(place)


def test_every_public_module_has_tests_of_its_name() -> None:
    assert len(list(PACKAGE.rglob("*.py"))) > 150
    assert list(untested(PACKAGE, TESTS)) == []


def test_every_file_of_tests_names_a_module_or_has_a_reason() -> None:
    assert set(strangers(PACKAGE, TESTS)) == OTHERS.keys()


def test_offenders_are_found(tmp_path: Path) -> None:
    files = {
        "package/part/good.py": "",
        "package/part/_private.py": "",
        "package/part/empty.py": "",
        "package/part/missing.py": "",
        "tests/part/test_good.py": "class TestGood:\n    def test_it(self):\n        pass\n",
        "tests/part/test_private.py": "def test_it():\n    pass\n",
        "tests/part/test_empty.py": "def helper():\n    pass\n",
        "tests/part/test_stranger.py": "def test_it():\n    pass\n",
        "tests/elsewhere/test_stranger.py": "def test_it():\n    pass\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    folders = tmp_path / "package", tmp_path / "tests"
    assert list(untested(*folders)) == ["part/empty.py", "part/missing.py"]
    assert list(strangers(*folders)) == ["part/test_stranger.py"]
