"""Objects at an address: the same in memory, in a folder and in a bucket."""

import pytest

from tests.trainables.remote.faulty import faulty_store
from trainables.remote.objects import Objects


@pytest.fixture(params=["memory", "file", "s3"])
def address(request, tmp_path):
    if request.param == "memory":
        with faulty_store() as (found, _):
            yield found
    elif request.param == "file":
        yield (tmp_path / "there").as_uri()
    else:
        yield f"{request.getfixturevalue('object_store').bucket()}/runs/a sweep"


def test_objects_are_written_listed_copied_and_removed(address, tmp_path):
    objects = Objects(address)
    assert (objects.list(), objects.top(), objects.has("a")) == ({}, {}, False)
    objects.write("a", b"first")
    before = objects.list()["a"]
    objects.write("a", b"again")
    after = objects.list()["a"]
    assert (before.size, after.size) == (5, 5)
    assert before.version != after.version
    objects.write("b/c/d.json", b"{}")
    objects.copy("b/c/d.json", "b/e")
    assert set(objects.list()) == {"a", "b/c/d.json", "b/e"}
    assert set(objects.list("b/c")) == set(objects.list("b/c/d.json")) == {"b/c/d.json"}
    assert set(objects.top()) == {"a", "b"}
    assert set(Objects(f"{address}/b").list()) == {"c/d.json", "e"}
    files = {name: tmp_path / "here" / name for name in objects.list()}
    objects.fetch(files)
    assert {name: path.read_bytes() for name, path in files.items()} == {
        "a": b"again",
        "b/c/d.json": b"{}",
        "b/e": b"{}",
    }
    objects.store({f"copy/{name}": path for name, path in files.items()})
    assert objects.read("copy/a") == b"again"
    objects.remove([*objects.list("copy"), "a", "never there"])
    assert set(objects.list()) == {"b/c/d.json", "b/e"}
    with pytest.raises(FileNotFoundError):
        objects.read("a")


def test_one_of_two_makes_an_object(address):
    objects = Objects(address)
    assert objects.make("lease", b"mine")
    assert not objects.make("lease", b"yours")
    assert objects.read("lease") == b"mine"


def test_what_is_half_written_in_a_folder_is_no_object(tmp_path):
    objects = Objects(tmp_path.as_uri())
    (tmp_path / ".a.0123abcd.partial").write_bytes(b"ha")
    assert objects.list() == objects.top() == {}


def test_a_file_that_cannot_be_read_is_not_begun(address, tmp_path):
    objects = Objects(address)
    objects.write("a", b"a")
    with pytest.raises(FileNotFoundError):
        objects.fetch({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("there", "a")] == []
