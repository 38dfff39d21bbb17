"""A .pt2 that would run code of its own is refused before torch sees it."""

import json
import pickle
import zipfile

import pytest
import torch

from tests.trainables.deploy.export.test_exported import about_of
from trainables.contract.errors import UserError
from trainables.deploy.export.exported import open_exported
from trainables.deploy.export.formats import quiet

WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
PROGRAM, INPUTS = "models/model.json", "data/sample_inputs/model.pt"


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3,), 2.0))

    def forward(self, clips):
        return clips.flatten(1)[:, :3] * self.weight, clips.sum()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The files in a harmless archive, by name."""
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    free = ({0: torch.export.Dim("clips"), 2: torch.export.Dim("frames")},)
    with quiet():
        program = torch.export.export(Scaled(), (torch.rand(2, 3, 5, 17, 2),), dynamic_shapes=free)
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
        torch.export.save(program, path, extra_files={"orchestrate": about_of().model_dump_json()})
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def written(folder, records):
    path = folder / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"model/{name}", content)
    return path


class Writes:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def pickled(made, protocol):
    return pickle.dumps(Writes(made), protocol=protocol)


def changed(content, change):
    value = json.loads(content)
    change(value)
    return json.dumps(value, separators=(",", ":")).encode()


def edited(records, change, name=PROGRAM):
    return records | {name: changed(records[name], change)}


def every(config, **values):
    for entry in config["config"].values():
        entry.update(values)


def test_the_harmless_archive_opens(tmp_path, records):
    exported = open_exported(written(tmp_path, records))
    assert exported.logits(torch.ones(4, 3, 6, 17, 1).numpy()).tolist() == [[2.0, 0.0, 2.0]] * 4


def refused(path, made, message):
    with pytest.raises(UserError, match=message):
        open_exported(path)
    assert not made.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("truthy", [True, 1, "yes", [0]])
def test_weights_that_are_pickled_are_refused(tmp_path, records, protocol, truthy):
    made = tmp_path / "made"
    evil = edited(records, lambda config: every(config, use_pickle=truthy), WEIGHTS)
    evil["data/weights/weight_0"] = pickled(made, protocol)
    refused(written(tmp_path, evil), made, "must name plain tensors, got use_pickle")


@pytest.mark.parametrize("protocol", range(6))
def test_example_inputs_that_hold_more_than_tensors_are_refused(tmp_path, records, protocol):
    made = tmp_path / "made"
    evil = records | {INPUTS: pickled(made, protocol)}
    refused(written(tmp_path, evil), made, "must be a readable exported file")


@pytest.mark.parametrize("name", ["opaque_obj_0", "custom_obj_0", "../../made", "weight_0"])
def test_constants_of_other_classes_are_refused(tmp_path, records, name):
    made = tmp_path / "made"
    entry = {"path_name": name, "is_param": False, "use_pickle": False, "tensor_meta": None}
    evil = edited(records, lambda config: config["config"].update(one=entry), CONSTANTS)
    refused(written(tmp_path, evil), made, "must name files tensor_")
    evil[f"data/constants/{name}"] = pickled(made, 4)
    refused(written(tmp_path, evil), made, "must hold a program of tensors, got 'model/data/const")


FOREIGN = """data/weights/model.pt data/constants/model.pt data/aotinductor/model/run.so version
models/other.json extra/more MODELS/model.json serialized_state_dict.pt""".split()


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_no_export_writes_are_refused(tmp_path, records, name):
    made = tmp_path / "made"
    evil = records | {name: pickled(made, 2)}
    refused(written(tmp_path, evil), made, f"must hold a program of tensors, got 'model/{name}'")


def code(made):
    return f"__import__('pathlib').Path({str(made)!r}).touch()"


def of_nodes(program):
    return program["graph_module"]["graph"]["nodes"]


def size(program, made):
    sizes = program["graph_module"]["graph"]["tensor_values"]["clips"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = f"Integer({code(made)} or 2)"


def text_of_a_size(program, made):
    sizes = program["graph_module"]["graph"]["tensor_values"]["clips"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = f"Add({code(made)!r}, Integer(2))"


def guard(program, made):
    program["guards_code"] = [f"{code(made)} or True"]


def operator(program, made):
    node = of_nodes(program)[0]
    node["target"] = "torch.os.system"
    node["inputs"] = [{"name": "command", "arg": {"as_string": f"touch {made}"}, "kind": 1}]


def module(program, made):
    of_nodes(program)[0]["target"] = "_operator.methodcaller"


def argument(program, made):
    call = program["graph_module"]["module_call_graph"][0]["signature"]
    call["forward_arg_names"] = [f"clips={code(made)}"]


def keyword_of_a_call(program, made):
    of_nodes(program)[0]["inputs"][0].update(name=f"self={code(made)},other", kind=2)


def name_of_a_parameter(program, made):
    specs = program["graph_module"]["signature"]["input_specs"]
    specs[0]["parameter"]["parameter_name"] = f'weight"+str({code(made)})+"'


def tree(program, made):
    call = program["graph_module"]["module_call_graph"][0]["signature"]
    call["in_spec"] = call["in_spec"].replace("builtins.dict", "collections.defaultdict")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (size, "a size must be an expression of sizes"),
        (text_of_a_size, "a size must be an expression of sizes"),
        (guard, "must have no guards_code"),
        (operator, "must hold operators of torch alone, got 'torch.os.system'"),
        (module, "must hold operators of torch alone"),
        (argument, "must be names"),
        (keyword_of_a_call, "name must be a plain name"),
        (name_of_a_parameter, "parameter_name must be a plain name"),
        (tree, "inputs must be nested in tuples alone"),
    ],
)
def test_programs_that_hold_python_are_refused(tmp_path, records, change, message):
    made = tmp_path / "made"
    evil = edited(records, lambda program: change(program, made))
    refused(written(tmp_path, evil), made, message)


def test_an_archive_with_two_files_of_a_name_is_refused(tmp_path, records):
    path = written(tmp_path, records)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"model/{WEIGHTS}", records[WEIGHTS])
    refused(path, tmp_path / "made", "must hold data/weights/model_weights_config.json once")


def test_a_compressed_archive_is_refused(tmp_path, records):
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"model/{PROGRAM}", records[PROGRAM])
    refused(path, tmp_path / "made", "got it compressed")
