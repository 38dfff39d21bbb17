import errno

import pytest

from trainables.contract.disk import disk_problem
from trainables.contract.errors import UserError


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left on device: runs/x"),
        (errno.EDQUOT, "Disk quota exceeded: runs/x"),
        (errno.EROFS, "Read-only file system: runs/x"),
        (errno.ENOENT, None),
        (errno.EACCES, None),
    ],
)
def test_errors_of_a_disk_that_takes_no_more(number, words):
    assert disk_problem(OSError(number, "said by the system", "runs/x")) == words


def test_an_error_that_came_of_a_full_disk_is_one():
    with pytest.raises(UserError) as caught:  # noqa: PT012
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise UserError("runs/x: must be a folder that can be written to") from error
    assert disk_problem(caught.value) == "No space left on device"
    assert disk_problem(UserError("anything else")) is None
