"""States on disk: torn, altered, or met by a full disk."""

import errno
import random
import warnings

import pytest
import torch

from undrift.training import files, state
from undrift.training.trouble import out_of_memory


def stored(folder, steps=(1, 2), keep=5):
    for step in steps:
        state.store(folder, step, {"weights": torch.full((1000,), float(step)), "recipe": "{}"}, keep)
    return sorted(folder.glob("step-*.pt"))


def test_what_was_stored_comes_back_and_the_last_few_are_kept(tmp_path):
    stored(tmp_path, range(5), keep=2)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["step-00000003.pt", "step-00000004.pt"]
    for mapped in (False, True):
        found = state.latest(tmp_path, mapped)
        assert found["step"] == 4
        assert found["weights"].eq(4).all()
    assert torch.load(tmp_path / "step-00000004.pt", weights_only=True)["recipe"] == "{}"  # any torch can read it


def test_any_byte_that_changes_and_any_cut_is_found_out(tmp_path):
    _, newest = stored(tmp_path)
    whole, choose = newest.read_bytes(), random.Random(0)
    spots = [choose.randrange(len(whole)) for _ in range(150)] + [0, *range(len(whole) - 105, len(whole))]
    for spot in spots:  # most of them in the weights, which no format checks, and every one of the end
        newest.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1 << choose.randrange(8)]) + whole[spot + 1 :])
        with pytest.warns(UserWarning, match="step-00000002.pt: damaged, passed over"):
            assert state.latest(tmp_path)["step"] == 1, spot
    for length in [0, 1, 21, 22, len(whole) - 1, *(choose.randrange(len(whole)) for _ in range(40))]:
        newest.write_bytes(whole[:length])
        with pytest.warns(UserWarning, match="damaged, passed over"):
            assert state.latest(tmp_path)["step"] == 1, length
    newest.write_bytes(whole)
    assert state.latest(tmp_path)["step"] == 2


def test_a_state_without_a_checksum_is_still_read(tmp_path):
    torch.save({"step": 7}, tmp_path / "step-00000007.pt")
    assert state.latest(tmp_path) == {"step": 7}


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_a_pickle_that_would_run_code_is_not_run(tmp_path):
    torch.save({"step": 1, "x": Evil()}, tmp_path / "step-00000001.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="none of the 1 states can be read"):
            state.latest(tmp_path)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    stored(tmp_path)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match=r"^cannot write .*step-00000003.pt: No space left on device$"):
            state.store(tmp_path, 3, {"weights": torch.zeros(10)}, keep=1)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["step-00000001.pt", "step-00000002.pt"]
    assert state.latest(tmp_path)["step"] == 2


def test_what_a_killed_process_left_is_swept(tmp_path):
    (tmp_path / ".step-00000003.pt.77.part").write_bytes(b"half")
    stored(tmp_path)
    files.sweep(tmp_path)
    files.sweep(tmp_path / "nowhere")
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["step-00000001.pt", "step-00000002.pt"]


def test_out_of_memory_is_known_in_all_its_shapes():
    assert out_of_memory(MemoryError())
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**55, dtype=torch.uint8)
    assert out_of_memory(raised.value)
    assert not out_of_memory(RuntimeError("shapes differ"))
