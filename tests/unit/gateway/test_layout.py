import json

import pytest

from weir.gateway import layout


def test_a_new_folder_is_claimed_and_claimed_again_by_the_same_engine(tmp_path):
    assert layout.claim(tmp_path, "26.9.2.1") == ""
    assert layout.claim(tmp_path, "26.9.2.1") == "26.9.2.1"
    assert layout.read(tmp_path) == {"layout": layout.LAYOUT, "engine": "26.9.2.1", "earlier": []}


def test_an_older_engines_folder_is_taken_over_and_then_refused_to_the_older_one(tmp_path):
    layout.claim(tmp_path, "26.7.3.1")
    assert layout.claim(tmp_path, "26.9.2.1") == "26.7.3.1"
    assert layout.read(tmp_path)["earlier"] == ["26.7.3.1"]
    with pytest.raises(RuntimeError, match=r"was opened by ClickHouse 26\.9\.2\.1, and this is 26\.7\.3\.1.*restore a backup"):
        layout.claim(tmp_path, "26.7.3.1")


def test_a_repair_release_may_be_taken_back(tmp_path):
    layout.claim(tmp_path, "26.9.3.4")
    assert layout.claim(tmp_path, "26.9.2.1") == "26.9.3.4"


def test_another_layout_is_refused(tmp_path):
    (tmp_path / layout.FILE).write_text(json.dumps({"layout": layout.LAYOUT + 1, "engine": "26.9.2.1"}))
    with pytest.raises(RuntimeError, match="layout 2, and this program knows layout 1"):
        layout.claim(tmp_path, "26.9.2.1")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"layout": 1}', '{"layout": "x", "engine": "26.9.2.1"}', '{"layout": 1, "engine": "new"}'])
def test_a_file_that_is_not_understood_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / layout.FILE).write_text(text)
    with pytest.raises(RuntimeError, match="is not understood"):
        layout.claim(tmp_path, "26.9.2.1")
