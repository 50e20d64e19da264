"""Files are written whole or not at all, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnnsample.files import replacing, write_whole

OLD, NEW = "the old text\n", "the new text, with µ and\r\n line ends\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "record.json"
    file.write_text(OLD, encoding="utf-8")
    return file


def assert_untouched(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == OLD
    assert list(path.parent.iterdir()) == [path]


def test_text_is_written_as_it_is(path: Path) -> None:
    write_whole(path, NEW)
    assert path.read_bytes() == NEW.encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_new_file_appears(tmp_path: Path) -> None:
    write_whole(tmp_path / "new.txt", NEW)
    assert [p.name for p in tmp_path.iterdir()] == ["new.txt"]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_while_writing_leaves_the_old_file_and_no_partial_one(
    path: Path, error: type[BaseException]
) -> None:
    def write_half() -> None:
        with replacing(path) as partial:
            partial.write_text("half a t")
            assert path.read_text(encoding="utf-8") == OLD
            raise error

    with pytest.raises(error):
        write_half()
    assert_untouched(path)


def test_an_error_before_the_first_byte_is_not_hidden_by_the_clean_up(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(path):
        raise KeyboardInterrupt
    assert_untouched(path)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_write_whole_interrupted_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def write_half(self: Path, text: str, **_: object) -> int:
        with self.open("w", encoding="utf-8") as file:
            file.write(text[: len(text) // 2])
        raise error

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(error):
        write_whole(path, NEW)
    monkeypatch.undo()
    assert_untouched(path)


def test_text_that_cannot_be_encoded_leaves_the_old_file(path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "a lone surrogate: \udc80")
    assert_untouched(path)


def test_a_name_that_cannot_be_replaced_leaves_no_partial_file(tmp_path: Path) -> None:
    folder = tmp_path / "table.csv"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(folder, NEW)
    assert list(tmp_path.iterdir()) == [folder]
    assert folder.is_dir()


def test_the_partial_file_lies_in_the_same_folder_and_is_hidden(path: Path) -> None:
    # another folder could be another disk, where replacing is not atomic
    with replacing(path) as partial:
        partial.write_bytes(NEW.encode())
        assert partial.parent == path.parent
        assert partial != path
        assert partial.name.startswith(".")
    assert path.read_bytes() == NEW.encode()
