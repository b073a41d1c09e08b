import os

import pytest

from undrift.cli.outputs import assign, prepare, target


def same_name(below):
    return [below]


def png(below):
    return [below.with_suffix(".png")]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.jpg", "a/deep/y.jpg", "a/deep/.hidden.jpg", "b/x.jpg", "b/x.gif", "b/x.png", "c/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"not read here")
    (tmp_path / "empty").mkdir()
    return tmp_path


def plan(inputs, out, names=same_name):
    folder, _ = target(inputs, out)
    return {str(path): [str(file) for file in files] for path, files in assign(inputs, folder, names).items()}


def test_folders_keep_their_structure(tree):
    assert plan(["a"], "out") == {"a/x.jpg": ["out/x.jpg"], "a/deep/y.jpg": ["out/deep/y.jpg"]}
    assert plan(["a/deep/y.jpg", "c"], "out") == {"a/deep/y.jpg": ["out/y.jpg"], "c/z.png": ["out/z.png"]}


def test_equal_names_keep_the_folders_down_from_the_shared_one(tree):
    both = {"a/x.jpg": ["out/a/x.jpg"], "b/x.jpg": ["out/b/x.jpg"]}
    assert plan(["b/x.jpg", "a/x.jpg"], "out") == both
    assert plan(["a", "b/x.jpg"], "out") == both | {"a/deep/y.jpg": ["out/a/deep/y.jpg"]}


def test_a_photograph_given_twice_is_done_once(tree):
    os.symlink("x.jpg", tree / "a" / "link.jpg")
    assert list(plan(["a/x.jpg", "./a/x.jpg", str(tree / "a/x.jpg"), "a"], "out")) == ["a/deep/y.jpg", "a/x.jpg"]


def test_two_that_would_become_one_are_named_before_any_work(tree):
    with pytest.raises(ValueError, match=r"^b/x.gif and b/x.jpg would both become out/x.png: rename one"):
        plan(["b"], "out", png)


def test_output_of_an_earlier_run_inside_the_input_is_no_input(tree):
    assert list(plan(["a"], "a/deep")) == ["a/x.jpg"]
    (tree / "c" / "done").mkdir()
    (tree / "c" / "z.png").rename(tree / "c" / "done" / "z.png")
    with pytest.raises(ValueError, match=r"^no images in c but those below c/done, where the output goes$"):
        plan(["c"], "c/done")


@pytest.mark.parametrize(("inputs", "out"), [(["a"], "a"), (["a/x.jpg"], "a"), (["a/x.jpg"], "./b/../a/")])
def test_an_input_is_never_overwritten(tree, inputs, out):
    with pytest.raises(ValueError, match=r"x.jpg would overwrite the input .*a/.*jpg: give another -o|y.jpg would"):
        plan(inputs, out)


def test_nor_through_a_link(tree):
    os.symlink("a", tree / "elsewhere")
    with pytest.raises(ValueError, match="would overwrite the input"):
        plan(["a"], "elsewhere")


def test_out_is_a_file_for_one_photograph_only(tree):
    assert [str(part) for part in target(["a/x.jpg"], "d/new.png")] == ["d", "new.png"]
    assert target(["a/x.jpg"], "d/new.png/")[1] is None
    assert target(["a/x.jpg"], "new")[1] is None
    assert target(["a"], "run.2")[1] is None
    for inputs in (["a"], ["a/x.jpg", "b/x.jpg"]):
        with pytest.raises(ValueError, match=r"^new.png is the name of one picture: give a folder for more"):
            target(inputs, "new.png")
    with pytest.raises(ValueError, match=r"^new.gif: cannot write .gif: use one of .png"):
        target(["a/x.jpg"], "new.gif")


def test_unwritable_folders_are_found_beforehand(tree):
    (tree / "file").write_bytes(b"")
    (tree / "taken" / "x.jpg").mkdir(parents=True)
    for out in ("file", "file/deep", "/proc/nowhere", "taken"):
        line = "taken/x.jpg: there is a folder of that name" if out == "taken" else f"to the folder {out}:"
        with pytest.raises(OSError, match=f"^cannot write {line}"):
            prepare(assign(["a/x.jpg"], target(["a/x.jpg"], out)[0], same_name))
    prepare(assign(["a"], target(["a"], "new")[0], same_name))
    assert (tree / "new" / "deep").is_dir()
    assert not list((tree / "new").glob("*.*"))


def test_what_is_not_there(tree):
    with pytest.raises(FileNotFoundError, match=r"^no such file or folder: nowhere$"):
        plan(["nowhere"], "out")
    with pytest.raises(ValueError, match=r"^no images in empty; looked for"):
        plan(["a", "empty"], "out")
